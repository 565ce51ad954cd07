/**
 * HTTP answers for refusals: an RFC 9457 problem document, with the reason in headers too.
 *
 * @module
 */

import { CURE_HEADER, DETAIL_HEADER, REASON_HEADER, STATUS_PAIRS } from "../encapsulation/index.ts";
import { counters } from "./metrics/counters.ts";
import { type EdgeReasonRule, MORE_STATUSES, REASONS, type Reason } from "./reasons.ts";

const TITLES = { ...STATUS_PAIRS, ...MORE_STATUSES };

/**
 * Makes the answer of a refusal, and counts it: status, headers, and an RFC 9457 problem document as body.
 *
 * @param retryAfter in how many seconds another try may succeed
 */
export function problem(reason: Reason, detail?: string, retryAfter?: number): Response {
  counters.count("requestsRefused", reason);
  const rule: EdgeReasonRule = REASONS[reason];
  const status = rule.status === null || rule.status === 200 ? 404 : rule.status;
  const body = {
    type: "about:blank",
    title: TITLES[status],
    status,
    code: reason,
    detail: detail || rule.cause,
    cure: rule.cure,
  };
  return new Response(JSON.stringify(body), {
    status,
    statusText: TITLES[status],
    headers: {
      ...answerHeaders(),
      "Content-Type": "application/problem+json",
      [REASON_HEADER]: reason,
      [DETAIL_HEADER]: headerValue(body.detail),
      [CURE_HEADER]: headerValue(body.cure),
      ...(status === 401 && { "WWW-Authenticate": "Bearer" }),
      ...(retryAfter !== undefined && { "Retry-After": String(retryAfter) }),
    },
  });
}

/** Replaces what a header value must not contain. */
function headerValue(text: string): string {
  return text.replace(/[^ -~]+/g, "?");
}

/**
 * Headers of every encapsulation answer [MS-GRVHENC 2.2.1.3], and those that keep proxies from caching or changing it.
 */
export function answerHeaders(): Record<string, string> {
  return {
    Date: new Date().toUTCString(),
    Server: "Grooveway",
    Connection: "Keep-Alive",
    "Content-Type": "application/octet-stream",
    "Cache-Control": "no-store, no-transform",
  };
}
