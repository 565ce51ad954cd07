/**
 * PUT /local/rest: the command is about to stop the edge of this machine. The edge admits nothing more, tells its devices when to come
 * back, which also answers their parked requests, and writes what it has counted. What devices have sent and was
 * acknowledged is on disk already.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { sendMetrics } from "../collector/send-metrics.ts";
import type { Env } from "../env.ts";
import { isCommand } from "../is-command.ts";
import { SHARDS } from "../metrics/limits.ts";
import { problem } from "../problem.ts";
import { collectorName } from "../rpc/collector-rpc.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { RETURN_SECONDS, STOP_AT_ONCE, STOP_CONNECTIONS, STOP_TIMEOUT } from "./limits.ts";

/** On a machine of its own, the Worker has one isolate. */
let stopping = false;

/** The answer to a request that comes too late; undefined while the edge goes on. */
export function refusedByStop(): Response | undefined {
  return stopping ? problem("EdgeStopping", undefined, RETURN_SECONDS) : undefined;
}

/** Handles the request of the command. */
export async function answerRest(request: Request, env: Env): Promise<Response> {
  if (!(await isCommand(request, env.LOCAL_SECRET))) return problem("NotFound");
  stopping = true;
  await within(STOP_TIMEOUT, restAll(env));
  await sendMetrics(env);
  return new Response(null, { status: 204 });
}

async function restAll(env: Env): Promise<void> {
  // A connection is listed a little after it has begun.
  await sendMetrics(env);
  const shards = Array.from({ length: SHARDS }, (_, shard) => env.COLLECTOR.getByName(collectorName(shard)));
  const names = (await Promise.all(shards.map((shard) => shard.connections(STOP_CONNECTIONS)))).flat();
  for (let at = 0; at < names.length; at += STOP_AT_ONCE) {
    const some = names.slice(at, at + STOP_AT_ONCE);
    await Promise.all(
      some.map((name) =>
        tunnelNamed(env, name)
          .rest(RETURN_SECONDS)
          .catch(() => undefined),
      ),
    );
  }
}
