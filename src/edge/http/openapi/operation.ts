/**
 * Parts of which operations of the OpenAPI document are made.
 *
 * @module
 */
import { type DescribeRouteOptions, resolver } from "hono-openapi";
import * as v from "valibot";
import { type EdgeReasonRule, REASONS, type Reason } from "../../reasons.ts";
import { Problem } from "./schemas.ts";

/** One operation. Its path is that of its route, unless that is a wildcard. */
export interface Operation {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE";
  /** As Hono writes paths. Undefined for that of the route. */
  readonly path?: string;
  readonly description: DescribeRouteOptions;
}

type Responses = NonNullable<DescribeRouteOptions["responses"]>;
type Response = Responses[string];
type Parameter = NonNullable<DescribeRouteOptions["parameters"]>[number];
type Body = NonNullable<DescribeRouteOptions["requestBody"]>;
type Schema = Parameters<typeof resolver>[0];

/** What any request may be refused for. */
const ALWAYS: readonly Reason[] = [
  "MalformedHead",
  "WrongPrefix",
  "EdgeMisconfigured",
  "NewerSchema",
  "StorageFull",
  "StorageFailed",
  "StorageTimeout",
  "InternalError",
];

/** What a request with a token may be refused for. */
export const BY_TOKEN: readonly Reason[] = [
  "NoKeys",
  "KeysUnavailable",
  "TokenNeeded",
  "TokenInvalid",
  "TokenExpired",
  "TokenNotYetValid",
  "TokenRevoked",
  "WrongAudience",
  "ScopeMissing",
];

/** What those who ask for what may not exist may be refused for. */
export const BY_GATE: readonly Reason[] = ["TooManyLookups"];

/** What a page of another origin may be refused for. */
export const BY_ORIGIN: readonly Reason[] = ["OriginRefused"];

/** Why a body may be missing, and a long one besides. */
export const BY_BODY: readonly Reason[] = ["ReceiveTimeout", "BodyIncomplete"];
export const BY_LONG_BODY: readonly Reason[] = [...BY_BODY, "EdgeBusy"];

/** The answers of an operation: those given, and the problems that the reasons stand for. */
export function answers(given: Readonly<Record<number, Response>>, ...reasons: readonly Reason[]): Responses {
  return { ...refusals([...ALWAYS, ...reasons]), ...given };
}

/** The problems that reasons stand for, by status. */
function refusals(reasons: readonly Reason[]): Responses {
  const byStatus = Map.groupBy(new Set(reasons), statusOf);
  return Object.fromEntries([...byStatus].map(([status, codes]) => [status, refusal(codes)]));
}

function refusal(codes: readonly Reason[]): Response {
  return {
    description: codes.map((code) => `\`${code}\``).join(", "),
    headers: headersOf(["Grooveway-Reason"]),
    content: {
      "application/problem+json": {
        schema: resolver(v.intersect([Problem, v.object({ code: v.picklist(codes) })])),
      },
    },
  };
}

/** As `problem` of ../../problem.ts answers it. */
function statusOf(reason: Reason): number {
  const { status }: EdgeReasonRule = REASONS[reason];
  return status === null || status === 200 ? 404 : status;
}

/** An answer that is JSON. */
export function json(description: string, schema: Schema, headers: readonly string[] = []): Response {
  return { description, headers: headersOf(headers), content: { "application/json": { schema: resolver(schema) } } };
}

/** An answer without a body, or with one of any type. */
export function plain(description: string, headers: readonly string[] = [], types: readonly string[] = []): Response {
  return { description, headers: headersOf(headers), content: contentOf(types) };
}

function headersOf(names: readonly string[]) {
  return Object.fromEntries(names.map((name) => [name, { schema: { type: "string" } as const }]));
}

function contentOf(types: readonly string[]) {
  return Object.fromEntries(types.map((type) => [type, {}]));
}

/** A body of JSON. */
export function jsonBody(schema: Schema, required = true): Body {
  return { required, content: { "application/json": { schema: resolver(schema) } } };
}

/** A body of any type. */
export function anyBody(description: string, required: boolean): Body {
  return { description, required, content: { "*/*": {} } };
}

interface ParameterRules {
  readonly required?: boolean;
  readonly values?: readonly string[];
  readonly example?: string;
}

function parameter(where: string, name: string, description: string, rules: ParameterRules = {}): Parameter {
  const { values, example, required = where === "path" } = rules;
  const schema = { type: "string", ...(values !== undefined && { enum: [...values] }) } as const;
  return { in: where, name, description, required, schema, ...(example !== undefined && { example }) };
}

export const inPath = (name: string, description: string, example: string) =>
  parameter("path", name, description, { example });
export const inQuery = (name: string, description: string, rules?: ParameterRules) =>
  parameter("query", name, description, rules);
export const inHeader = (name: string, description: string, rules?: ParameterRules) =>
  parameter("header", name, description, rules);

/** How a request shows who it is: with a bearer token, a ticket, or neither. */
export type Security = NonNullable<DescribeRouteOptions["security"]>;
export const TOKEN: Security = [{ token: [] }];
export const TOKEN_OR_TICKET: Security = [{ token: [] }, { ticket: [] }];
export const ANYBODY: Security = [{}];
export const OPERATOR: Security = [{ operator: [] }, { token: [] }];

/** An address in a path. */
export const ADDRESS = inPath("address", "Address of a peer; the slash of a device's is written %2F.", "bob%2Flaptop");
