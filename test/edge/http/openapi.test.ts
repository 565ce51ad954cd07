/** The OpenAPI document: valid, complete, and true of what the edge answers. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type AnySchema } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { Miniflare } from "miniflare";
import { openApiDocument } from "../../../src/edge/http/openapi/document.ts";
import { startWorker } from "../../support/worker.ts";
import { AUDIENCE, hs256, jwks } from "../issuer.ts";
import { bearer, target } from "../operator.ts";

interface Media {
  readonly schema?: AnySchema;
}

interface Operation {
  readonly operationId: string;
  readonly summary?: string;
  readonly tags: readonly string[];
  readonly security: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly description?: string }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>;
}

interface Document {
  readonly openapi: string;
  readonly tags: readonly { readonly name: string }[];
  readonly servers: readonly { readonly url: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly securitySchemes: Readonly<Record<string, unknown>> };
}

const ADMIN = "the operator's own token";

let edge: Miniflare;
let url: string;
let token: string;
let document: Document;
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);

before(async () => {
  const issuer = await hs256();
  const settings = { RELAY_NAME: AUDIENCE, KEYS: jwks(issuer), ADMIN_TOKEN: ADMIN, PREFIX: "/groove" };
  edge = await startWorker(settings);
  url = `${(await edge.ready).origin}/groove`;
  const scope = "connect receive send:* create:** read:** write:**";
  token = await issuer.issue({ address: "bob/pc", scope });
  const answer = await fetch(`${url}/openapi.json`);
  assert.equal(answer.status, 200, await (answer.ok ? "" : answer.text()));
  assert.equal(answer.headers.get("access-control-allow-origin"), "*");
  document = (await answer.json()) as Document;
  ajv.addSchema({ ...document, $id: "edge" });
});
after(() => edge.dispose());

function operations(): [string, Operation][] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [`${method} ${path}`, operation]),
  );
}

describe("the document", () => {
  it("is valid OpenAPI 3.1", async () => {
    assert.match(document.openapi, /^3\.1\./);
    assert.deepEqual(await new Validator().validate({ ...document }), { valid: true });
    assert.deepEqual(document.servers, [{ url: "/groove" }]);
  });

  it("describes each operation, its parameters and who may call it", () => {
    const ids = operations().map(([, { operationId }]) => operationId);
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(ids.length > 40, String(ids.length));
    const schemes = Object.keys(document.components.securitySchemes);
    const tags = document.tags.map(({ name }) => name);
    for (const [key, { summary, tags: used, security, parameters = [], responses }] of operations()) {
      assert.ok(summary, key);
      assert.ok(used.length === 1 && tags.includes(used[0] ?? ""), key);
      assert.ok(
        security.every((one) => Object.keys(one).every((name) => schemes.includes(name))),
        key,
      );
      const inPath = parameters.filter((one) => one.in === "path").map(({ name }) => name);
      assert.deepEqual(
        inPath,
        [...key.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
        key,
      );
      assert.ok(
        parameters.every(({ description }) => description),
        key,
      );
      assert.ok("500" in responses, key);
    }
  });

  it("is made of the routes: one without a description is an error, and so is one that is not there", async () => {
    const route = { method: "GET", path: "/new" };
    await assert.rejects(openApiDocument([route], "/"), /lacks the route GET \/new/);
    await assert.rejects(openApiDocument([], "/"), /routes that are none: GET \/,/);
  });
});

type Call = readonly [operation: string, path: string, options?: RequestInit, status?: number];

const json = { "Content-Type": "application/json" };
const text = { "Content-Type": "text/plain" };
const having = (headers: Record<string, string>, body?: BodyInit): RequestInit =>
  body === undefined ? { headers } : { headers, body };

/** One after another, as the state of the edge goes. */
const CALLS: readonly Call[] = [
  ["get /", "/"],
  ["get /health", "/health"],
  ["get /ready", "/ready"],
  ["get /openapi.json", "/openapi.json"],
  ["get /envelope.schema.json", "/envelope.schema.json"],
  ["put /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", having(text), 201],
  ["put /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", having(text), 200],
  ["put /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", having(json), 409],
  ["put /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/d", having({ "Stream-TTL": "x" }), 400],
  [
    "put /mailboxes/{space}/{collection}/{name}",
    "/mailboxes/a/b/d",
    having({ "Stream-Forked-From": "/mailboxes/a/b/none" }),
    404,
  ],
  ["post /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", having(text, "data"), 204],
  [
    "post /mailboxes/{space}/{collection}/{name}",
    "/mailboxes/a/b/c",
    having({ ...text, "Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0" }, "x"),
    200,
  ],
  [
    "post /mailboxes/{space}/{collection}/{name}",
    "/mailboxes/a/b/c",
    having({ ...text, "Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "7" }, "x"),
    409,
  ],
  ["post /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", having(text), 400],
  ["post /mailboxes/{space}/{collection}/{name}", "/mailboxes/a//c", having(text, "x"), 400],
  ["get /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c?offset=-1"],
  ["get /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c?offset=-1&live=sse"],
  ["get /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c?live=x", {}, 400],
  ["get /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/none", {}, 404],
  ["get /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c?ticket=x", { headers: { Authorization: "" } }, 401],
  ["head /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c"],
  ["post /tickets", "/tickets", having(json, '{"mailbox":"a/b/c"}'), 201],
  ["post /tickets", "/tickets", having(json, "{}"), 400],
  ["delete /mailboxes/{space}/{collection}/{name}", "/mailboxes/a/b/c", {}, 204],
  ["post /send/{address}", "/send/bob%2Fpc", having({ ...text, "Idempotency-Key": "1" }, "hello")],
  ["post /send/{address}", "/send/bob%2Fpc?token=x", having(text, "hello"), 400],
  ["post /send/{address}", "/send/bob%2Fpc", { ...having(text, "hello"), headers: { Authorization: "" } }, 401],
  ["post /mailboxes/{address}", "/mailboxes/bob%2Fpc", having(json, "[1]"), 204],
  ["post /mailboxes/{address}", "/mailboxes/bob%2Fpc", having(json, "{"), 400],
  ["get /mailboxes/{address}", "/mailboxes/bob%2Fpc?offset=-1"],
  ["get /mailboxes/{address}", "/mailboxes/alice?offset=-1", {}, 403],
  ["head /mailboxes/{address}", "/mailboxes/bob%2Fpc"],
  ["put /mailboxes/{address}", "/mailboxes/bob%2Fpc", having(json)],
  ["get /mailboxes/{address}/rule", "/mailboxes/bob%2Fpc/rule"],
  ["put /mailboxes/{address}/rule", "/mailboxes/bob%2Fpc/rule", having(json, '{"senders":"alice"}')],
  ["put /mailboxes/{address}/rule", "/mailboxes/bob%2Fpc/rule", having(json, "[]"), 400],
  ["get /mailboxes/{address}/room", "/mailboxes/carol/room?from=bob/pc"],
  ["get /mailboxes/{address}/room", "/mailboxes/carol/room", {}, 400],
  ["delete /mailboxes/{address}/messages", "/mailboxes/carol/messages?from=bob/pc&id=x"],
  ["delete /mailboxes/{address}", "/mailboxes/bob%2Fpc", {}, 204],
  ["post /inboxes/{address}", "/inboxes/bob%2Fpc", having(json, '{"verify":"github","secret":"0123456789abcdef"}')],
  ["post /inboxes/{address}", "/inboxes/bob%2Fpc", having(json, '{"verify":"github"}'), 400],
  [
    "post /inboxes/{address}/{name}/secret",
    "/inboxes/bob%2Fpc/github/secret",
    having(json, '{"secret":"fedcba9876543210"}'),
  ],
  ["post /inboxes/{address}/{name}/url", "/inboxes/bob%2Fpc/github/url", {}],
  ["post /inboxes/{address}/{name}/url", "/inboxes/bob%2Fpc/none/url", {}, 404],
  ["get /inboxes/{address}", "/inboxes/bob%2Fpc"],
  ["get /inboxes/{address}/failed", "/inboxes/bob%2Fpc/failed"],
  ["post /inboxes/{address}/failed/replay", "/inboxes/bob%2Fpc/failed/replay"],
  ["delete /inboxes/{address}/failed", "/inboxes/bob%2Fpc/failed"],
  ["delete /inboxes/{address}/{name}", "/inboxes/bob%2Fpc/github"],
  ["post /in/{capability}", "/in/none", having(text, "x"), 404],
  ["get /metrics", "/metrics"],
  ["get /metrics", "/metrics", { headers: { Authorization: "" } }, 401],
  ["get /admin/metrics", "/admin/metrics"],
  ["get /admin/mailboxes", "/admin/mailboxes"],
  ["get /admin/mailboxes", "/admin/mailboxes", { headers: { Authorization: "" } }, 401],
  ["get /admin/mailboxes/{address}", "/admin/mailboxes/bob%2Fpc"],
  ["get /admin/mailboxes/{address}", "/admin/mailboxes/a%2Fb%2Fc", {}, 400],
  ["put /admin/mailboxes/{address}/lock", "/admin/mailboxes/bob%2Fpc/lock"],
  ["delete /admin/mailboxes/{address}/lock", "/admin/mailboxes/bob%2Fpc/lock"],
  ["get /admin/mailboxes/{address}/rule", "/admin/mailboxes/bob%2Fpc/rule"],
  ["delete /admin/mailboxes/{address}", "/admin/mailboxes/bob%2Fpc"],
  ["get /admin/links/{relay}", "/admin/links/relay.example.com", {}, 403],
  ["get /admin/inboxes/{address}", "/admin/inboxes/bob%2Fpc"],
  ["get /2.0/{relay}/{connection}", target("WebSocket"), {}, 400],
  ["post /2.0/{relay}/{connection}", target("KeepAlive"), having({}, "no echo"), 404],
  ["post /", "/", having({}, "no poll"), 400],
];

describe("what the edge answers", () => {
  for (const [key, path, options = {}, status = 200] of CALLS) {
    it(`is as the document says: ${key} ${status} ${path}`, async () => {
      const [method = "", route = ""] = key.split(" ");
      const isOperators = path.startsWith("/admin") || path === "/metrics";
      const given = (options.headers ?? {}) as Record<string, string>;
      const headers = { ...bearer(isOperators ? ADMIN : token), ...given };
      const { Authorization, ...without } = headers;
      const answer = await fetch(url + path, {
        ...options,
        method: method.toUpperCase(),
        headers: Authorization === "" ? without : headers,
        redirect: "manual",
      });
      const type = (answer.headers.get("content-type") ?? "").split(";")[0] ?? "";
      const isEvents = type === "text/event-stream";
      const body = isEvents ? "" : await answer.text();
      if (isEvents) await answer.body?.cancel();
      assert.equal(answer.status, status, body);
      const documented = document.paths[route]?.[method]?.responses[String(status)];
      assert.ok(documented, "the status is not in the document");
      if (method === "head" || (body === "" && !isEvents)) return;
      const media = documented.content?.[type] ?? documented.content?.["*/*"];
      assert.ok(media, `the type ${type} is not in the document`);
      if (media.schema === undefined) return;
      const steps = ["paths", route, method, "responses", String(status), "content", type, "schema"];
      const pointer = steps
        .map((step) => encodeURIComponent(step.replaceAll("~", "~0").replaceAll("/", "~1")))
        .join("/");
      const matches = ajv.compile({ $ref: `edge#/${pointer}` });
      assert.ok(matches(JSON.parse(body)), `${JSON.stringify(matches.errors)} ${body}`);
    });
  }

  it("was asked of each operation, but for those that need what this edge has not", () => {
    const asked = new Set(CALLS.map(([key]) => key));
    const others = operations().flatMap(([key]) => (asked.has(key) ? [] : [key]));
    const samePath = (key: string) => key.startsWith("get /admin/inboxes") || key.includes(" /admin/inboxes/");
    const rest = others.filter((key) => !samePath(key) && !/^(put|patch|delete) \/in\//.test(key));
    assert.deepEqual(rest, [
      "put /admin/mailboxes/{address}/rule",
      "post /admin/links/{relay}/renew",
      "post /inboxes/{address}/failed",
    ]);
  });
});
