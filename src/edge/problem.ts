/**
 * Refusals as answers: an RFC 9457 problem document, with the reason in its headers as well.
 *
 * @module
 */

import { CURE_HEADER, DETAIL_HEADER, REASON_HEADER, type ReasonRule, STATUS_PAIRS } from "../encapsulation/index.ts";
import { REASONS, type Reason } from "./reasons.ts";

/**
 * The status pair and headers of a refusal, and its RFC 9457 problem document as body.
 *
 * @param retryAfter in how many seconds another try may be worth it
 */
export function problem(reason: Reason, detail?: string, retryAfter?: number): Response {
  const rule: ReasonRule = REASONS[reason];
  const status = rule.status === null || rule.status === 200 ? 404 : rule.status;
  const body = {
    type: "about:blank",
    title: STATUS_PAIRS[status],
    status,
    code: reason,
    detail: detail || rule.cause,
    cure: rule.cure,
  };
  return new Response(JSON.stringify(body), {
    status,
    statusText: STATUS_PAIRS[status],
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

/** Text as a header may have it. */
function headerValue(text: string): string {
  return text.replace(/[^ -~]+/g, "?");
}

/** Headers of every answer on a tunnel [MS-GRVHENC 2.2.1.3], and what keeps proxies from holding or changing it. */
export function answerHeaders(): Record<string, string> {
  return {
    Date: new Date().toUTCString(),
    Server: "Grooveway",
    Connection: "Keep-Alive",
    "Content-Type": "application/octet-stream",
    "Cache-Control": "no-store, no-transform",
  };
}
