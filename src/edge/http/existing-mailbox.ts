/**
 * Reaches a mailbox only if it exists: a call to its object would create it.
 *
 * @module
 */
import type { Env } from "../env.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import { answered } from "./object-calls.ts";

/** The mailbox of a peer's URL; undefined if the Directory does not know it. */
export async function mailboxAt(
  env: Pick<Env, "DIRECTORY" | "MAILBOX">,
  peer: string,
): Promise<ReturnType<Env["MAILBOX"]["getByName"]> | undefined> {
  const there = await answered(env.DIRECTORY.getByName(DIRECTORY).has(peer));
  return there ? env.MAILBOX.getByName(peer) : undefined;
}
