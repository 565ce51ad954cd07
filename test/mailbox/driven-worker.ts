/** The edge's worker, with a clock that a test sets ahead, and Mailboxes whose alarm it rings and whose storage it shows. */
import worker, { Mailbox as Real } from "../../src/edge/worker.ts";

export { Directory, Link, Meter, Tunnel } from "../../src/edge/worker.ts";
export default worker;

const real = Date.now.bind(Date);
let ahead = 0;
Date.now = () => real() + ahead;

export class Mailbox extends Real {
  /** Lets time pass for all objects, and does what the alarm would do then. */
  async elapse(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    await this.alarm();
  }

  /** Lets time pass for all objects; what the alarm of this one does is done if it is due. */
  async letPass(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    const due = await this.ctx.storage.getAlarm();
    if (due === null || due > Date.now()) return;
    await this.ctx.storage.deleteAlarm();
    await this.alarm();
  }

  async left(): Promise<{ readonly tables: number; readonly alarm: boolean }> {
    const tables = this.ctx.storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_%' ESCAPE '\\'");
    return { tables: tables.toArray().length, alarm: (await this.ctx.storage.getAlarm()) !== null };
  }
}
