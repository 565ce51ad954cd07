/** Edges that require tokens, their clients, and a record of everything said, for tests. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { WebSocket } from "ws";
import type { LocalEdgeOptions } from "../../src/cli/local-edge/local-edge.ts";
import { Device, type DeviceOptions } from "../../src/device/index.ts";
import { ECHO_TEXT } from "../../src/encapsulation/index.ts";
import { type InspectedEdge, startInspectedEdge } from "../support/inspected-edge.ts";
import { AUDIENCE, type Claims, type Issuer, jwks } from "./issuer.ts";
import { newGuid } from "./support.ts";

/** Everything that the edges of a test file have logged and answered, to search for secrets. */
export const said: string[] = [];
/** All tokens issued. */
const tokens: string[] = [];

export async function issued(issuer: Issuer, claims: Claims = {}): Promise<string> {
  const token = await issuer.issue(claims);
  tokens.push(token);
  return token;
}

/** An operator's server for the key set and the revoked tokens. */
export interface Operator {
  /** The settings of an edge that uses it. */
  readonly settings: Pick<LocalEdgeOptions, "keysURL" | "revokedURL">;
  serve(...issuers: readonly Issuer[]): void;
  revoke(id: string): void;
  /** From now on answers after this many milliseconds, and with an error while it fails. */
  slow(milliseconds: number): void;
  fail(failing: boolean): void;
  /** How often it was requested. */
  readonly asked: number;
  close(): void;
}

export async function startOperator(...issuers: readonly Issuer[]): Promise<Operator> {
  let served = jwks(...issuers);
  const revoked: string[] = [];
  let [delay, failing, asked] = [0, false, 0];
  const server = createServer((request, response) => {
    asked += 1;
    setTimeout(() => {
      if (failing) response.writeHead(503);
      response.end(request.url === "/keys" ? served : JSON.stringify(revoked));
    }, delay);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    settings: { keysURL: `${base}/keys`, revokedURL: `${base}/revoked` },
    serve(...others) {
      served = jwks(...others);
    },
    revoke: (id) => revoked.push(id),
    slow(milliseconds) {
      delay = milliseconds;
    },
    fail(now) {
      failing = now;
    },
    get asked() {
      return asked;
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

export function startAsking(options: Partial<LocalEdgeOptions>): Promise<InspectedEdge> {
  const log = (level: string, line: string) => said.push(`${level} ${line}`);
  return startInspectedEdge({ port: 0, relayAllow: [], dev: "private", ...options, log });
}

export async function deviceAt(
  t: TestContext,
  edge: Pick<InspectedEdge, "url">,
  options: Partial<DeviceOptions>,
): Promise<Device> {
  const device = await Device.connect({ edge: edge.url, address: "alice/laptop", ...options });
  t.after(() => device.close());
  return device;
}

/** The reason of a refusal, or "ok"; the whole answer is recorded. */
export async function refusal(answer: Response): Promise<string> {
  const text = await answer.text();
  said.push(JSON.stringify([...answer.headers]), text);
  if (answer.status === 200) return "ok";
  const { code, status } = JSON.parse(text);
  assert.equal(status, answer.status);
  assert.equal(answer.headers.get("grooveway-reason"), code);
  if (answer.status === 401) assert.equal(answer.headers.get("www-authenticate"), "Bearer");
  return code;
}

export function target(kind: "KeepAlive" | "LongLived" | "WebSocket", relay = AUDIENCE, guid = newGuid()): string {
  return `/2.0/${relay}/${guid},ConnType=${kind}${kind === "LongLived" ? ",ContentLength=65536" : ""}`;
}

/** A KeepAlive POST with the echo string: the first request of a virtual connection. */
export async function knockAt(
  edge: Pick<InspectedEdge, "url">,
  path: string,
  headers: Record<string, string>,
): Promise<string> {
  return refusal(await fetch(`${edge.url}${path}`, { method: "POST", body: ECHO_TEXT, headers }));
}

/** The reason why a WebSocket is refused, or "ok". */
export function upgrade(
  edge: Pick<InspectedEdge, "url">,
  path: string,
  headers: Record<string, string>,
): Promise<string> {
  const socket = new WebSocket(edge.url.replace("http", "ws") + path, { headers });
  return new Promise((resolve, reject) => {
    socket.on("open", () => {
      socket.terminate();
      resolve("ok");
    });
    socket.on("unexpected-response", (_request, response) => {
      said.push(JSON.stringify(response.headers));
      resolve(String(response.headers["grooveway-reason"]));
      socket.terminate();
    });
    socket.on("error", reject);
  });
}

export function bearer(token: string): Record<string, string> {
  return { Authorization: `Bearer ${token}` };
}

/** Asserts that nothing recorded contains a token, its signature or claims, a key, or another secret. */
export function assertSecretsKept(...secrets: readonly (string | Issuer)[]): void {
  const kept = [
    ...tokens.flatMap((token) => token.split(".").slice(1)),
    ...secrets.flatMap((secret) => {
      if (typeof secret === "string") return [secret];
      const { x, d, k } = secret.privateJwk;
      return [x, d, k].filter((part) => part !== undefined);
    }),
  ].filter((secret) => secret.length > 8);
  assert(tokens.length > 0 && said.length > 0, "there were secrets and records to search");
  const all = said.join("\n");
  for (const secret of kept) assert(!all.includes(secret), `${secret.slice(0, 8)}... was said`);
}
