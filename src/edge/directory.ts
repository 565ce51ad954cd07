/**
 * Directory: which mailboxes there are, for an operator's list. One object; each mailbox enters itself once, when it is
 * first used. Nothing depends on it: a mailbox works without.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "./env.ts";

/** The object's name. */
export const DIRECTORY = "directory";

export class Directory extends DurableObject<Env> {
  /** Enters a mailbox, by its peer's URL. */
  async enter(peer: string): Promise<void> {
    this.ctx.storage.kv.put(`mailbox:${peer}`, Date.now());
  }

  /** Whether a peer has a mailbox, without making one by asking it. */
  async has(peer: string): Promise<boolean> {
    return this.ctx.storage.kv.get(`mailbox:${peer}`) !== undefined;
  }

  /** Peers with a mailbox, in the order of their URLs, after one of them. */
  async list(after: string | undefined, limit: number): Promise<string[]> {
    const options = { prefix: "mailbox:", limit, ...(after !== undefined && { startAfter: `mailbox:${after}` }) };
    return [...this.ctx.storage.kv.list(options)].map(([key]) => key.slice("mailbox:".length));
  }
}
