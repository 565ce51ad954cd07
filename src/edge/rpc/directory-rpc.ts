/**
 * RPC interface of the Directory.
 *
 * @module
 */

/** Name of the only Directory object. */
export const DIRECTORY = "directory";

/** Some of the mailboxes whose URL contains a text. */
export interface Found {
  readonly peers: readonly string[];
  /** Where the search goes on; undefined if it has seen all. */
  readonly next: string | undefined;
}

/** The one object that knows which mailboxes exist, and which peers have inboxes. */
export interface DirectoryRpc extends Rpc.DurableObjectBranded {
  enter(peer: string, stamp: string): Promise<number>;
  keepUsed(number: number): Promise<void>;
  leave(peer: string, stamp?: string): Promise<void>;
  has(peer: string): Promise<boolean>;
  list(after: string | undefined, limit: number): Promise<string[]>;
  search(contains: string, after: string | undefined, limit: number): Promise<Found>;
  enterInboxes(peer: string): Promise<void>;
  leaveInboxes(peer: string): Promise<void>;
  hasInboxes(peer: string): Promise<boolean>;
  /** @param makes whether to make one if there is none */
  edgeKey(makes: boolean): Promise<Uint8Array | undefined>;
}
