/** The owner of a virtual connection. */

import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CLOCK_TOLERANCE, CONNECTED_AGE } from "../../../src/auth/limits.ts";
import type { Device, DeviceOptions, TransportName } from "../../../src/device/index.ts";
import { ECHO_TEXT, formatPoll } from "../../../src/encapsulation/index.ts";
import { startRelay } from "../../../src/relay/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { AUDIENCE, type Claims, ed25519 } from "../issuer.ts";
import { ByHand } from "../keepalive-by-hand.ts";
import { mailboxOf, RawClient, receive, TRANSPORTS, tunnelOf, until } from "../mailbox/support.ts";
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

const issuer = await ed25519("first");
let relay: Awaited<ReturnType<typeof startRelay>>;
let operator: Operator;
let edge: InspectedEdge;

before(async () => {
  relay = await startRelay({ port: 0 });
  operator = await startOperator(issuer);
  edge = await startAsking({ ...operator.settings, relayAllow: [`127.0.0.1:${relay.port}`] });
});

after(async () => {
  await edge.close();
  await relay.close();
  operator.close();
});

function issue(claims: Claims): Promise<string> {
  return issued(issuer, claims);
}

function device(t: TestContext, options: Partial<DeviceOptions>): Promise<Device> {
  return deviceAt(t, edge, options);
}

/** The GUID of a device's virtual connection. */
async function guidOf(address: string): Promise<string> {
  const { consumer } = await (await mailboxOf(edge, `grooveDevice://${address}`)).status();
  assert(consumer !== undefined);
  return consumer;
}

let strangers = 0;

/** Everything a stranger may try with a GUID, and the outcomes. Each try has its own source address and misses. */
async function intrude(guid: string, shown: Record<string, string>): Promise<Set<string>> {
  strangers += 1;
  const headers = { ...shown, "X-Forwarded-For": `203.0.113.${strangers}` };
  const outcomes = new Set<string>();
  for (const kind of ["KeepAlive", "LongLived"] as const) {
    const url = `${edge.url}${target(kind, AUDIENCE, guid)}`;
    outcomes.add(await refusal(await fetch(url, { headers })));
    for (const body of [ECHO_TEXT, "octets"])
      outcomes.add(await refusal(await fetch(url, { method: "POST", body, headers })));
  }
  for (const sequence of [0, 1, 2, 7]) {
    const body = formatPoll({ relay: AUDIENCE, guid, sequence, data: [] });
    outcomes.add(await refusal(await fetch(edge.url, { method: "POST", body, headers })));
  }
  outcomes.add(await upgrade(edge, target("WebSocket", AUDIENCE, guid), headers));
  // A stranger cannot end the connection with a request that is too long.
  const long = { method: "POST", body: "x".repeat(40_000), headers };
  outcomes.add(await refusal(await fetch(`${edge.url}${target("KeepAlive", AUDIENCE, guid)}`, long)));
  return outcomes;
}

describe("a virtual connection", () => {
  it("belongs to its owner from the first request: to others it does not exist", async () => {
    const [mine, other] = [await issue({}), await issue({ address: "*", scope: "connect receive send:* admin" })];
    const path = target("KeepAlive");
    assert.equal(await knockAt(edge, path, bearer(mine)), "ok");
    const ask = async (at: string, headers: Record<string, string>) => {
      const answer = await fetch(`${edge.url}${at}`, { method: "POST", body: "octets", headers });
      const text = await answer.text();
      said.push(text);
      return { status: answer.status, text, reason: answer.headers.get("grooveway-reason") };
    };
    const unknown = await ask(target("KeepAlive"), bearer(other));
    assert.equal(unknown.reason, "UnknownConnection");
    for (const headers of [bearer(other), {}]) assert.deepEqual(await ask(path, headers), unknown);
    const guid = /([^/]*),ConnType/.exec(path)?.[1] ?? "";
    for (const headers of [bearer(other), {}]) {
      assert.deepEqual(await intrude(guid, headers), new Set(["UnknownConnection"]));
    }
    // The owner is unaffected: the handshake continues where it was.
    const get = await fetch(`${edge.url}${path}`, { headers: bearer(mine) });
    assert.equal(await get.text(), ECHO_TEXT);
  });

  for (const transport of TRANSPORTS) {
    it(`over ${transport} survives strangers that try its GUID, even across hibernation`, {
      timeout: 300_000,
    }, async (t) => {
      const address = `owner-${transport}/x`;
      const lost: string[] = [];
      const token = await issue({ address });
      const onReconnect = (error: Error) => lost.push(error.message);
      const owner = await device(t, { address, transport, token, onReconnect });
      const guid = await guidOf(address);
      const strangers = [bearer(await issue({ address: "*" })), {}];
      for (const headers of strangers) assert.deepEqual(await intrude(guid, headers), new Set(["UnknownConnection"]));
      const talk = async (text: string) => {
        await owner.send(address, text);
        assert.equal((await receive(owner, 1))[0]?.text(), text);
      };
      await talk("to myself");
      if (transport === "websocket" || transport === "longlived") {
        // Long enough for it to save what it needs for hibernation.
        await sleep(2000);
        const evicted = Date.now();
        await edge.miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name: guid });
        for (const headers of strangers) assert.deepEqual(await intrude(guid, headers), new Set(["UnknownConnection"]));
        assert((await (await tunnelOf(edge, guid)).status()).since >= evicted, "its object was recreated");
        await talk("after sleep");
      }
      assert.deepEqual(lost, [], "it is the same virtual connection");
    });
  }

  for (const transport of ["websocket", "polling"] as const) {
    it(`over ${transport} cannot be restarted with another transport, nor after its end`, async (t) => {
      const address = `once-${transport}/x`;
      const token = await issue({ address });
      const owner = await device(t, { address, transport, token });
      const guid = await guidOf(address);
      const again = async () => [
        await refusal(await fetch(edge.url + target("KeepAlive", AUDIENCE, guid), { headers: bearer(token) })),
        await knockAt(edge, target("LongLived", AUDIENCE, guid), bearer(token)),
        await upgrade(edge, target("WebSocket", AUDIENCE, guid), bearer(token)),
      ];
      assert.deepEqual(await again(), Array(3).fill("DuplicateConnection"));
      await owner.send(address, "still here");
      assert.equal((await receive(owner, 1))[0]?.text(), "still here");
      await owner.close();
      const tunnel = await tunnelOf(edge, guid);
      await until("it is over", async () => !(await tunnel.status()).live);
      const { ended } = await tunnel.status();
      assert.deepEqual(await again(), Array(3).fill(ended));
    });
  }

  it("with a token in Connect also accepts requests with that token in a header", async () => {
    const [address, sub] = ["inside/x", "inside"];
    const [mine, renewed] = [await issue({ address, sub }), await issue({ address, sub })];
    const others = [
      await issue({ address: "*", sub }),
      await issue({ address, sub: "somebody" }),
      await issue({ address, sub, scope: "connect receive send:* admin" }),
    ];
    const byHand = new ByHand(edge, `grooveDevice://${address}`);
    const before = target("KeepAlive", AUDIENCE, byHand.guid);
    await byHand.connect({}, mine);
    for (const headers of [bearer(mine), {}, bearer(renewed), bearer(mine), {}]) {
      assert.equal(await byHand.noop(headers), "ok");
    }
    for (const other of others) {
      assert.equal(await knockAt(edge, before, bearer(other)), "UnknownConnection");
    }
    assert.equal(await byHand.noop(bearer(mine)), "ok", "it is unaffected");
  });

  it("continues with a token renewed by its issuer, and with none that grants anything else", async () => {
    const [address, sub] = ["renewed/x", "renewed"];
    const [mine, renewed] = [await issue({ address, sub }), await issue({ address, sub })];
    const byHand = await new ByHand(edge, `grooveDevice://${address}`).connect(bearer(mine));
    for (const token of [renewed, mine, renewed]) assert.equal(await byHand.noop(bearer(token)), "ok");
    const strangers = [{}, bearer(await issue({ address, sub, scope: "connect" })), bearer(await issue({ address }))];
    for (const headers of strangers) {
      assert.equal(await knockAt(edge, target("KeepAlive", AUDIENCE, byHand.guid), headers), "UnknownConnection");
    }
    assert.equal(await byHand.noop(bearer(mine)), "ok");
  });

  it("without a token in its requests belongs to anyone without a token", async (t) => {
    const path = target("KeepAlive");
    assert.equal(await knockAt(edge, path, {}), "ok");
    const guid = /([^/]*),ConnType/.exec(path)?.[1] ?? "";
    const stranger = bearer(await issue({ address: "*" }));
    assert.deepEqual(await intrude(guid, stranger), new Set(["UnknownConnection"]));
    const get = await fetch(`${edge.url}${path}`);
    assert.equal(await get.text(), ECHO_TEXT);
    t.diagnostic("the handshake goes on");
  });
});

/** Waits until a device that keeps sending has ended, and returns the error. */
async function ending(device: Device, to: string, patience: number): Promise<Error & { code?: string }> {
  const until = Date.now() + patience;
  const ended = (async () => {
    for await (const message of device.messages()) message.done();
  })().then(
    () => new Error("closed"),
    (error: Error) => error,
  );
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!over && Date.now() < until) {
    await device.send(to, "still here").catch(() => undefined);
    await sleep(500);
  }
  assert(over, "it ends");
  return ended;
}

const WAYS: readonly (readonly [string, { readonly transport: TransportName; readonly relay?: () => string }])[] = [
  ...TRANSPORTS.map((transport) => [transport, { transport }] as const),
  ["longlived to a relay", { transport: "longlived", relay: () => `127.0.0.1:${relay.port}` }],
  ["keepalive to a relay", { transport: "keepalive", relay: () => `127.0.0.1:${relay.port}` }],
];

describe("a token that expires while its device is connected", { concurrency: true }, () => {
  /** Enough seconds for all these devices to connect at once on a busy machine. */
  const soon = () => Math.floor((Date.now() - CLOCK_TOLERANCE) / 1000) + 10;
  for (const [way, { transport, relay: through }] of WAYS) {
    it(`over ${way} ends the connection, and an old token opens no other`, { timeout: 300_000 }, async (t) => {
      const address = `short-${way.replaceAll(" ", "-")}/x`;
      const lost: string[] = [];
      const short = await device(t, {
        address,
        transport,
        ...(through && { relay: through() }),
        token: await issue({ address, exp: soon() }),
        onReconnect: (error) => lost.push(error.message),
      });
      const error = await ending(short, address, 40_000);
      assert.equal(error.code, "TokenRefused");
      assert.match(error.message, /\[TokenExpired\]$/);
      assert.deepEqual(lost, [], "it does not try the token again");
    });
  }

  it("is replaced by one that the device gets", { timeout: 300_000 }, async (t) => {
    let given = 0;
    const renewing = await device(t, {
      address: "renewing/x",
      token: () => {
        given += 1;
        return issue({ address: "renewing/x", ...(given === 1 && { exp: soon() }) });
      },
    });
    await until("a second token was asked for", async () => {
      await renewing.send("renewing/x", "go on");
      return given > 1;
    });
    await renewing.send("renewing/x", "with the second");
  });

  it("that was sent in Connect ends the connection as well", { timeout: 300_000 }, async (t) => {
    const raw = new RawClient(edge, "websocket", "grooveDevice://short-raw/x");
    t.after(() => raw.close());
    raw.connect(AUDIENCE, await issue({ address: "short-raw/x", exp: soon() }));
    await raw.event("connected");
    await until("it ends", () => {
      if (raw.engine.closed !== undefined) return true;
      raw.engine.noop();
      raw.flush();
      return false;
    });
    assert.equal(raw.lost, "TokenExpired");
  });
});

describe("a token that is revoked while its device is connected", { concurrency: true }, () => {
  const patience = CONNECTED_AGE + 15_000;
  for (const [way, { transport, relay: through }] of WAYS) {
    it(`over ${way} ends the connection within a minute`, { timeout: patience + 120_000 }, async (t) => {
      const address = `out-${way.replaceAll(" ", "-")}/x`;
      const out = await device(t, {
        address,
        transport,
        ...(through && { relay: through() }),
        token: await issue({ address, jti: address }),
      });
      const stays = await device(t, {
        address: `stays-${address}`,
        token: await issue({ address: `stays-${address}` }),
      });
      operator.revoke(address);
      const error = await ending(out, address, Math.min(patience, 60_000));
      assert.equal(error.code, "TokenRefused");
      assert.match(error.message, /\[TokenRevoked\]$/);
      await stays.send("anybody", "others stay");
    });
  }
});

it("responses and logs contain no token or key", () => {
  assertSecretsKept(issuer);
});

describe("two owners that start at the same moment", () => {
  it("do not share a connection: one's POST is not paired with the other's GET", async () => {
    const [one, other] = await Promise.all(
      ["alice/pc", "mallory/pc"].map((address) => issue({ address, scope: "connect receive" })),
    );
    const refusals = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const url = `${edge.url}${target("KeepAlive", AUDIENCE, newGuid())}`;
        // An accepted request is held until the other half of its own handshake arrives, and need not be awaited.
        const ask = async (method: string, token: string | undefined) => {
          const signal = AbortSignal.timeout(2000);
          const headers = bearer(token ?? "");
          const body = method === "POST" ? ECHO_TEXT : null;
          return fetch(url, { method, headers, body, signal }).then(refusal, () => "held");
        };
        return Promise.all([ask("GET", one), ask("POST", other)]);
      }),
    );
    for (const both of refusals) assert.ok(both.includes("UnknownConnection"), both.join(" and "));
  });
});
