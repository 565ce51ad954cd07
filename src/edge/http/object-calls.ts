/**
 * Calls from the Worker to the objects of streams, mailboxes and inboxes, which a crash or a deploy can swallow.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { isWriteFailure, learnStorageFull, storageProblem } from "../disk-full.ts";
import { logError } from "../log.ts";
import { problem } from "../problem.ts";
import { BUSY_RETRY, OBJECT_TIMEOUT } from "./limits.ts";

/** An object has not answered in time. Whether it has done what it was asked, or still will, is not known. */
class ObjectTimeout extends Error {
  override readonly name = "ObjectTimeout";
}

/**
 * Returns what an object answers. Rejects if it takes too long: `answerToFailure` makes the answer of that, for all
 * routes.
 */
export async function answered<P extends Promise<unknown>>(call: P): Promise<Awaited<P>> {
  // Calls are typed as unions of promises, of which this makes one promise.
  const one = async (): Promise<Awaited<P>> => await call;
  const got = await within(OBJECT_TIMEOUT, one());
  if (got === undefined) throw new ObjectTimeout(`no answer within ${OBJECT_TIMEOUT} ms`);
  return got.value;
}

/**
 * The answer to a request for which an object did not answer, or could not write; undefined for any other error. An object
 * that cannot be opened on a failing disk has an error that says no more than that.
 */
export async function answerToFailure(error: unknown): Promise<Response | undefined> {
  if (error instanceof ObjectTimeout) return problem("StorageTimeout", undefined, BUSY_RETRY);
  const isFull = await learnStorageFull(error);
  const known = storageProblem();
  if (known === "StorageFailed") return problem(known);
  if (isFull) return problem("StorageFull");
  if (!isWriteFailure(error)) return undefined;
  logError(error);
  return problem("StorageFailed", "What keeps this mailbox, stream or inbox cannot be written to; others may be.");
}
