/**
 * Directory: which mailboxes there are, for whoever only looks: to ask a mailbox that is not there would make it. One
 * object. A mailbox enters itself before it keeps anything, and leaves after it has deleted everything.
 *
 * It also keeps the highest number that any mailbox which has gone has used. A mailbox that is made again begins above it,
 * and above the time, so no number comes twice even if the clock is set back.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import type { DirectoryRpc } from "../rpc/directory-rpc.ts";

/** Where the highest number is kept; mailboxes stand under `mailbox:` and their peer's URL. */
const USED = "used";

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  /**
   * Enters a mailbox, by its peer's URL.
   *
   * @param stamp by which it will leave
   * @returns a number that no mailbox which has gone has gone beyond
   */
  async enter(peer: string, stamp: string): Promise<number> {
    this.ctx.storage.kv.put(`mailbox:${peer}`, stamp);
    return this.#used;
  }

  /** A mailbox that is about to go has used numbers up to this one. */
  async keepUsed(number: number): Promise<void> {
    if (number > this.#used) this.ctx.storage.kv.put(USED, number);
  }

  get #used(): number {
    return this.ctx.storage.kv.get<number>(USED) ?? 0;
  }

  /** A mailbox has gone. One that has entered again meanwhile stays, however late the news of the one before. */
  async leave(peer: string, stamp?: string): Promise<void> {
    const key = `mailbox:${peer}`;
    if (stamp === undefined || this.ctx.storage.kv.get(key) === stamp) this.ctx.storage.kv.delete(key);
  }

  /** Whether there is a mailbox. */
  async has(peer: string): Promise<boolean> {
    return this.ctx.storage.kv.get(`mailbox:${peer}`) !== undefined;
  }

  /** Peers with a mailbox, in the order of their URLs, after one of them. */
  async list(after: string | undefined, limit: number): Promise<string[]> {
    const options = { prefix: "mailbox:", limit, ...(after !== undefined && { startAfter: `mailbox:${after}` }) };
    return [...this.ctx.storage.kv.list(options)].map(([key]) => key.slice("mailbox:".length));
  }
}
