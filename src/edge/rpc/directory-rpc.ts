/**
 * RPC interface of the Directory.
 *
 * @module
 */

/** Name of the only Directory object. */
export const DIRECTORY = "directory";

/** The one object that knows which mailboxes exist. */
export interface DirectoryRpc extends Rpc.DurableObjectBranded {
  enter(peer: string, stamp: string): Promise<number>;
  keepUsed(number: number): Promise<void>;
  leave(peer: string, stamp?: string): Promise<void>;
  has(peer: string): Promise<boolean>;
  list(after: string | undefined, limit: number): Promise<string[]>;
}
