/**
 * Whether this edge is about to stop, for an edge on a machine of its own. The `grooveway` command says so at
 * `/local/stop` before it ends the runtime, so that readers that wait get an answer. On Cloudflare nobody says it, and
 * this file has no effect: a deploy closes the doorbells, which readers notice.
 *
 * @module
 */
import { isCommand } from "./is-command.ts";

/**
 * Milliseconds within which readers are answered, each at a moment of its own: their clients come back at such moments
 * too. A person who stops an edge does not notice them.
 */
export const STOP_TIME = 400;

/** Milliseconds in which an answer leaves the machine, and how long a stop waits for answers at most. */
const LEAVING_TIME = 200;
const PATIENCE = 2000;

/** Milliseconds between two looks at whether all are answered. */
const LOOK = 20;

/** Those that wait, and after the call those that are not yet answered. The Worker is one isolate on such a machine. */
const waiting = new Map<object, () => void>();

let stops = false;

/**
 * Calls when the edge is about to stop; at once if it is already.
 *
 * @returns what says that nobody waits any more, because there is an answer
 */
export function whenStopping(call: () => void): () => void {
  const one = {};
  waiting.set(one, call);
  if (stops) call();
  return () => waiting.delete(one);
}

/**
 * Handles a request of the command, and answers when those that waited have been answered.
 *
 * @param secret the command's secret; undefined where no command runs this edge
 * @returns undefined if it is not from the command
 */
export async function hearOfStop(request: Request, secret: string | undefined): Promise<Response | undefined> {
  if (!(await isCommand(request, secret))) return undefined;
  stops = true;
  const until = Date.now() + PATIENCE;
  const are = waiting.size > 0;
  for (const call of [...waiting.values()]) call();
  while (waiting.size > 0 && Date.now() < until) await scheduler.wait(LOOK);
  if (are) await scheduler.wait(LEAVING_TIME);
  return new Response(null, { status: 204 });
}
