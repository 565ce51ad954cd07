/** The edge's worker, with Links whose time the test drives, and whose storage it may look into. */
import worker, { Link as Real } from "../../src/edge/worker.ts";

export { Directory, Mailbox, Meter, Tunnel } from "../../src/edge/worker.ts";
export default worker;

export class Link extends Real {
  #ahead = 0;

  protected override now(): number {
    return Date.now() + this.#ahead;
  }

  /** Lets time pass until the alarm is due, and further; what the alarm does is done then. */
  async pass(milliseconds: number): Promise<void> {
    this.#ahead += milliseconds;
    const due = await this.ctx.storage.getAlarm();
    if (due !== null && due <= this.now()) {
      await this.ctx.storage.deleteAlarm();
      await this.alarm();
    }
  }

  /** Writes a fact as another release may have. */
  async write(key: string, value: unknown): Promise<void> {
    this.ctx.storage.kv.put(key, value);
  }

  async left(): Promise<{ readonly keys: string[]; readonly alarm: boolean }> {
    return {
      keys: [...this.ctx.storage.kv.list()].map(([key]) => key),
      alarm: (await this.ctx.storage.getAlarm()) !== null,
    };
  }
}
