/**
 * The OpenAPI 3.1 document of the edge, made of its routes. It is loaded and made when it is asked for first: most edges
 * are never asked.
 *
 * Each route has its operations here, or is named as one without; a route that is in neither list is an error, and so is
 * an entry without a route. So the document and the routes cannot come apart.
 *
 * @module
 */
import { type Handler, Hono } from "hono";
import type { RouterRoute } from "hono/types";
import { describeRoute, generateSpecs } from "hono-openapi";
import * as device from "./device-operations.ts";
import { owned, posts } from "./inbox-operations.ts";
import { BY_TOKEN, OPERATOR, type Operation, TOKEN } from "./operation.ts";
import { BY_OPERATOR, operators } from "./operator-operations.ts";
import { mailboxes, room, rule, schema, sending, tickets, withdrawal } from "./stream-operations.ts";

type Routes = readonly Pick<RouterRoute, "method" | "path">[];

const ownersRule = rule(TOKEN, false, BY_TOKEN);
const operatorsRule = rule(OPERATOR, true, BY_OPERATOR);

/** Operations by route. */
const OPERATIONS: Readonly<Record<string, readonly Operation[]>> = {
  "GET /": device.landing,
  "GET /health": device.health,
  "GET /ready": device.ready,
  "GET /openapi.json": device.document,
  "ALL /mailboxes/*": mailboxes,
  "POST /send/*": sending,
  "POST /tickets": tickets,
  "GET /envelope.schema.json": schema,
  "GET /mailboxes/:address/rule": ownersRule.get,
  "PUT /mailboxes/:address/rule": ownersRule.set,
  "GET /mailboxes/:address/room": room,
  "DELETE /mailboxes/:address/messages": withdrawal,
  "ALL /in/*": posts,
  ...owned("/inboxes", { security: TOKEN, refused: BY_TOKEN, operator: false }),
  ...operators,
  "GET /admin/mailboxes/:address/rule": operatorsRule.get,
  "PUT /admin/mailboxes/:address/rule": operatorsRule.set,
  ...owned("/admin/inboxes", { security: OPERATOR, refused: BY_OPERATOR, operator: true }),
  "POST /": device.polling,
  "GET /:version{[0-9]+\\.[0-9]+}/*": device.down,
  "POST /:version{[0-9]+\\.[0-9]+}/*": device.up,
};

/** Routes that are no operations: what browsers ask before one, what admits to others, pages, and the edge's own. */
const WITHOUT = new Set([
  "OPTIONS /",
  "OPTIONS /:version{[0-9]+\\.[0-9]+}/*",
  "ALL /:version{[0-9]+\\.[0-9]+}/*",
  "OPTIONS /send/*",
  "OPTIONS /tickets",
  "ALL /admin/*",
  "GET /status",
  "POST /status",
  "GET /status/*",
  "POST /status/*",
  "PUT /local/disk",
  "PUT /local/files",
  "PUT /local/stop",
  "PUT /local/rest",
  "ALL /*",
]);

/** Schemes by which a request shows who it is. */
const SCHEMES = {
  token: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description: "A token of the operator, with the scopes that the operation needs.",
  },
  operator: { type: "http", scheme: "bearer", description: "The edge's admin token." },
  ticket: {
    type: "apiKey",
    in: "query",
    name: "ticket",
    description: "Stands for a token, for reading one stream or mailbox. See /tickets.",
  },
} as const;

const INFO = {
  title: "Grooveway",
  version: "1",
  license: { name: "MIT", identifier: "MIT" },
  description:
    "An edge that carries peers through firewalls. Streams and mailboxes speak the Durable Streams protocol, " +
    "https://github.com/durable-streams/durable-streams; virtual connections speak [MS-GRVHENC] and [MS-GRVSSTP]. " +
    "Refusals are problem documents [RFC 9457] with a stable `code`.",
};

const TAGS = [
  { name: "Streams", description: "Logs at a URL, which belong to no peer." },
  { name: "Mailboxes", description: "What waits for a device or identity, as a stream of envelopes." },
  { name: "Inboxes", description: "URLs for webhooks, whose requests wait for their owner." },
  { name: "Devices", description: "Virtual connections, as the library and the command open them." },
  { name: "Operators", description: "For those with the admin token or the scope admin." },
  { name: "Edge", description: "What an edge says of itself." },
];

/**
 * Makes the document.
 *
 * @param routes of the edge, as Hono has them
 * @param server path under which the edge stands: / or its prefix
 * @throws if a route has no operations here, or operations have no route
 */
export async function openApiDocument(routes: Routes, server: string): Promise<object> {
  const documented = new Hono();
  const unused = new Set(Object.keys(OPERATIONS));
  for (const { method, path } of routes) {
    const key = `${method} ${path}`;
    unused.delete(key);
    const operations = OPERATIONS[key] ?? [];
    if (operations.length === 0 && !WITHOUT.has(key)) throw new Error(`the OpenAPI document lacks the route ${key}`);
    for (const operation of operations) {
      documented.on(operation.method, operation.path ?? path, describeRoute(operation.description), nothing);
    }
  }
  if (unused.size > 0) throw new Error(`the OpenAPI document has routes that are none: ${[...unused].join(", ")}`);
  return generateSpecs(documented, {
    documentation: { info: INFO, servers: [{ url: server }], tags: TAGS, components: { securitySchemes: SCHEMES } },
    excludeStaticFile: false,
  });
}

const nothing: Handler = (c) => c.body(null);

let made: Promise<object> | undefined;

/** Answers a request for the document. */
export async function answerDocument(routes: Routes, server: string): Promise<Response> {
  made ??= openApiDocument(routes, server);
  return Response.json(await made, {
    headers: { "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*" },
  });
}
