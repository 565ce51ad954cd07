/**
 * Reaching a mailbox only if it exists: to ask one that is not there would make it.
 *
 * @module
 */
import type { Env } from "../env.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";

/** A mailbox that is there. */
export async function mailboxAt(
  env: Pick<Env, "DIRECTORY" | "MAILBOX">,
  peer: string,
): Promise<ReturnType<Env["MAILBOX"]["getByName"]> | undefined> {
  const there = await env.DIRECTORY.getByName(DIRECTORY).has(peer);
  return there ? env.MAILBOX.getByName(peer) : undefined;
}
