/**
 * Directory: lists the mailboxes that exist, because asking a mailbox that does not exist would create it. There is one
 * Directory object. A mailbox registers before it stores anything, and unregisters after it has deleted everything.
 *
 * It also keeps the highest number that any deleted mailbox has used. A mailbox that is created again starts above that
 * number and above the time, so no number is reused even if the clock is set back.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import type { DirectoryRpc } from "../rpc/directory-rpc.ts";

/** Key of the highest number. Mailboxes are stored under `mailbox:` and their peer's URL. */
const USED = "used";

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  /**
   * Registers a mailbox by its peer's URL.
   *
   * @param stamp the registration's id, which `leave` must name
   * @returns the highest number that a deleted mailbox has used
   */
  async enter(peer: string, stamp: string): Promise<number> {
    this.ctx.storage.kv.put(`mailbox:${peer}`, stamp);
    return this.#used;
  }

  /** Records the highest number that a mailbox has used, before it is deleted. */
  async keepUsed(number: number): Promise<void> {
    if (number > this.#used) this.ctx.storage.kv.put(USED, number);
  }

  get #used(): number {
    return this.ctx.storage.kv.get<number>(USED) ?? 0;
  }

  /** Unregisters a deleted mailbox. If the mailbox has registered again with another stamp, nothing changes. */
  async leave(peer: string, stamp?: string): Promise<void> {
    const key = `mailbox:${peer}`;
    if (stamp === undefined || this.ctx.storage.kv.get(key) === stamp) this.ctx.storage.kv.delete(key);
  }

  /** Whether a mailbox exists. */
  async has(peer: string): Promise<boolean> {
    return this.ctx.storage.kv.get(`mailbox:${peer}`) !== undefined;
  }

  /** Lists peers with a mailbox, ordered by URL, starting after `after`. */
  async list(after: string | undefined, limit: number): Promise<string[]> {
    const options = { prefix: "mailbox:", limit, ...(after !== undefined && { startAfter: `mailbox:${after}` }) };
    return [...this.ctx.storage.kv.list(options)].map(([key]) => key.slice("mailbox:".length));
  }
}
