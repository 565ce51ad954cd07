/** Authorization at the edge, over real sockets, by HTTP and by SSTP. */
import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdgeOptions } from "../../../src/cli/local-edge/local-edge.ts";
import { type Device, type DeviceOptions, openTransport, type TransportName } from "../../../src/device/index.ts";
import { CONNECT_PATIENCE } from "../../../src/edge/endpoint/limits.ts";
import type { Env } from "../../../src/edge/env.ts";
import { admit } from "../../../src/edge/http/authorize.ts";
import { isReason, type Reason } from "../../../src/edge/reasons.ts";
import { ECHO_TEXT } from "../../../src/encapsulation/index.ts";
import { startRelay } from "../../../src/relay/index.ts";
import {
  CloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  relayURL,
  SessionStatusId,
} from "../../../src/sstp/index.ts";
import { failure } from "../../device/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { RawSocket } from "../../support/sockets.ts";
import { AUDIENCE, type Claims, ed25519, hs256, jwks } from "../issuer.ts";
import { receive, TRANSPORTS, until } from "../mailbox/support.ts";
import {
  assertSecretsKept,
  bearer,
  deviceAt,
  issued,
  knockAt,
  type Operator,
  refusal,
  said,
  startAsking,
  startOperator,
  target,
  upgrade,
} from "../operator.ts";
import { newGuid } from "../support.ts";

const first = await ed25519("first");
const second = await ed25519("second");
const secret = await hs256("secret");
const ADMIN_TOKEN = "an operator's own secret";

let relay: Awaited<ReturnType<typeof startRelay>>;
let operator: Operator;
let edge: InspectedEdge;

before(async () => {
  relay = await startRelay({ port: 0 });
  operator = await startOperator(first, secret);
  edge = await start({ ...operator.settings, adminToken: ADMIN_TOKEN });
});

after(async () => {
  await edge.close();
  await relay.close();
  operator.close();
});

function start(options: Partial<LocalEdgeOptions>): Promise<InspectedEdge> {
  return startAsking({ relayAllow: [`127.0.0.1:${relay.port}`], ...options });
}

function issue(claims: Claims = {}, issuer = first): Promise<string> {
  return issued(issuer, claims);
}

function knock(path: string, headers: Record<string, string>, at = edge): Promise<string> {
  return knockAt(at, path, headers);
}

function device(t: TestContext, options: Partial<DeviceOptions>, at = edge): Promise<Device> {
  return deviceAt(t, at, options);
}

describe("a request for a virtual connection", () => {
  const now = Math.floor(Date.now() / 1000);
  for (const [what, claims, expected] of [
    ["a valid token", {}, "ok"],
    ["a token that has expired", { exp: now - 3600 }, "TokenExpired"],
    ["a token that is not yet valid", { nbf: now + 3600 }, "TokenNotYetValid"],
    ["a token for another edge", { aud: "other.example.com" }, "WrongAudience"],
    ["a token without aud", { aud: undefined }, "WrongAudience"],
    ["a token without exp", { exp: undefined }, "TokenInvalid"],
    ["a token without scope", { scope: undefined }, "TokenInvalid"],
    ["a token without the scope connect", { scope: "receive send:* admin" }, "ScopeMissing"],
  ] as const satisfies readonly (readonly [string, Record<string, unknown>, Reason | "ok"])[]) {
    it(`with ${what}: ${expected}`, async () => {
      const token = await issue(claims);
      assert.equal(await knock(target("KeepAlive"), bearer(token)), expected);
      // The same with the other encapsulations.
      const relayName = AUDIENCE;
      if (expected === "ok") return;
      assert.equal(
        await refusal(await fetch(`${edge.url}${target("LongLived", relayName)}`, { headers: bearer(token) })),
        expected,
      );
      assert.equal(await upgrade(edge, target("WebSocket", relayName), bearer(token)), expected);
    });
  }

  it("with a foreign token, no token or garbage gets the matching reason", async () => {
    for (const [headers, expected] of [
      [bearer(await issue({}, await ed25519("first"))), "TokenInvalid"],
      [bearer(await issue({}, second)), "TokenInvalid"],
      [bearer("x.y.z"), "TokenInvalid"],
      [bearer(""), "TokenNeeded"],
      [{ Authorization: `Basic ${btoa("alice:password")}` }, "TokenNeeded"],
      [{ Authorization: await issue() }, "TokenNeeded"],
      [{ Authorization: `bearer ${await issue()}` }, "ok"],
      [bearer(await issue({}, secret)), "ok"],
    ] as const) {
      assert.equal(await knock(target("KeepAlive"), headers), expected);
    }
  });

  it("with two Authorization headers is refused", async () => {
    const socket = await RawSocket.open(Number(new URL(edge.url).port));
    const [good, other] = [await issue(), await issue({ exp: 1 })];
    const lines = [good, other].map((token) => `Authorization: Bearer ${token}\r\n`).join("");
    socket.write(`POST ${target("KeepAlive")} HTTP/1.1\r\nHost: x\r\n${lines}Content-Length: 0\r\n\r\n`);
    const { status, body } = await socket.response();
    said.push(body.toString());
    assert.match(status, / 401 /);
    socket.socket.destroy();
  });

  it("cannot set its own internal headers", async () => {
    const principal = encodeURIComponent(JSON.stringify({ id: "anybody", subject: "", rights: {}, expires: 1e15 }));
    const path = target("KeepAlive", `127.0.0.1:${relay.port}`);
    assert.equal(await knock(path, { "Grooveway-Principal": principal }), "TokenNeeded");
    // A token does not make the header credible: the virtual connection belongs to the token.
    const guid = newGuid();
    assert.equal(
      await knock(target("KeepAlive", AUDIENCE, guid), { ...bearer(await issue()), "Grooveway-Principal": principal }),
      "ok",
    );
    assert.equal(
      await knock(target("KeepAlive", AUDIENCE, guid), { "Grooveway-Principal": principal }),
      "UnknownConnection",
    );
  });

  it("learns which relays are allowed only after it has shown a token", async () => {
    const [allowed, other] = [target("KeepAlive", `127.0.0.1:${relay.port}`), target("KeepAlive", "relay.example.com")];
    for (const path of [allowed, other]) assert.equal(await knock(path, {}), "TokenNeeded");
    assert.equal(await knock(other, bearer(await issue())), "RelayNotAllowed");
  });
});

describe("bodies over 32768 bytes need a token", () => {
  const large = Buffer.alloc(40_000);
  const poll = async (headers: Record<string, string>, at = edge) =>
    refusal(await fetch(`${at.url}/`, { method: "POST", body: large, headers }));

  it("in Polling, whatever else admits a device without one", async () => {
    assert.equal(await poll({}), "GrownBodyRefused");
    assert.equal(await poll(bearer(await issue({ exp: 1 }))), "TokenExpired");
    assert.equal(await poll(bearer(await issue({ scope: "receive" }))), "ScopeMissing");
    assert.equal(await poll(bearer(await issue())), "MalformedPoll");
    const trusting = await start({ keys: jwks(first), authOrigin: "origin" });
    assert.equal(await poll({}, trusting), "GrownBodyRefused");
    await trusting.close();
  });

  it("in KeepAlive, where none are granted without one", async () => {
    for (const [headers, granted] of [
      [bearer(await issue()), "Grooveway-Body: 1048576\r\n"],
      [{}, ""],
    ] as const) {
      const path = target("KeepAlive");
      assert.equal(await knock(path, headers), "ok");
      const answer = await fetch(`${edge.url}${path}?Body=1048576`, { headers });
      assert.equal(await answer.text(), `${ECHO_TEXT}${granted}`);
    }
  });
});

describe("an edge without keys", () => {
  it("refuses everyone, unless it is open for development", async () => {
    const headers = bearer(await issue({}, second));
    const request = new Request(`http://edge${target("KeepAlive")}`, { headers });
    for (const [env, expected] of [
      [{}, "NoKeys"],
      [{ DEV: "" }, "NoKeys"],
      [{ DEV: "private wildcard" }, "NoKeys"],
      [{ DEV: "opened" }, "NoKeys"],
      [{ DEV: "open" }, "ok"],
      [{ DEV: "1" }, "ok"],
      [{ DEV: "1", KEYS: jwks(first), RELAY_NAME: AUDIENCE }, "TokenInvalid"],
      [{ DEV: "1", KEYS: "{}", RELAY_NAME: AUDIENCE }, "KeysUnavailable"],
    ] as const) {
      for (const route of ["mailbox", "origin"] as const) {
        const answer = await admit(request, env as unknown as Env, route);
        assert.equal(answer.type === "ok" ? "ok" : answer.reason, expected, JSON.stringify(env));
      }
    }
  });

  it("does not start, unless it is for development", async () => {
    await assert.rejects(start({}), { code: "InsecureEdge" });
    const open = await start({ dev: "open" });
    assert.equal(await knock(target("KeepAlive"), {}, open), "ok");
    // No operator is configured.
    assert.equal(await refusal(await fetch(`${open.url}/admin/mailboxes`, { headers: bearer("x") })), "NotFound");
    await open.close();
  });
});

describe("/admin", () => {
  const ask = async (headers: Record<string, string>) =>
    refusal(await fetch(`${edge.url}/admin/mailboxes`, { headers }));
  it("accepts the admin token and tokens with the scope admin", async () => {
    for (const [headers, expected] of [
      [bearer(ADMIN_TOKEN), "ok"],
      [bearer(await issue({ scope: "admin", address: undefined })), "ok"],
      [bearer(await issue({ scope: "connect receive send:*" })), "ScopeMissing"],
      [bearer(await issue({ scope: "admin", exp: 1 })), "TokenExpired"],
      [bearer(`${ADMIN_TOKEN}x`), "TokenInvalid"],
      [{}, "AdminTokenNeeded"],
    ] as const) {
      assert.equal(await ask(headers), expected);
    }
  });
});

describe("a device", () => {
  for (const transport of TRANSPORTS) {
    it(`with a token sends and receives over ${transport}`, async (t) => {
      const [name, other] = [`a-${transport}`, `b-${transport}`];
      const a = await device(t, {
        address: `${name}/x`,
        transport,
        token: await issue({ address: `${name}/x`, scope: `connect receive send:${other} send:${other}/*` }),
      });
      const b = await device(t, {
        address: `${other}/y`,
        transport,
        token: () => issue({ address: `${other}/*`, scope: "connect receive" }),
      });
      await a.send(`${other}/y`, "to the device");
      await a.send(other, "to the identity");
      const bodies = (await receive(b, 2)).map((message) => [message.from, message.text()]);
      assert.deepEqual(bodies.sort(), [
        [`${name}/x`, "to the device"],
        [`${name}/x`, "to the identity"],
      ]);
      await assert.rejects(b.send(`${name}/x`, "back"), failure("RecipientRefused"), "without send");
      await assert.rejects(a.send("carol", "x"), failure("RecipientRefused"), "with send for others");
    });

    it(`is told over ${transport} why its token is refused`, async (t) => {
      const connect = (token: string, options: Partial<DeviceOptions> = {}) =>
        device(t, { transport, token, ...options });
      for (const [token, reason] of [
        [await issue({ exp: 1 }), "TokenExpired"],
        [await issue({ aud: "x" }), "WrongAudience"],
        [await issue({}, second), "TokenInvalid"],
        [await issue({ scope: "receive send:*" }), "ScopeMissing"],
        [await issue({ address: "alice/phone" }), "ScopeMissing"],
        [await issue({ address: "alice" }), "ScopeMissing"],
        [await issue({ address: undefined }), "ScopeMissing"],
        [await issue({ address: "Alice/*" }), "ScopeMissing"],
      ] as const) {
        await assert.rejects(connect(token), (error: Error & { code?: string; retryable?: boolean }) => {
          assert.deepEqual([error.code, error.retryable], ["TokenRefused", false], error.message);
          assert.match(error.message, new RegExp(`\\[${reason}\\]$`));
          assert(!error.message.includes(token));
          return true;
        });
      }
      const sender = await issue({ scope: "connect send:*" });
      await assert.rejects(connect(sender), { code: "TokenRefused", message: /scope receive/ });
      await connect(sender, { receive: false });
      await assert.rejects(device(t, { transport }), { code: "TokenRefused", message: /\[TokenNeeded\]$/ });
    });
  }

  it("without the scope receive gets none of its waiting messages", async (t) => {
    const sender = await device(t, { address: "s/x", token: await issue({ address: "s/x" }) });
    await sender.send("quiet/x", "secret");
    const silent = await device(t, {
      address: "quiet/x",
      receive: false,
      token: await issue({ address: "quiet/x", scope: "connect send:*" }),
    });
    await silent.send("s/x", "here I am");
    await receive(sender, 1);
    const early = Promise.race([
      silent
        .messages()
        .next()
        .then(() => "came"),
      sleep(500).then(() => "nothing"),
    ]);
    assert.equal(await early, "nothing");
    const listening = await device(t, { address: "quiet/x", token: await issue({ address: "quiet/x" }) });
    assert.equal((await receive(listening, 1))[0]?.text(), "secret");
  });

  it("gets a new token from a function for each connection, and reports when that fails", async (t) => {
    const failing = () => Promise.reject(new Error("the issuer is away"));
    await assert.rejects(device(t, { token: failing }), (error: Error & { code?: string; retryable?: boolean }) => {
      assert.deepEqual([error.code, error.retryable], ["ConnectFailed", true]);
      assert.match(String((error.cause as Error).message), /issuer is away/);
      return true;
    });
    for (const token of ["", "two words", "line\r\nInjected: yes", "é"]) {
      await assert.rejects(device(t, { token }), { code: "InvalidOption" });
    }
  });

  it("with a new operator key is accepted without a restart", async (t) => {
    const token = await issue({}, second);
    assert.equal(await knock(target("KeepAlive"), bearer(token)), "TokenInvalid");
    operator.serve(first, second, secret);
    await until("the new key is known", async () => (await knock(target("KeepAlive"), bearer(token))) === "ok");
    await device(t, { token });
  });

  it("passes through to an origin relay with a token, and without one when the relay authenticates", async (t) => {
    const options = { relay: `127.0.0.1:${relay.port}`, transport: "keepalive" } as const;
    await assert.rejects(device(t, options), { code: "TokenRefused", message: /\[TokenNeeded\]$/ });
    const through = await device(t, { ...options, address: "far/x", token: await issue({ address: "elsewhere/x" }) });
    await through.send("far/x", "round trip");
    assert.equal((await receive(through, 1))[0]?.text(), "round trip");
    const trusting = await start({ keys: jwks(first), authOrigin: "origin" });
    t.after(() => trusting.close());
    await device(t, { ...options, address: "far/y" }, trusting);
    await assert.rejects(device(t, { ...options, token: await issue({ exp: 1 }) }, trusting), { code: "TokenRefused" });
    await assert.rejects(device(t, { address: "far/z" }, trusting), { code: "TokenRefused" }, "to the edge itself");
  });
});

/** A scripted SSTP client over a transport without a token, unless it is given one. */
class Raw {
  readonly engine: Connection;
  readonly events: ConnectionEvent[] = [];
  readonly transport: ReturnType<typeof openTransport>;

  constructor(t: TestContext, transport: TransportName, urls: readonly string[], token?: string) {
    this.transport = openTransport({ transport, relay: AUDIENCE, edge: edge.url, token });
    t.after(() => this.transport.close());
    this.engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [...urls], now: 0 });
    void this.#read();
  }

  connect(token: string | Uint8Array): this {
    this.engine.connect(relayURL(AUDIENCE), typeof token === "string" ? Buffer.from(token) : token);
    this.flush();
    return this;
  }

  flush(): void {
    void this.transport.write(this.engine.output(0));
  }

  async event<T extends ConnectionEvent["type"]>(type: T): Promise<Extract<ConnectionEvent, { type: T }>> {
    const found = () => this.events.find((event) => event.type === type);
    await until(`${type}; came ${this.events.map((event) => event.type).join(" ")}`, () => found() !== undefined);
    return found() as Extract<ConnectionEvent, { type: T }>;
  }

  async #read(): Promise<void> {
    for (;;) {
      const octets = await this.transport.read();
      if (octets === undefined) break;
      said.push(Buffer.from(octets).toString("latin1"));
      this.events.push(...this.engine.receive(octets, 0));
      this.flush();
    }
    this.events.push(...this.engine.transportLost());
  }
}

describe("a client that cannot set headers", () => {
  for (const transport of TRANSPORTS) {
    it(`sends its token in Connect over ${transport}`, async (t) => {
      const raw = new Raw(t, transport, ["grooveDevice://raw/x"]).connect(await issue({ address: "raw/x" }));
      await raw.event("connected");
      const attach = raw.engine.attach({ accountURL: "grooveAccount://raw" });
      const foreign = raw.engine.attach({ accountURL: "grooveAccount://somebody" });
      const open = raw.engine.open({ resourceURL: "m", identityURL: "grooveIdentity://bob", deviceURL: "" });
      raw.flush();
      assert.equal((await raw.event("attached")).eventId, attach);
      const closed = await raw.event("sessionClosed");
      assert.deepEqual(
        [closed.sessionId, closed.kind, closed.reasonId],
        [foreign, "attach", CloseReasonId.UserAuthenticationFailed],
      );
      assert.equal((await raw.event("sessionState")).sessionId, open);
    });

    it(`is refused over ${transport} with a reason`, async (t) => {
      const now = Math.floor(Date.now() / 1000);
      const own = ["grooveDevice://raw/x"];
      for (const [urls, token, reason] of [
        [own, "", "TokenNeeded"],
        [own, "no token", "TokenInvalid"],
        [own, new Uint8Array([0xff, 0xfe, 0, 1]), "TokenInvalid"],
        [own, await issue({ address: "raw/x", exp: now - 60 }), "TokenExpired"],
        [own, await issue({ address: "raw/x", aud: "x" }), "WrongAudience"],
        [own, await issue({ address: "raw/x", scope: "receive" }), "ScopeMissing"],
        [own, await issue({ address: "raw/y" }), "ScopeMissing"],
        [[...own, "grooveDevice://raw/y"], await issue({ address: "raw/x" }), "ScopeMissing"],
        [["groovedevice://raw/x"], await issue({ address: "raw/x" }), "ScopeMissing"],
        [["grooveDevice://r%61w/x"], await issue({ address: "*" }), "ScopeMissing"],
        [["grooveIdentity://raw"], await issue({ address: "*" }), "ScopeMissing"],
        [["grooveDNS://relay.example.com"], await issue({ address: "*" }), "RelayNotProven"],
      ] as const) {
        const refused = await new Raw(t, transport, urls).connect(token).event("refused");
        assert.equal(refused.responseId, ConnectResponseId.AuthenticationFailed, reason);
        assert.equal(Buffer.from(refused.token).toString(), reason);
        assert(isReason(reason));
      }
    });
  }

  it("cannot replace a token from HTTP by another in Connect", async (t) => {
    const http = await issue({ address: "raw/x", scope: "connect receive" });
    const raw = new Raw(t, "websocket", ["grooveDevice://raw/y"], http).connect(await issue({ address: "raw/y" }));
    assert.equal(Buffer.from((await raw.event("refused")).token).toString(), "ScopeMissing");
  });

  it("may send more right after Connect, which waits for the decision", async (t) => {
    const raw = new Raw(t, "websocket", ["grooveDevice://eager/x"]);
    raw.connect(await issue({ address: "eager/x" }));
    await sleep(0);
    // Written directly: the engine would wait for the answer.
    const ahead = new Connection({
      role: "client",
      outbound: true,
      localDeviceURLs: ["grooveDevice://eager/x"],
      now: 0,
    });
    const relayEnd = new Connection({ role: "relay", outbound: false, localDeviceURLs: [relayURL(AUDIENCE)], now: 0 });
    ahead.connect(relayURL(AUDIENCE));
    relayEnd.receive(Buffer.concat(ahead.output(0)), 0);
    relayEnd.acceptConnect();
    ahead.receive(Buffer.concat(relayEnd.output(0)), 0);
    for (const identity of ["eager", "somebody"]) ahead.attach({ accountURL: `grooveAccount://${identity}` });
    void raw.transport.write([Buffer.concat(ahead.output(0))]);
    await raw.event("connected");
    // Neither answer belongs to an Attach of this engine: that they arrive shows that both were read after Connect.
    await until("both answers came", () => said.at(-1) !== undefined && raw.engine.closed !== undefined);
    assert.match(raw.engine.closed?.detail ?? "", /AttachResponse for session 1/);
  });

  it("is disconnected soon if it sends no token", { timeout: CONNECT_PATIENCE + 120_000 }, async (t) => {
    const raw = new Raw(t, "websocket", ["grooveDevice://mute/x"]);
    await raw.transport.established;
    await until("the edge ends it", () => raw.transport.lost !== undefined, CONNECT_PATIENCE + 20_000);
    assert.equal(raw.transport.lost?.code, "TokenNeeded");
  });
});

describe("recipients", () => {
  it("of a session are limited to those the token allows", async (t) => {
    const raw = new Raw(
      t,
      "websocket",
      ["grooveDevice://raw/s"],
      await issue({
        address: "raw/s",
        scope: "connect send:bob send:team/* stream:office/ssh",
      }),
    ).connect("");
    await raw.event("connected");
    const id = (name: string) => `grooveIdentity://${name}`;
    const dev = (name: string) => `grooveDevice://${name}`;
    for (const [resourceURL, identityURL, deviceURL, allowed] of [
      ["m", id("bob"), "", true],
      ["m", id("team"), dev("team/x"), true],
      ["m", id("bob"), dev("bob/x"), false],
      ["m", id("team"), "", false],
      ["m", id("carol"), "", false],
      ["m", id("Bob"), "", false],
      ["m", id("%62ob"), "", false],
      ["m", "grooveidentity://bob", "", false],
      ["m", "grooveAccount://bob", "", false],
      ["m", "bob", "", false],
      ["m", id("bob"), dev("team/x"), false],
      ["m", id("team"), dev("carol/x"), false],
      ["m", id("team"), "grooveDevice://team/x/", false],
      ["m", id("team"), "grooveDNS://relay.example.com", false],
      ["m", dev("team/x"), "", false],
      ["m", id("office"), dev("office/ssh"), false],
      ["stream", id("office"), dev("office/ssh"), true],
      ["stream?id=1", id("office"), dev("office/ssh"), true],
      ["stream", id("bob"), "", false],
      ["streams", id("bob"), "", true],
    ] as const) {
      raw.events.length = 0;
      const sessionId = raw.engine.open({ resourceURL, identityURL, deviceURL });
      raw.flush();
      const answer = await Promise.race([raw.event("sessionState"), raw.event("sessionRefused")]);
      assert.deepEqual(
        [answer.sessionId, answer.type === "sessionState"],
        [sessionId, allowed],
        `${identityURL} ${deviceURL}`,
      );
    }
  });

  it("of a fanout that are not allowed are reported, and the others get the message", async (t) => {
    const bob = await device(t, { address: "fan-b/x", token: await issue({ address: "fan-b/x" }) });
    const carol = await device(t, { address: "fan-c/x", token: await issue({ address: "fan-c/x" }) });
    const token = await issue({ address: "fan/s", scope: "connect send:fan-b/*" });
    const raw = new Raw(t, "websocket", ["grooveDevice://fan/s"], token).connect("");
    await raw.event("connected");
    const entry = (name: string) => ({
      identityURL: `grooveIdentity://${name}`,
      deviceURL: `grooveDevice://${name}/x`,
      relayURL: relayURL(AUDIENCE),
    });
    const sessionId = raw.engine.openFanout({ resourceURL: "m", entries: [entry("fan-c"), entry("fan-b")] });
    raw.flush();
    const status = await raw.event("sessionStatus");
    assert.deepEqual([status.statusId, status.indexes, status.remaining], [SessionStatusId.LockedOut, [0], 1]);
    raw.engine.beginMessage(sessionId, { userRef: "one", acknowledgeImmediately: true });
    raw.engine.data(sessionId, Buffer.from("for bob"));
    raw.engine.endMessage(sessionId);
    raw.flush();
    await raw.event("acknowledged");
    assert.equal((await receive(bob, 1))[0]?.text(), "for bob");
    const early = Promise.race([
      carol
        .messages()
        .next()
        .then(() => "came"),
      sleep(300).then(() => "nothing"),
    ]);
    assert.equal(await early, "nothing");
  });
});

it("responses and logs contain no token, key or secret", () => {
  assertSecretsKept(ADMIN_TOKEN, first, second, secret);
});
