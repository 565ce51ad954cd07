/**
 * What the edge says in its log: one line of JSON each.
 *
 * @module
 */

/** Something went wrong in here that should not have: an operator has to hear of it. */
export function report(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ reason: "InternalError", message }));
}
