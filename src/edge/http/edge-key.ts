/**
 * The key with which this edge makes the capabilities of inboxes. The directory keeps it, and a Worker asks once: it
 * never changes.
 *
 * @module
 */
import type { Env } from "../env.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import { NO_KEY_TIME } from "./limits.ts";

let known: Uint8Array | undefined;
/** When the directory had none, in milliseconds since 1970. */
let missedAt = Number.NEGATIVE_INFINITY;

/** The key; undefined if this edge has never made an inbox. */
export async function edgeKey({ DIRECTORY: directory }: Pick<Env, "DIRECTORY">): Promise<Uint8Array | undefined> {
  // Guesses at an edge without inboxes must not keep the directory busy. The clock may be set back.
  if (known === undefined && Math.abs(Date.now() - missedAt) >= NO_KEY_TIME) {
    known = await directory.getByName(DIRECTORY).edgeKey(false);
    if (known === undefined) missedAt = Date.now();
  }
  return known;
}

/** The key, which is made if there is none. */
export async function madeEdgeKey({ DIRECTORY: directory }: Pick<Env, "DIRECTORY">): Promise<Uint8Array> {
  const key = known ?? (await directory.getByName(DIRECTORY).edgeKey(true));
  if (key === undefined) throw new Error("the directory has made no key");
  known = key;
  return key;
}
