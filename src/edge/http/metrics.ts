/**
 * GET /metrics: what the edge has counted, for Prometheus. It needs a token with the scope `metrics`, so that a scraper
 * does not hold the admin token; that of an operator does as well.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { readMetrics } from "../collector/read-metrics.ts";
import { sendMetrics } from "../collector/send-metrics.ts";
import type { Env } from "../env.ts";
import { CONTENT_TYPES, exposition, formatFor } from "../metrics/exposition.ts";
import { SEND_TIMEOUT } from "../metrics/limits.ts";
import { problem } from "../problem.ts";
import { admitOperator } from "./authorize.ts";
import { readiness } from "./ready.ts";

/** GET /admin/metrics: the same counts, and /ready, as JSON: for `grooveway top`. */
export async function answerCounts(request: Request, env: Env): Promise<Response> {
  const admitted = await admitOperator(request, env, ["admin", "metrics"]);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  await within(SEND_TIMEOUT, sendMetrics(env));
  const [reading, ready] = await Promise.all([readMetrics(env), readiness(env)]);
  return reading === undefined ? problem("MetricsUnavailable") : Response.json({ ...reading, readiness: ready });
}

export async function answerMetrics(request: Request, env: Env): Promise<Response> {
  const admitted = await admitOperator(request, env, ["admin", "metrics"]);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  // Of other isolates it is at most 15 s old.
  await within(SEND_TIMEOUT, sendMetrics(env));
  const reading = await readMetrics(env);
  if (reading === undefined) return problem("MetricsUnavailable");
  const format = formatFor(request.headers.get("Accept"));
  return new Response(exposition(reading, format), {
    headers: { "Content-Type": CONTENT_TYPES[format], "Cache-Control": "no-store", Vary: "Accept" },
  });
}
