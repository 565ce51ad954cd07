/** Names of relays, through a whole edge with a scripted resolver: nothing private is dialled. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTCPServer } from "node:net";
import { after, before, describe, it } from "node:test";
import { startLocalResolver } from "../../../src/cli/local-edge/dns-over-https.ts";
import type { LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import { type InspectedEdge, startInspectedEdge } from "../../support/inspected-edge.ts";
import { listen, type TestServer } from "../../support/sockets.ts";
import { PollingDevice } from "../polling-device.ts";
import { Device, devicesOf, type Kind, type TestEdge, TestRelay } from "../support.ts";

const PUBLIC = "63.209.254.7";
const PUBLIC_6 = "2606:4700::7";
const A = 1;
const CNAME = 5;
const AAAA = 28;

/** What the resolver answers for a name: a document for each type, or whatever the script does. */
type Script = { readonly A?: unknown; readonly AAAA?: unknown } | ((response: ServerResponse, type: string) => void);

function found(type: number, ...addresses: readonly unknown[]): unknown {
  return { Status: 0, TC: false, Answer: addresses.map((data) => ({ name: "relay", type, TTL: 1, data })) };
}

/** The only resolver: a scripted HTTP server. */
class Resolver {
  readonly asked: string[] = [];
  readonly #scripts = new Map<string, Script>();
  readonly #server: Server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/dns-query?ct=json`;
  }

  /** Names differ between tests, which run concurrently. */
  script(name: string, script: Script): string {
    this.#scripts.set(name, script);
    return name;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { searchParams } = new URL(request.url ?? "/", "http://resolver");
    const [name = "", type = ""] = [searchParams.get("name") ?? "", searchParams.get("type") ?? ""];
    this.asked.push(`${name} ${type}`);
    assert.equal(request.headers.accept, "application/dns-json");
    assert.equal(searchParams.get("ct"), "json", "the operator's query parameters are kept");
    const script = this.#scripts.get(name);
    if (typeof script === "function") script(response, type);
    else response.end(JSON.stringify((type === "A" ? script?.A : script?.AAAA) ?? { Status: 0 }));
  }
}

/** The parts of an edge needed here, and its log. */
interface Started {
  readonly edge: TestEdge;
  readonly log: readonly string[];
}

async function startEdge(options: Omit<LocalEdgeOptions, "port">): Promise<Started> {
  const log: string[] = [];
  // No tokens are required: this tests relays.
  const dev = [options.dev ?? "", "open"].join(" ").trim();
  const edge: InspectedEdge = await startInspectedEdge({ port: 0, log: (_, line) => log.push(line), ...options, dev });
  const port = Number(new URL(edge.url).port);
  const devices = devicesOf(port);
  const close = async () => {
    devices.close();
    await edge.close();
  };
  const none = (): never => assert.fail("these tests bring their own relays");
  return { edge: { port, edge, open: devices.open, closedRelay: "", relay: none, close }, log };
}

describe("names of relays", { concurrency: true }, () => {
  const resolver = new Resolver();
  const seen: string[] = [];
  let canary: TestServer;
  const relays: TestRelay[] = [];
  let production: Started;
  let development: Started;

  before(async () => {
    canary = await listen((socket) => {
      seen.push(`${socket.remoteAddress}`);
      socket.destroy();
    });
    for (let count = 0; count < 4; count += 1) {
      const relay: TestRelay = new TestRelay(await listen((socket) => relay.came(socket)));
      relays.push(relay);
    }
    const url = await resolver.start();
    const relayAllow = [
      `*.example.com:${canary.port}`,
      ...relays.map(({ server }) => `*.example.com:${server.port}`),
      "!63.209.254.9",
      "!127.0.0.9",
    ];
    production = await startEdge({ relayAllow, resolver: url });
    development = await startEdge({ relayAllow, resolver: url, dev: "private" });
  });
  after(async () => {
    await production.edge.close();
    await development.edge.close();
    await canary.close();
    for (const { server } of relays) await server.close();
    await resolver.close();
  });

  async function assertRefused(name: string, pair: string, reason: string, { edge } = production): Promise<void> {
    const device = new PollingDevice(edge, `${name}:${canary.port}`);
    assert.deepEqual(await device.exchange(""), [0, ""]);
    await device.assertRefused(device.next("hello"), pair, reason);
    assert.deepEqual(seen, [], "nothing on this machine is dialled");
  }

  const PRIVATE: Record<string, Script> = {
    loopback: { A: found(A, "127.0.0.1") },
    "loopback-6": { AAAA: found(AAAA, "::1") },
    mapped: { AAAA: found(AAAA, "::ffff:127.0.0.1") },
    "mapped-hex": { AAAA: found(AAAA, "::ffff:7f00:1") },
    compatible: { AAAA: found(AAAA, "::127.0.0.1") },
    translated: { AAAA: found(AAAA, "64:ff9b::7f00:1") },
    "six-to-four": { AAAA: found(AAAA, "2002:7f00:1::1") },
    unspecified: { A: found(A, "0.0.0.0") },
    "unspecified-6": { AAAA: found(AAAA, "::") },
    metadata: { A: found(A, "169.254.169.254") },
    "mixed-last": { A: found(A, PUBLIC, "127.0.0.1") },
    "mixed-first": { A: found(A, "127.0.0.1", PUBLIC) },
    "mixed-families": { A: found(A, PUBLIC), AAAA: found(AAAA, PUBLIC_6, "::1") },
    "mixed-families-4": { A: found(A, "10.0.0.1"), AAAA: found(AAAA, PUBLIC_6) },
    chain: {
      A: {
        Status: 0,
        Answer: [
          { name: "chain", type: CNAME, TTL: 1, data: "localhost." },
          { name: "localhost", type: A, TTL: 1, data: "127.0.0.1" },
        ],
      },
    },
    "after-many": { A: found(A, ...Array.from({ length: 200 }, () => PUBLIC), "127.0.0.1") },
  };
  for (const [label, script] of Object.entries(PRIVATE)) {
    it(`${label}: the connection is refused`, async () => {
      const name = resolver.script(`${label}.example.com`, script);
      await assertRefused(name, "403 Not Valid", "RelayPrivate");
      const line = production.log.find((text) => text.includes(name));
      assert(line?.includes("RelayPrivate"), "the log names the host");
    });
  }

  it("one denied address: refused, whether or not private destinations are allowed", async () => {
    const name = resolver.script("denied.example.com", { A: found(A, PUBLIC, "63.209.254.9") });
    await assertRefused(name, "403 Not Valid", "RelayNotAllowed");
    const here = resolver.script("denied-here.example.com", { A: found(A, "127.0.0.1", "127.0.0.9") });
    await assertRefused(here, "403 Not Valid", "RelayNotAllowed", development);
  });

  const document =
    (text: string, status = 200) =>
    (response: ServerResponse) =>
      response.writeHead(status).end(text);
  const UNRESOLVED: Record<string, Script> = {
    nothing: {},
    nxdomain: { A: { Status: 3 }, AAAA: { Status: 3 } },
    servfail: { A: { Status: 2 }, AAAA: { Status: 2 } },
    "servfail-with-answer": { A: { ...(found(A, "127.0.0.1") as object), Status: 2 } },
    "only-cname": { A: found(CNAME, "localhost.") },
    "other-family": { A: found(AAAA, "::1"), AAAA: found(A, "127.0.0.1") },
    spelled: { A: found(A, "127.1") },
    "spelled-hex": { A: found(A, "0x7f.0.0.1") },
    "a-name": { A: found(A, "localhost") },
    "with-port": { A: found(A, `127.0.0.1:1`) },
    bracketed: { AAAA: found(AAAA, "[::1]") },
    zone: { AAAA: found(AAAA, "fe80::1%1") },
    "public-and-garbage": { A: found(A, PUBLIC, "127.1") },
    "a-number": { A: found(A, 2130706433) },
    "null-data": { A: found(A, null) },
    "answer-text": { A: { Status: 0, Answer: "127.0.0.1" } },
    "answer-nulls": { A: { Status: 0, Answer: [null, 1, "127.0.0.1"] } },
    "status-text": { A: { ...(found(A, "127.0.0.1") as object), Status: "0" } },
    "no-status": { A: { Answer: [{ type: A, data: "127.0.0.1" }] } },
    "not-json": document("<html>"),
    null: document("null"),
    "a-list": document("[]"),
    empty: document(""),
    "status-500": document(JSON.stringify(found(A, "127.0.0.1")), 500),
    "status-204": document("", 204),
    redirect: (response) => response.writeHead(302, { Location: `http://127.0.0.1:${canary.port}/` }).end(),
    huge: (response) =>
      response.end(JSON.stringify({ ...(found(A, "127.0.0.1") as object), Comment: "x".repeat(1e6) })),
    endless: (response) => {
      const pour = () => {
        while (!response.destroyed && response.write("x".repeat(65536)));
      };
      response.on("drain", pour);
      pour();
    },
    cut: (response) => {
      response.writeHead(200, { "Content-Length": 1000 }).write("{");
      setTimeout(() => response.destroy(), 50);
    },
    reset: (response) => response.destroy(),
    silent: () => undefined,
    dripping: (response) => {
      const drip = setInterval(() => response.write(" "), 100);
      response.on("close", () => clearInterval(drip));
    },
  };
  for (const [label, script] of Object.entries(UNRESOLVED)) {
    it(`${label}: the name is not resolved`, async () => {
      const name = resolver.script(`${label}.example.com`, script);
      const started = performance.now();
      await assertRefused(name, "500 Internal Server Error", "DNSLookupFailed");
      assert(performance.now() - started < 12_000, "the device does not wait long");
      const line = production.log.find((text) => text.includes(`${name}:`));
      assert(line?.includes("DNSLookupFailed"));
    });
  }

  it("a name that is not on the list or is private by its form is never looked up", async () => {
    for (const [name, reason] of [
      [`relay.example.org:${canary.port}`, "RelayNotAllowed"],
      ["quiet.example.com:22", "RelayNotAllowed"],
      [`127.0.0.1:${canary.port}`, "RelayNotAllowed"],
      [`2130706433:${canary.port}`, "RelayNotAllowed"],
      [`localhost:${canary.port}`, "RelayNotAllowed"],
    ] as const) {
      const device = new PollingDevice(production.edge, name);
      await device.assertRefused(device.next("hello"), "403 Not Valid", reason);
      assert(!resolver.asked.some((text) => name.startsWith(`${text.split(" ")[0]}:`)), name);
    }
    assert.deepEqual(seen, []);
  });

  for (const kind of ["LongLived", "KeepAlive"] as Kind[]) {
    it(`${kind}: the device is told the reason`, async () => {
      const name = resolver.script(`told-${kind.toLowerCase()}.example.com`, { A: found(A, "127.0.0.1") });
      const device = new Device(production.edge, `${name}:${canary.port}`, kind);
      await device.sendGet();
      await device.known();
      await device.sendPost("GroovePing: 1.0,Ping\r\n");
      const answers = await Promise.all([device.get.head(), device.post.head()]);
      assert(answers.some(({ headers }) => /^grooveway-reason: RelayPrivate$/im.test(headers)));
      assert.deepEqual(seen, []);
      device.reset();
    });

    it(`${kind}: the checked address is dialled, after a single lookup`, async () => {
      const relay = relays[kind === "LongLived" ? 0 : 1] as TestRelay;
      const name = `once-${kind.toLowerCase()}.example.com`;
      let looks = 0;
      resolver.script(name, (response, type) => {
        if (type === "A") looks += 1;
        // A second lookup would lead to the canary's neighbour, where nothing listens.
        response.end(JSON.stringify(type === "A" ? found(A, looks === 1 ? "127.0.0.1" : "127.0.0.3") : { Status: 0 }));
      });
      const device = new Device(development.edge, `${name}:${relay.server.port}`, kind);
      await device.establish();
      await device.talk(await relay.next());
      assert.deepEqual(resolver.asked.filter((text) => text.startsWith(name)).sort(), [`${name} A`, `${name} AAAA`]);
      device.reset();
    });
  }

  it("the next address is dialled when one refuses", async () => {
    const name = resolver.script("second.example.com", { A: found(A, "127.0.0.2", "127.0.0.4", "127.0.0.1") });
    const relay = relays[2] as TestRelay;
    await new PollingDevice(development.edge, `${name}:${relay.server.port}`).establish(relay);
  });

  it("one family is enough when the other is not answered in time", async () => {
    const name = resolver.script("half.example.com", (response, type) => {
      if (type === "A") response.end(JSON.stringify(found(A, "127.0.0.1")));
    });
    const relay = relays[3] as TestRelay;
    await new PollingDevice(development.edge, `${name}:${relay.server.port}`).establish(relay);
  });

  it("no address answers: unreachable", async () => {
    const name = resolver.script("closed.example.com", { A: found(A, "127.0.0.2", "127.0.0.4") });
    await assertRefused(name, "500 Internal Server Error", "OriginUnreachable", development);
  });
});

describe("the canary", () => {
  it("would detect a connection", async () => {
    const resolver = new Resolver();
    let came: () => void = () => undefined;
    const connected = new Promise<void>((resolve) => {
      came = resolve;
    });
    const canary = await listen(() => came());
    const name = resolver.script("canary.example.com", { A: found(A, "127.0.0.1") });
    const relayAllow = [`${name}:${canary.port}`];
    const { edge } = await startEdge({ relayAllow, resolver: await resolver.start(), dev: "private" });
    const device = new PollingDevice(edge, `${name}:${canary.port}`);
    await device.exchange("");
    await device.send(device.next("hello"));
    await connected;
    await edge.close();
    await canary.close();
    await resolver.close();
  });
});

describe("the local edge", () => {
  it("resolves names as the machine does, and dials IPv4 and IPv6", async (t) => {
    const relay = new TestRelay(await listen((socket) => relay.came(socket)));
    const six = createTCPServer((socket) => relay.came(socket));
    const hasIPv6 = await new Promise<boolean>((resolve) => {
      six.once("error", () => resolve(false));
      six.listen(0, "::1", () => resolve(true));
    });
    const port6 = hasIPv6 ? (six.address() as AddressInfo).port : 1;
    const names = [`localhost:${relay.server.port}`, ...(hasIPv6 ? [`[::1]:${port6}`] : [])];
    const { edge } = await startEdge({ relayAllow: names, dev: "private" });
    t.after(async () => {
      await edge.close();
      await relay.server.close();
      six.close();
    });
    for (const name of names) {
      const origin = await new PollingDevice(edge, name).establish(relay);
      origin.reset();
    }
    if (!hasIPv6) t.diagnostic("this machine has no IPv6");
  });

  it("serves its resolver in JSON form, to this machine only", async () => {
    const resolver = await startLocalResolver();
    const ask = async (query: string, init: RequestInit = {}) => fetch(`${resolver.url}?${query}`, init);
    const answer = await (await ask("name=localhost&type=A")).json();
    assert.deepEqual(answer, { Status: 0, Answer: [{ name: "localhost", type: 1, TTL: 0, data: "127.0.0.1" }] });
    assert.deepEqual(await (await ask("name=localhost&type=MX")).json(), { Status: 4 });
    assert.deepEqual(await (await ask("name=localhost&type=constructor")).json(), { Status: 4 });
    const { Status } = (await (await ask("name=no.such.name.invalid&type=A")).json()) as { Status: number };
    assert([2, 3].includes(Status));
    assert.equal((await ask("name=localhost&type=A", { method: "POST" })).status, 403);
    const port = new URL(resolver.url).port;
    const device = await devicesOf(Number(port)).open();
    device.write(`GET /dns-query?name=localhost&type=A HTTP/1.1\r\nHost: evil.example.com:${port}\r\n\r\n`);
    assert.match((await device.head()).status, /^HTTP\/1\.1 403 /);
    device.reset();
    await resolver.close();
    await assert.rejects(ask("name=localhost&type=A"));
  });
});
