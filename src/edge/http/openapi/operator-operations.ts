/**
 * Operations of the operators' API.
 *
 * @module
 */
import type { DescribeRouteOptions } from "hono-openapi";
import type { Reason } from "../../reasons.ts";
import {
  ADDRESS,
  answers,
  BY_GATE,
  BY_TOKEN,
  inPath,
  inQuery,
  json,
  OPERATOR,
  type Operation,
  plain,
} from "./operation.ts";
import { Counts, Link, Mailbox, Mailboxes } from "./schemas.ts";

/** What those who are no operators are refused for. */
export const BY_OPERATOR: readonly Reason[] = ["NotFound", "AdminTokenNeeded", ...BY_TOKEN];

const RELAY = inPath("relay", "Host name of an origin relay, with its port if need be.", "relay.example.com");

/** The status of one mailbox, as answer to what was done to it. */
const MAILBOX = { 200: json("Status of the mailbox, as it is now.", Mailbox) };
const LINK = { 200: json("Status of the link.", Link) };

const OF_MAILBOX: readonly Reason[] = [...BY_OPERATOR, ...BY_GATE, "MalformedAddress"];
const OF_LINK: readonly Reason[] = [
  ...BY_OPERATOR,
  "RelayNotAllowed",
  "RelayPrivate",
  "MalformedRelay",
  "DNSLookupFailed",
];

function operation(
  method: Operation["method"],
  operationId: string,
  summary: string,
  rest: Pick<DescribeRouteOptions, "parameters" | "responses">,
): readonly Operation[] {
  return [{ method, description: { tags: ["Operators"], operationId, summary, security: OPERATOR, ...rest } }];
}

const ofMailbox = { parameters: [ADDRESS], responses: answers(MAILBOX, ...OF_MAILBOX) };
const ofLink = { parameters: [RELAY], responses: answers(LINK, ...OF_LINK) };

export const operators: Readonly<Record<string, readonly Operation[]>> = {
  "GET /metrics": operation("GET", "getMetrics", "What the edge has counted, for Prometheus", {
    responses: answers(
      { 200: plain("Every series.", [], ["text/plain", "application/openmetrics-text"]) },
      ...BY_OPERATOR,
      "MetricsUnavailable",
    ),
  }),
  "GET /admin/metrics": operation("GET", "getCounts", "What the edge has counted, as JSON", {
    responses: answers({ 200: json("Counts and readiness.", Counts) }, ...BY_OPERATOR, "MetricsUnavailable"),
  }),
  "GET /admin/mailboxes": operation("GET", "listMailboxes", "List mailboxes, a page at a time", {
    parameters: [inQuery("after", "URL of the last peer of the page before.")],
    responses: answers({ 200: json("Status of each mailbox.", Mailboxes) }, ...BY_OPERATOR),
  }),
  "GET /admin/mailboxes/:address": operation("GET", "getMailbox", "Status of a mailbox", ofMailbox),
  "DELETE /admin/mailboxes/:address": operation("DELETE", "purgeMailbox", "Remove what waits in a mailbox", ofMailbox),
  "PUT /admin/mailboxes/:address/lock": operation("PUT", "lockMailbox", "Shut out all senders", ofMailbox),
  "DELETE /admin/mailboxes/:address/lock": operation("DELETE", "unlockMailbox", "Admit senders again", ofMailbox),
  "GET /admin/links/:relay": operation("GET", "getLink", "Status of the link to an origin relay", ofLink),
  "POST /admin/links/:relay/renew": operation("POST", "renewLink", "Replace the connection to an origin relay", ofLink),
};
