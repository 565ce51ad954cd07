/**
 * Operations of inboxes: what others post, and what their owners do.
 *
 * @module
 */
import type { DescribeRouteOptions } from "hono-openapi";
import type { Reason } from "../../reasons.ts";
import {
  ADDRESS,
  ANYBODY,
  answers,
  anyBody,
  BY_BODY,
  BY_GATE,
  BY_LONG_BODY,
  inPath,
  inQuery,
  json,
  jsonBody,
  type Operation,
  plain,
  type Security,
} from "./operation.ts";
import {
  ChangedInbox,
  Discarded,
  Failed,
  Inboxes,
  NewInbox,
  NewSecret,
  Numbers,
  Removed,
  Replayed,
  SetAsideDone,
} from "./schemas.ts";

/** Operations of `/in/*`. */
export const posts: readonly Operation[] = (["POST", "PUT", "PATCH", "DELETE"] as const).map((method) => ({
  method,
  path: "/in/:capability",
  description: {
    tags: ["Inboxes"],
    operationId: `${method.toLowerCase()}ToInbox`,
    summary: "Leave a request for the owner of an inbox. A path and a query may follow",
    security: ANYBODY,
    parameters: [inPath("capability", "What `grooveway inbox create` has printed after /in/.", "vFq…")],
    requestBody: anyBody("Anything; its signature is checked as the inbox says.", false),
    responses: answers(
      {
        200: plain("It is stored, or a challenge is answered.", [], ["text/plain", "application/json"]),
        202: plain("It is stored, or what the owner has chosen instead of 202.", [], ["text/plain"]),
      },
      ...BY_GATE,
      ...BY_LONG_BODY,
      "UnknownInbox",
      "SignatureMissing",
      "SignatureWrong",
      "SignatureNotCurrent",
      "InboxBusy",
      "InboxFull",
      "RequestTooLong",
      "HeadTooLong",
    ),
  },
}));

const NAME = inPath("name", "Name of the inbox.", "github");

/** Paths below that of a family, with what its owner does there. */
interface Owned {
  readonly id: string;
  readonly description: Omit<DescribeRouteOptions, "tags" | "security" | "operationId" | "responses" | "parameters">;
  readonly parameters: NonNullable<DescribeRouteOptions["parameters"]>;
  readonly given: Parameters<typeof answers>[0];
  readonly reasons?: readonly Reason[];
}

const CHANGES: readonly Reason[] = ["MalformedInbox", "UnknownInbox"];

const OWNED: Readonly<Record<string, Owned>> = {
  "GET /:address": {
    id: "listInboxes",
    description: { summary: "List the inboxes of an address" },
    parameters: [ADDRESS],
    given: { 200: json("The inboxes.", Inboxes) },
  },
  "POST /:address": {
    id: "createInbox",
    description: { summary: "Make an inbox", requestBody: jsonBody(NewInbox) },
    parameters: [ADDRESS],
    given: { 200: json("The inbox, and the path of its URL.", ChangedInbox) },
    reasons: ["MalformedInbox", "InboxExists", "TooManyInboxes", "StorageFull", ...BY_BODY],
  },
  "GET /:address/failed": {
    id: "listFailed",
    description: { summary: "List requests that were set aside" },
    parameters: [ADDRESS, inQuery("after", "Number of the last one of the page before.")],
    given: { 200: json("The requests.", Failed) },
    reasons: ["MalformedInbox"],
  },
  "POST /:address/failed": {
    id: "setAside",
    description: {
      summary: "Set aside a request that could not be handled",
      requestBody: anyBody("The message, as it was received.", true),
    },
    parameters: [
      ADDRESS,
      inQuery("inbox", "Name of its inbox.", { required: true }),
      inQuery("id", "Id of its message.", { required: true }),
      inQuery("reason", "Why it is set aside, in one word.", { required: true }),
      inQuery("detail", "The same in more words."),
      inQuery("tries", "How often it was tried."),
    ],
    given: { 200: json("It is set aside.", SetAsideDone) },
    reasons: ["MalformedInbox", "RequestTooLong", "SetAsideFull", "UnknownInbox", ...BY_LONG_BODY],
  },
  "DELETE /:address/failed": {
    id: "discardFailed",
    description: { summary: "Remove requests that were set aside", requestBody: jsonBody(Numbers, false) },
    parameters: [ADDRESS],
    given: { 200: json("They were removed.", Discarded) },
    reasons: ["MalformedInbox", ...BY_BODY],
  },
  "POST /:address/failed/replay": {
    id: "replayFailed",
    description: {
      summary: "Put requests that were set aside back into the mailbox",
      requestBody: jsonBody(Numbers, false),
    },
    parameters: [ADDRESS],
    given: { 200: json("They wait again.", Replayed) },
    reasons: ["MalformedInbox", "InboxFull", "InboxBusy", ...BY_BODY],
  },
  "DELETE /:address/:name": {
    id: "removeInbox",
    description: { summary: "Remove an inbox" },
    parameters: [ADDRESS, NAME],
    given: { 200: json("It was removed.", Removed) },
    reasons: ["UnknownInbox"],
  },
  "POST /:address/:name/secret": {
    id: "setInboxSecret",
    description: { summary: "Give an inbox another secret", requestBody: jsonBody(NewSecret) },
    parameters: [ADDRESS, NAME],
    given: { 200: json("The inbox.", ChangedInbox) },
    reasons: [...CHANGES, ...BY_BODY],
  },
  "POST /:address/:name/url": {
    id: "setInboxUrl",
    description: { summary: "Give an inbox another URL" },
    parameters: [ADDRESS, NAME],
    given: { 200: json("The inbox, and the path of its URL.", ChangedInbox) },
    reasons: CHANGES,
  },
};

/**
 * Operations of the owner's API to inboxes, by method and path.
 *
 * @param base the path of the API
 * @param refused what those who may not are refused for
 */
export function owned(
  base: string,
  { security, refused, operator }: { security: Security; refused: readonly Reason[]; operator: boolean },
): Record<string, readonly Operation[]> {
  return Object.fromEntries(
    Object.entries(OWNED).map(([key, { id, description, parameters, given, reasons = [] }]) => {
      const [method = "", path = ""] = key.split(" ");
      const whole: DescribeRouteOptions = {
        ...description,
        tags: [operator ? "Operators" : "Inboxes"],
        operationId: operator ? `${id}AsOperator` : id,
        security,
        parameters,
        responses: answers(given, ...refused, ...BY_GATE, "MalformedAddress", ...reasons),
      };
      return [`${method} ${base}${path}`, [{ method: method as Operation["method"], description: whole }]];
    }),
  );
}
