/** What the doctor says about networks: the device's own transports against scripted firewalls, over real sockets. */
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device, type DiagnoseOptions, type Diagnosis, diagnose, Proxies } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";
import { ed25519, type Issuer, jwks } from "../edge/issuer.ts";
import { authority } from "../support/certificates.ts";
import { bufferingProxy, captivePortal, silentPort, thinLine } from "../support/firewalls.ts";
import { Obstacle } from "../support/obstacle.ts";
import { httpProxy, socksProxy } from "../support/proxies.ts";
import { listen } from "../support/sockets.ts";

/** Long enough for a way that works on a busy machine. Only a way that is silent takes as long. */
const TIMEOUT = 8000;

const DIRECT = { system: async () => undefined, env: {} };

function examine(options: Partial<DiagnoseOptions>, proxy?: string): Promise<Diagnosis> {
  const proxies = new Proxies({ ...DIRECT, proxy });
  return diagnose({ address: "alice/laptop", timeout: TIMEOUT, proxies, ...options });
}

/** The words for each transport. A machine that is busy may make a way slow, which is not what these tests are about. */
function statuses({ ways }: Diagnosis): Record<string, string> {
  return Object.fromEntries(
    ways.map(({ way, verdict: { status } }) => [way.transport, status === "slow" ? "works" : status]),
  );
}

function all(status: string): Record<string, string> {
  return { websocket: status, longlived: status, keepalive: status, polling: status };
}

function finding({ findings }: Diagnosis, check: string) {
  return findings.find((one) => one.check === check);
}

/** What has to be changed for a transport. */
function need({ ways }: Diagnosis, transport: string): string {
  return ways.find(({ way }) => way.transport === transport)?.verdict.need ?? "";
}

describe("the doctor at an edge by http", { concurrency: 4 }, () => {
  let edge: LocalEdge;
  let port = 0;

  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "1", adminToken: "operator" });
    port = Number(new URL(edge.url).port);
  });

  after(() => edge.close());

  test("finds that everything works on an open network, and measures it", async () => {
    const seen = await examine({ edge: edge.url });
    assert.deepEqual(statuses(seen), all("works"));
    for (const { roundTrip, rate } of seen.ways) assert.ok((roundTrip ?? 0) > 0 && (rate ?? 0) > 0);
    assert.notEqual(seen.recommended, undefined);
    assert.equal(finding(seen, "clock")?.outcome, "ok");
    assert.equal(finding(seen, "edge")?.outcome, "ok");
  });

  test("finds a line that carries little, also if it takes too long to measure", async (t) => {
    const line = await thinLine(t, port);
    const seen = await examine({ edge: `http://127.0.0.1:${line}`, timeout: 3000 });
    assert.deepEqual(
      seen.ways.map(({ verdict }) => verdict.status),
      ["slow", "slow", "slow", "slow"],
    );
    for (const { rate = 0 } of seen.ways) assert.ok(rate < 64 * 1024);
  });

  test("finds a firewall that refuses WebSocket", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstacle.treat = (carried) => (carried === "websocket" ? "refuse" : "pass");
    const seen = await examine({ edge: obstacle.url });
    assert.deepEqual(statuses(seen), { ...all("works"), websocket: "blocked" });
    assert.match(need(seen, "websocket"), /^let GET with Upgrade: websocket to 127\.0\.0\.1:\d+ pass$/);
    assert.equal(seen.recommended?.way.transport === "websocket", false);
  });

  test("finds a firewall that holds WebSocket, and lets nothing of LongLived through", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstacle.treat = (carried) => {
      if (carried === "websocket") return "hold";
      return carried.startsWith("longlived") ? "buffer" : "pass";
    };
    const seen = await examine({ edge: obstacle.url });
    assert.deepEqual(statuses(seen), { ...all("works"), websocket: "blocked", longlived: "buffered" });
  });

  test("finds a proxy that buffers, and removes Upgrade", async (t) => {
    const seen = await examine({ edge: `http://127.0.0.1:${await bufferingProxy(t, port)}` });
    assert.deepEqual(statuses(seen), { ...all("works"), websocket: "blocked", longlived: "buffered" });
    assert.match(need(seen, "longlived"), /turn off buffering of requests and answers/);
    assert.match(seen.ways.find(({ way }) => way.transport === "websocket")?.verdict.why ?? "", /removes .* Upgrade/);
  });

  test("finds a login page", async (t) => {
    const page = await examine({ edge: `http://127.0.0.1:${await captivePortal(t, { page: "Welcome" })}` });
    const redirect = "http://portal.example.com/login?session=1";
    const moved = await examine({ edge: `http://127.0.0.1:${await captivePortal(t, { page: "x", redirect })}` });
    for (const seen of [page, moved]) {
      assert.deepEqual(statuses(seen), all("blocked"));
      assert.equal(finding(seen, "portal")?.outcome, "failed");
      assert.equal(seen.recommended, undefined);
    }
    assert.match(finding(moved, "portal")?.text ?? "", /a redirect to portal\.example\.com answers/);
  });

  test("finds a port that is closed, and one that is silent", async (t) => {
    const gone = await listen(() => undefined);
    await gone.close();
    const closed = await examine({ edge: `http://127.0.0.1:${gone.port}` });
    assert.deepEqual(statuses(closed), all("blocked"));
    assert.match(need(closed, "polling"), new RegExp(`^let TCP to 127\\.0\\.0\\.1:${gone.port} out`));
    const silent = await examine({ edge: `http://127.0.0.1:${await silentPort(t)}`, timeout: 1000 });
    assert.deepEqual(statuses(silent), all("blocked"));
  });

  test("finds a proxy that requires a password, and one that refuses it", async (t) => {
    const proxy = await httpProxy(t, { schemes: ["Basic"] });
    const without = await examine({ edge: edge.url }, `http://127.0.0.1:${proxy.port}`);
    assert.deepEqual(statuses(without), all("needs authentication"));
    const wrong = await examine({ edge: edge.url }, `http://alice:wrong@127.0.0.1:${proxy.port}`);
    assert.deepEqual(statuses(wrong), all("needs authentication"));
    assert.equal(proxy.wrong(), 1);
    const right = await examine({ edge: edge.url }, `http://alice:secret@127.0.0.1:${proxy.port}`);
    assert.deepEqual(statuses(right), all("works"));
    assert.equal(proxy.wrong(), 1);
  });

  test("finds a proxy that refuses CONNECT, where requests with absolute targets pass", async (t) => {
    const proxy = await httpProxy(t, { refusesConnect: 403 });
    const seen = await examine({ edge: edge.url }, `http://127.0.0.1:${proxy.port}`);
    assert.deepEqual(statuses(seen), { ...all("works"), websocket: "blocked" });
    assert.match(need(seen, "websocket"), /^allow the method CONNECT to 127\.0\.0\.1:\d+ in the proxy http:/);
    const rates = seen.ways.filter(({ way }) => way.transport !== "websocket").map(({ rate = 0 }) => rate > 0);
    assert.deepEqual(rates, [true, true, true], "the edge is asked by forwarded requests");
  });

  test("finds the way past a proxy that is gone, and through SOCKS", async (t) => {
    const gone = await httpProxy(t);
    await gone.close();
    const env = { HTTP_PROXY: `http://127.0.0.1:${gone.port}` };
    const loopbackHasNone = await examine({ edge: edge.url, proxies: new Proxies({ ...DIRECT, env }) });
    assert.deepEqual(statuses(loopbackHasNone), all("works"));
    const forced = await examine({ edge: edge.url }, env.HTTP_PROXY);
    assert.deepEqual(statuses(forced), all("blocked"));
    const socks = await socksProxy(t);
    const through = await examine({ edge: edge.url }, `socks5://127.0.0.1:${socks.port}`);
    assert.deepEqual(statuses(through), all("works"));
  });

  test("tries a relay by SSTP", async (t) => {
    const relay = await startRelay({ port: 0, host: "127.0.0.1", names: ["127.0.0.1"] });
    t.after(() => relay.close());
    const seen = await examine({ relay: `127.0.0.1:${relay.port}` });
    assert.deepEqual(statuses(seen), { tcp: "works", tls: "blocked" });
  });
});

describe("the doctor at an edge by https", { concurrency: 4 }, () => {
  const ours = authority();
  let edge: LocalEdge;

  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "1", tls: ours });
  });

  after(() => edge.close());

  test("names an authority that nobody trusts: inspection, or the edge's own", async () => {
    const seen = await examine({ edge: edge.url });
    assert.deepEqual(statuses(seen), all("inspected"));
    assert.equal(seen.recommended, undefined);
    assert.match(seen.ways[0]?.verdict.why ?? "", /"test authority"/);
    assert.equal(finding(seen, "tls")?.outcome, "failed");
  });

  test("takes an authority that is given for the edge's own", async () => {
    const seen = await examine({ edge: edge.url, ca: ours.ca });
    assert.deepEqual(statuses(seen), all("works"));
    assert.match(finding(seen, "tls")?.text ?? "", /from "test authority".*given with --ca/);
  });

  test("goes through a proxy by CONNECT, and names one that refuses it", async (t) => {
    const open = await httpProxy(t);
    assert.deepEqual(
      statuses(await examine({ edge: edge.url, ca: ours.ca }, `http://127.0.0.1:${open.port}`)),
      all("works"),
    );
    const closed = await httpProxy(t, { refuses: 403 });
    const seen = await examine({ edge: edge.url, ca: ours.ca }, `http://127.0.0.1:${closed.port}`);
    assert.deepEqual(statuses(seen), all("blocked"));
    assert.match(need(seen, "polling"), /^allow the method CONNECT to/);
  });

  test("finds a port that has no TLS", async (t: TestContext) => {
    const server = await listen((socket) => socket.end("SSH-2.0-none\r\n"));
    t.after(() => server.close());
    const seen = await examine({ edge: `https://127.0.0.1:${server.port}` });
    assert.deepEqual(statuses(seen), all("blocked"));
    assert.match(need(seen, "websocket"), /^let TLS to 127\.0\.0\.1:\d+ through/);
  });
});

describe("the doctor with a token", { concurrency: 2 }, () => {
  const ours = authority();
  let edge: LocalEdge;
  let issuer: Issuer;
  const past = Math.floor(Date.now() / 1000) - 3600;

  before(async () => {
    issuer = await ed25519();
    edge = await startLocalEdge({ port: 0, relayAllow: [], keys: jwks(issuer), revoked: ["gone"], tls: ours });
  });

  after(() => edge.close());

  const judged = async (token: string | undefined) => {
    const seen = await examine({ edge: edge.url, ca: ours.ca, token });
    assert.deepEqual(statuses(seen), all("works"));
    return { seen, text: `${finding(seen, "token")?.outcome}: ${finding(seen, "token")?.text}` };
  };

  test("finds the ways without one, and measures no rate", async () => {
    const { seen, text } = await judged(undefined);
    assert.equal(text, "unknown: none is given");
    assert.ok(seen.ways.every(({ rate }) => rate === undefined));
  });

  test("measures rates with a token for several devices of the user", async () => {
    const { seen, text } = await judged(await issuer.issue({ address: "alice/*" }));
    assert.match(text, /^ok: the edge accepts it/);
    assert.deepEqual(
      seen.ways.filter(({ rate = 0 }) => rate <= 0),
      [],
    );
  });

  test("accepts a token that may only send to others", async () => {
    const { seen, text } = await judged(await issuer.issue({ scope: "connect send:bob" }));
    assert.match(text, /^ok/);
    assert.ok(seen.ways.every(({ rate }) => rate === undefined));
  });

  for (const [what, claims, reason] of [
    ["expired", { exp: past }, "TokenExpired"],
    ["meant for another edge", { aud: "other.example.com" }, "WrongAudience"],
    ["revoked", { jti: "gone" }, "TokenRevoked"],
    ["for another device", { address: "alice/phone" }, "ScopeMissing"],
    ["without the scope connect", { scope: "receive" }, "ScopeMissing"],
  ] as const) {
    test(`says that it is ${what}, while the ways work`, async () => {
      const { seen, text } = await judged(await issuer.issue(claims));
      assert.match(text, new RegExp(`^failed: the token .*\\(${reason}\\)$`));
      assert.notEqual(seen.recommended, undefined);
    });
  }

  test("disturbs no device that runs with the same address", async () => {
    const token = await issuer.issue();
    const lost: string[] = [];
    const device = await Device.connect({
      edge: edge.url,
      ca: ours.ca,
      token,
      address: "alice/laptop",
      onReconnect: ({ message }) => lost.push(message),
    });
    const { seen } = await judged(token);
    assert.ok(seen.ways.every(({ rate }) => rate === undefined));
    await device.send("alice/laptop", "still here");
    for await (const message of device.messages()) {
      assert.equal(message.text(), "still here");
      message.done();
      break;
    }
    assert.deepEqual(lost, []);
    await device.close();
    const { seen: alone } = await judged(token);
    assert.ok(alone.ways.every(({ rate = 0 }) => rate > 0));
  });

  test("leaves what waits for the device, and for its identity, where it is", async (t) => {
    const common = { edge: edge.url, ca: ours.ca };
    const bob = { ...common, token: await issuer.issue({ address: "bob/pc" }), address: "bob/pc", receive: false };
    const sender = await Device.connect(bob);
    t.after(() => sender.close());
    await sender.send("carol/laptop", "for the device");
    await sender.send("carol", "for the identity");
    const token = await issuer.issue({ address: "carol/laptop" });
    const seen = await examine({ ...common, token, address: "carol/laptop" });
    assert.ok(seen.ways.every(({ rate = 0 }) => rate > 0));
    const carol = await Device.connect({ ...common, token, address: "carol/laptop" });
    t.after(() => carol.close());
    const texts: string[] = [];
    for await (const message of carol.messages()) {
      texts.push(message.text());
      message.done();
      if (texts.length === 2) break;
    }
    assert.deepEqual(texts.sort(), ["for the device", "for the identity"]);
  });
});
