/**
 * How long a token is accepted after it was revoked or its key was removed: 30 s for connecting devices, 60 s for
 * connected ones. The edge's clock is set ahead, and the operator's server is slow.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CONNECTED_AGE, CONNECTING_AGE, STALE } from "../../src/auth/limits.ts";
import {
  type Device,
  type DeviceOptions,
  type DeviceStream,
  MemoryKeyring,
  publicKeyOf,
  type TransportName,
} from "../../src/device/index.ts";
import { REST_AFTER } from "../../src/edge/tunnel/limits.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { objectOf } from "../support/objects.ts";
import { drivenWorker } from "../support/worker.ts";
import { AUDIENCE, ed25519 } from "./issuer.ts";
import { ByHand } from "./keepalive-by-hand.ts";
import { mailboxOf, RawClient, receive, TRANSPORTS, until } from "./mailbox/support.ts";
import {
  assertSecretsKept,
  bearer,
  deviceAt,
  issued,
  knockAt,
  type Operator,
  startAsking,
  startOperator,
  target,
  upgrade,
} from "./operator.ts";

const first = await ed25519("first");
const second = await ed25519("second");
const code = await drivenWorker();

let operator: Operator;
let edge: InspectedEdge;

/** An edge at the common clock that has fetched nothing yet. */
async function start(): Promise<void> {
  operator = await startOperator(first, second);
  edge = await startAsking({ ...operator.settings, code });
}

async function stop(): Promise<void> {
  await edge.close();
  operator.close();
}

async function clock(milliseconds: number): Promise<void> {
  assert.equal((await fetch(`${edge.url}/clock/${milliseconds}`)).status, 200);
}

/** How a token becomes invalid, and the reason for its refusal afterwards. */
const ENDS = [
  ["that was revoked", (id: string) => operator.revoke(id), "TokenRevoked"],
  ["whose key was taken out of the set", () => operator.serve(second), "TokenInvalid"],
] as const;

function device(t: TestContext, options: Partial<DeviceOptions>): Promise<Device> {
  return deviceAt(t, edge, options);
}

/** A device with a token by the other key, which stays valid. */
async function sender(t: TestContext): Promise<Device> {
  return device(t, { address: "sender/x", token: await issued(second, { address: "sender/x" }) });
}

/** A stream that a device with a token of this id has opened to one whose token stays valid, by its two ends. */
async function openStream(t: TestContext, name: string, transport: TransportName, jti: string) {
  const [mine, theirs] = [`mine/${name}`, `theirs/${name}`];
  const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
  others.accept(mine, publicKeyOf(own.secretKey));
  const scope = "connect receive send:* stream:*";
  const serving = await device(t, {
    transport: "websocket",
    receive: "streams",
    address: theirs,
    keyring: others,
    token: await issued(second, { address: theirs, scope }),
  });
  const served = Promise.withResolvers<DeviceStream>();
  serving.serve("wait", (stream) => {
    stream.accept();
    served.resolve(stream);
  });
  const token = await issued(first, { address: mine, scope, jti });
  const dialing = await device(t, {
    transport,
    receive: "streams",
    address: mine,
    keyring: own,
    token: () => token,
  });
  const here = await dialing.dial(theirs, "wait");
  return { mine, theirs, dialing, here, there: await served.promise };
}

const url = (address: string) => `grooveDevice://${address}`;

async function waiting(peer: string): Promise<number> {
  return (await (await mailboxOf(edge, peer)).status()).messages;
}

/** Whether the device receives something, or ends. */
function taken(of: Device): Promise<string> {
  return of
    .messages()
    .next()
    .then(
      ({ done }) => (done ? "closed" : "a message"),
      (error: Error) => error.message,
    );
}

for (const [what, end, reason] of ENDS) {
  describe(`a token ${what}`, () => {
    before(start);
    after(stop);

    it("admits none of four concurrent connections 112 s later, and delivers none of the waiting messages", async (t) => {
      const token = await issued(first, { address: "bob/pc", jti: "four" });
      await (await device(t, { address: "bob/pc", transport: "websocket", token })).close();
      await (await sender(t)).send("bob/pc", "a secret");
      operator.slow(100);
      end("four");
      await clock(112_000);
      const four = <T>(run: () => Promise<T>) => Promise.all(Array.from({ length: 4 }, run));
      assert.deepEqual(
        await four(() => upgrade(edge, target("WebSocket"), bearer(token))),
        Array(4).fill(reason),
        "by a header",
      );
      await clock(224_000);
      assert.deepEqual(await four(() => knockAt(edge, target("KeepAlive"), bearer(token))), Array(4).fill(reason));
      await clock(336_000);
      const refusals = await four(async () => {
        const raw = new RawClient(edge, "websocket", url("bob/pc"));
        raw.connect(AUDIENCE, token);
        const refused = await raw.event("refused");
        raw.close();
        return Buffer.from(refused.token).toString();
      });
      assert.deepEqual(refusals, Array(4).fill(reason), "in Connect");
      assert.equal(await waiting(url("bob/pc")), 1);
    });
  });

  describe(`a device connected with a token ${what}`, () => {
    before(start);
    after(stop);

    it("receives nothing a minute later, and is disconnected for good", { timeout: 300_000 }, async (t) => {
      const reconnects: string[] = [];
      const onReconnect = (error: Error) => reconnects.push(error.message);
      const connected = await Promise.all(
        TRANSPORTS.map(async (transport) => {
          const address = `out-${transport}/x`;
          const token = await issued(first, { address, jti: "out" });
          return { address, device: await device(t, { address, transport, token: () => token, onReconnect }) };
        }),
      );
      const other = await sender(t);
      for (const { address, device } of connected) {
        await other.send(address, "in time");
        await receive(device, 1);
        await until("it is acknowledged", async () => (await waiting(url(address))) === 0);
      }
      operator.slow(100);
      end("out");
      await clock(CONNECTED_AGE + 2000);
      const outcomes = connected.map(({ device }) => taken(device));
      for (const { address } of connected) await other.send(address, "too late");
      for (const outcome of outcomes) assert.match(await outcome, new RegExp(`\\[${reason}\\]$`));
      assert.deepEqual(reconnects, []);
      for (const { address } of connected) assert.equal(await waiting(url(address)), 1, address);
    });
  });

  describe(`a stream of a device with a token ${what}`, () => {
    beforeEach(start);
    afterEach(stop);

    // Requests with a revoked token are refused before they reach the virtual connection.
    const cases = [
      ["that device", "websocket"],
      ["the other device", "websocket"],
      ...(reason === "TokenRevoked"
        ? (["longlived", "keepalive", "polling"] as const).map((transport) => ["that device", transport] as const)
        : []),
    ] as const;
    for (const [writer, transport] of cases) {
      it(`carries nothing a minute later when ${writer} writes by ${transport}, and is reset at both ends`, async (t) => {
        const name = `${writer.replaceAll(" ", "-")}-${transport}`;
        const jti = `stream of ${name}`;
        const { theirs, dialing, here, there } = await openStream(t, name, transport, jti);
        const [one, other] = writer === "that device" ? [here, there] : [there, here];
        const reading = other.readable.getReader().read();
        reading.catch(() => undefined);
        operator.slow(100);
        end(jti);
        await clock(CONNECTED_AGE + 2000);
        one.writable
          .getWriter()
          .write(Buffer.from("too late"))
          .catch(() => undefined);
        await assert.rejects(here.closed, (error: Error) => {
          assert.match(error.message, new RegExp(`\\[${reason}\\]$`));
          return true;
        });
        await assert.rejects(there.closed, { code: "StreamReset", reason: "TokenEnded" });
        await assert.rejects(dialing.dial(theirs, "wait"), { code: "TokenRefused" });
        const got = await Promise.race([
          reading.then(
            ({ value }) => value,
            () => undefined,
          ),
          sleep(1000),
        ]);
        assert.equal(got, undefined);
      });
    }
  });

  describe(`a device whose provider has another token than the one ${what}`, () => {
    before(start);
    after(stop);

    it("reconnects with that", { timeout: 300_000 }, async (t) => {
      const address = "renewed/x";
      let token = await issued(first, { address, jti: "renewed" });
      const reconnects: string[] = [];
      const onReconnect = (error: Error) => reconnects.push(error.message);
      const renewed = await device(t, { address, transport: "websocket", token: () => token, onReconnect });
      token = await issued(second, { address });
      end("renewed");
      await clock(CONNECTED_AGE + 2000);
      const received = receive(renewed, 1);
      await (await sender(t)).send(address, "to the new token");
      assert.equal((await received)[0]?.text(), "to the new token");
      assert.match(reconnects.join(), new RegExp(`\\[${reason}\\]; there is a new one$`));
    });
  });

  describe(`a hibernating session with a token ${what}`, () => {
    before(start);
    after(stop);

    it("is checked before any delivery, even when its mailbox calls it back", async (t) => {
      const open = async (name: string) => {
        const raw = new RawClient(edge, "websocket", url(`olga/${name}`));
        t.after(() => raw.close());
        raw.connect(AUDIENCE, await issued(name === "second" ? second : first, { address: "olga/*", jti: name }));
        await raw.event("connected");
        raw.engine.attach({ accountURL: "grooveAccount://olga" });
        raw.flush();
        await raw.event("attached");
        return raw;
      };
      const other = await sender(t);
      const sleeper = await open("sleeper");
      const newer = await open("second");
      const { consumer } = await (await mailboxOf(edge, url("olga/sleeper"))).status();
      await edge.miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name: consumer ?? "" });
      operator.slow(100);
      end("sleeper");
      await clock(CONNECTED_AGE + 2000);
      await other.send("olga/sleeper", "too late");
      newer.close();
      await until("nobody consumes", async () =>
        (await mailboxOf(edge, "grooveIdentity://olga")).status().then(({ consumer }) => consumer === undefined),
      );
      await other.send("olga", "for the identity");
      await until("it is put out", () => sleeper.lost !== undefined);
      assert.deepEqual([sleeper.lost, sleeper.messages.length], [reason, 0]);
      assert.equal(await waiting(url("olga/sleeper")), 1);
      assert.equal(await waiting("grooveIdentity://olga"), 1);
    });
  });
}

describe("an idle stream of a device whose token was revoked", () => {
  beforeEach(start);
  afterEach(stop);

  interface DrivenTunnel {
    alarmIn(): Promise<number>;
    letPass(milliseconds: number): Promise<void>;
  }

  for (const transport of ["websocket", "longlived"] as const) {
    it(`is reset at both ends within a minute, though its Tunnel hibernates, over ${transport}`, async (t) => {
      const jti = `idle ${transport}`;
      const { mine, here, there } = await openStream(t, transport, transport, jti);
      const { consumer: name = "" } = await (await mailboxOf(edge, url(mine))).status();
      await edge.miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name });
      operator.revoke(jti);
      const tunnel = await objectOf<DrivenTunnel>(edge.miniflare, "TUNNEL", name);
      assert.ok((await tunnel.alarmIn()) <= CONNECTED_AGE, "nothing wakes it in time");
      await tunnel.letPass(CONNECTED_AGE);
      await assert.rejects(here.closed, { code: "TokenRefused" });
      await assert.rejects(there.closed, { code: "StreamReset", reason: "TokenEnded" });
      await clock(0);
    });
  }

  it("costs no alarm for a device without streams", async (t) => {
    const token = await issued(first, { address: "alone/x", scope: "connect receive" });
    await device(t, { transport: "websocket", receive: "streams", address: "alone/x", token });
    const { consumer: name = "" } = await (await mailboxOf(edge, url("alone/x"))).status();
    await sleep(2 * REST_AFTER);
    const tunnel = await objectOf<DrivenTunnel>(edge.miniflare, "TUNNEL", name);
    assert.equal(await tunnel.alarmIn(), Number.POSITIVE_INFINITY);
  });
});

describe("a stream that was dialed by the identity of a device whose token was revoked", () => {
  before(start);
  after(stop);

  it("is reset at both ends", { timeout: 300_000 }, async (t) => {
    const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
    others.accept("mine/y", publicKeyOf(own.secretKey));
    const streaming = { transport: "websocket", receive: "streams" } as const;
    const scope = "connect receive send:* stream:*";
    const address = "office/desk";
    const exposed = await issued(first, { address: "office/*", scope, jti: "office" });
    const serving = await device(t, { ...streaming, address, keyring: others, token: exposed });
    const served = Promise.withResolvers<DeviceStream>();
    serving.serve("wait", (stream) => {
      stream.accept();
      served.resolve(stream);
    });
    const token = await issued(second, { address: "mine/y", scope });
    const dialing = await device(t, { ...streaming, address: "mine/y", keyring: own, token });
    const here = await dialing.dial("office", "wait");
    const there = await served.promise;
    operator.revoke("office");
    await clock(CONNECTED_AGE + 2000);
    const writer = here.writable.getWriter();
    writer.write(Buffer.from("too late")).catch(() => undefined);
    await assert.rejects(here.closed, { code: "StreamReset", reason: "TokenEnded" });
    await assert.rejects(there.closed, { code: "TokenRefused" });
    await clock(0);
  });
});

describe("a stream of a device whose token has expired, and which has another", () => {
  before(start);
  after(stop);

  it("goes on", { timeout: 300_000 }, async (t) => {
    const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
    others.accept("mine/x", publicKeyOf(own.secretKey));
    const streaming = { transport: "websocket", receive: "streams" } as const;
    const scope = "connect receive send:* stream:*";
    const address = "theirs/x";
    const exp = Math.floor(Date.now() / 1000) + 600;
    const serving = await device(t, {
      ...streaming,
      address,
      keyring: others,
      token: await issued(second, { address, scope }),
    });
    serving.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    let token = await issued(first, { address: "mine/x", scope, exp });
    const reconnects: string[] = [];
    const onReconnect = (error: Error) => reconnects.push(error.message);
    const dialing = await device(t, { ...streaming, address: "mine/x", keyring: own, token: () => token, onReconnect });
    const stream = await dialing.dial(address, "echo");
    const [writer, reader] = [stream.writable.getWriter(), stream.readable.getReader()];
    token = await issued(first, { address: "mine/x", scope, exp: exp + 3600 });
    await clock(700_000);
    await writer.write(Buffer.from("still there"));
    assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), "still there");
    assert.match(reconnects.join(), /\[TokenExpired\]/);
    await clock(0);
  });
});

describe("a virtual connection with a renewed token", () => {
  before(start);
  after(stop);

  for (const [where, begin] of [
    ["by a header", (byHand: ByHand, token: string) => byHand.connect(bearer(token))],
    ["in Connect", (byHand: ByHand, token: string) => byHand.connect({}, token)],
  ] as const) {
    it(`lives as long as that token when the first was sent ${where}, even across hibernation`, async () => {
      const address = `${where.replaceAll(" ", "-")}/x`;
      const soon = Math.floor(Date.now() / 1000) + 600;
      const old = await issued(first, { address, jti: `old ${where}`, exp: soon });
      const renewed = await issued(first, { address, jti: `renewed ${where}` });
      const byHand = await begin(new ByHand(edge, url(address)), old);
      assert.equal(await byHand.noop(bearer(renewed)), "ok");
      operator.revoke(`old ${where}`);
      await clock(CONNECTED_AGE + 2000);
      const headers = where === "in Connect" ? {} : bearer(renewed);
      assert.equal(await byHand.noop(headers), "ok", "the first is revoked");
      // It hibernates once it has been idle for a while, by the platform's own timers.
      await sleep(REST_AFTER + 2000);
      await edge.miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name: byHand.guid });
      await clock(1000_000);
      assert.equal(await byHand.noop(headers), "ok", "the first has expired");
      operator.revoke(`renewed ${where}`);
      await clock(1100_000);
      assert.equal(await byHand.noop(headers), "TokenRevoked");
      await clock(0);
    });
  }
});

describe("a list that cannot be fetched", () => {
  before(start);
  after(stop);

  it("stays valid for an hour; then nobody is admitted or served until it is back", {
    timeout: 300_000,
  }, async (t) => {
    const address = "stays/x";
    const reconnects: string[] = [];
    const token = await issued(first, { address, exp: Math.floor(Date.now() / 1000) + 24 * 3600 });
    const onReconnect = (error: Error) => reconnects.push(error.message);
    const stays = await device(t, { address, transport: "websocket", token, onReconnect });
    const talk = async (text: string) => {
      await stays.send(address, text);
      assert.equal((await receive(stays, 1))[0]?.text(), text);
    };
    await talk("with a list");
    operator.fail(true);
    await clock(STALE - CONNECTED_AGE - 10_000);
    await talk("with an old one");
    assert.deepEqual(reconnects, []);
    assert.equal(await knockAt(edge, target("KeepAlive"), bearer(token)), "ok");
    await clock(3600_000);
    const late = stays.send(address, "when it is back");
    await until("it is put out", () => reconnects.length > 0);
    assert.match(reconnects.join(), /\[KeysUnavailable\]$/);
    assert.equal(await knockAt(edge, target("KeepAlive"), bearer(token)), "KeysUnavailable");
    assert.equal(await waiting(url(address)), 0, "nothing was taken");
    operator.fail(false);
    await clock(3700_000);
    await late;
    assert.equal((await receive(stays, 1))[0]?.text(), "when it is back");
  });
});

describe("a token check", () => {
  before(start);
  after(stop);

  it("is shared by a burst: many connections fetch the list once", async () => {
    const token = await issued(first);
    assert.equal(await knockAt(edge, target("KeepAlive"), bearer(token)), "ok");
    operator.slow(100);
    await clock(CONNECTING_AGE);
    const before = operator.asked;
    const knocks = await Promise.all(
      Array.from({ length: 30 }, () => knockAt(edge, target("KeepAlive"), bearer(token))),
    );
    assert.deepEqual(new Set(knocks), new Set(["ok"]));
    assert.equal(operator.asked - before, 2, "the key set and the list");
  });
});

it("responses and logs contain no token or key", () => {
  assertSecretsKept(first, second);
});
