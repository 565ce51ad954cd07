/**
 * Directory: which mailboxes there are, for whoever only looks: to ask a mailbox that is not there would make it. One
 * object. A mailbox enters itself before it keeps anything, and leaves after it has deleted everything.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "./env.ts";

/** The object's name. */
export const DIRECTORY = "directory";

export class Directory extends DurableObject<Env> {
  /**
   * Enters a mailbox, by its peer's URL.
   *
   * @param stamp by which it will leave
   */
  async enter(peer: string, stamp: string): Promise<void> {
    this.ctx.storage.kv.put(`mailbox:${peer}`, stamp);
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

/** A mailbox that is there. */
export async function mailboxAt(
  env: Pick<Env, "DIRECTORY" | "MAILBOX">,
  peer: string,
): Promise<ReturnType<Env["MAILBOX"]["getByName"]> | undefined> {
  const there = await env.DIRECTORY.getByName(DIRECTORY).has(peer);
  return there ? env.MAILBOX.getByName(peer) : undefined;
}
