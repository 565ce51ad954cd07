/**
 * Directory: lists the mailboxes that exist, because asking a mailbox that does not exist would create it. There is one
 * Directory object. A mailbox registers before it stores anything, and unregisters after it has deleted everything.
 *
 * It also keeps the highest number that any deleted mailbox has used. A mailbox that is created again starts above that
 * number and above the time, so no number is reused even if the clock is set back.
 *
 * It lists the peers that have inboxes in the same way, and keeps the key with which this edge makes the capabilities of
 * inboxes: the one thing that all Workers must agree on.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import type { DirectoryRpc, Found } from "../rpc/directory-rpc.ts";
import { searchText } from "../rpc/search-text.ts";

/** Key of the highest number. Mailboxes are stored under `mailbox:` and their peer's URL. */
const USED = "used";

/** Key of the edge's own key, and its length in bytes: that of the hash it is used with. */
const EDGE_KEY = "edge-key";
const EDGE_KEY_OCTETS = 32;

/** Names that one search looks at: some 10 ms, in which no mailbox can be entered. */
const SEARCHED = 10_000;

/** Milliseconds for which registrations gather. A busy edge is late with its timers, and gathers more. */
const GATHER = 1;

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  /** Registrations that are not written yet, by their keys, and their write. */
  readonly #entering = new Map<string, string>();
  #written: Promise<void> | undefined;

  /**
   * Registers a mailbox by its peer's URL. Those that register at the same moment are written together, since a write
   * costs an fsync: a device that connects for the first time has two mailboxes, and others connect with it.
   *
   * @param stamp the registration's id, which `leave` must name
   * @returns the highest number that a deleted mailbox has used
   */
  async enter(peer: string, stamp: string): Promise<number> {
    this.#entering.set(`mailbox:${peer}`, stamp);
    this.#written ??= scheduler.wait(GATHER).then(() => this.#write());
    await this.#written;
    return this.#used;
  }

  #write(): void {
    const all = [...this.#entering];
    this.#entering.clear();
    this.#written = undefined;
    for (const [key, stamp] of all) this.ctx.storage.kv.put(key, stamp);
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
    if (stamp === undefined || this.#entering.get(key) === stamp) this.#entering.delete(key);
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

  /**
   * Lists peers with a mailbox whose URL contains a text, in upper or lower case, ordered by URL. It looks at
   * {@link SEARCHED} of them at most.
   */
  async search(contains: string, after: string | undefined, limit: number): Promise<Found> {
    const wanted = searchText(contains);
    const peers: string[] = [];
    let last: string | undefined;
    for (const peer of await this.list(after, SEARCHED)) {
      if (peers.length === limit) return { peers, next: last };
      last = peer;
      if (searchText(peer).includes(wanted)) peers.push(peer);
    }
    const more = last !== undefined && (await this.list(last, 1)).length > 0;
    return { peers, next: more ? last : undefined };
  }

  /** Registers the object that has the inboxes of a peer. */
  async enterInboxes(peer: string): Promise<void> {
    this.ctx.storage.kv.put(`inboxes:${peer}`, true);
  }

  /** Unregisters it, once it has deleted everything. */
  async leaveInboxes(peer: string): Promise<void> {
    this.ctx.storage.kv.delete(`inboxes:${peer}`);
  }

  async hasInboxes(peer: string): Promise<boolean> {
    return this.ctx.storage.kv.get(`inboxes:${peer}`) !== undefined;
  }

  /** The key of this edge: 32 random bytes, which never change. */
  async edgeKey(makes: boolean): Promise<Uint8Array | undefined> {
    const kept = this.ctx.storage.kv.get<Uint8Array>(EDGE_KEY);
    if (kept !== undefined || !makes) return kept;
    const key = crypto.getRandomValues(new Uint8Array(EDGE_KEY_OCTETS));
    this.ctx.storage.kv.put(EDGE_KEY, key);
    return key;
  }
}
