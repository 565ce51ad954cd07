/** Both ends of a link prove that they share a secret; without it nothing is delivered, by any way. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { newLinkSecret } from "../../../src/auth/relay-proof.ts";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { Device } from "../../../src/device/index.ts";
import { type Relay, startRelay } from "../../../src/relay/index.ts";
import { accountURL, ConnectCloseReasonId, relayURL } from "../../../src/sstp/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { ed25519, jwks } from "../issuer.ts";
import { fresh, mailboxOf, RawClient, receive, startEdge, until } from "../mailbox/support.ts";
import { ScriptedRelay, say } from "../scripted-relay.ts";
import { atEdge, atRelay, type Context, edgeFor, type LinkStub, linkOf } from "./link-support.ts";

const SECRET = newLinkSecret();

async function relayFor(t: Context, linkSecrets?: string): Promise<Relay> {
  const relay = await startRelay({
    port: await freePort("127.0.0.1", 0),
    names: ["127.0.0.1"],
    ...(linkSecrets !== undefined && { linkSecrets }),
  });
  t.after(() => relay.close());
  return relay;
}

/** The outcome of a message from a device at the edge to one behind a relay on this machine. */
async function attempt(t: Context, edge: InspectedEdge, port: number): Promise<LinkStub> {
  const alice = await atEdge(t, edge, `${fresh("alice")}/pc`);
  await alice.send(`bob/pc@127.0.0.1:${port}`, "confidential");
  return linkOf(edge, port);
}

async function assertUnproven(edge: InspectedEdge, port: number, link: LinkStub): Promise<void> {
  await until("it is known why", async () => (await link.status()).reason === "RelayNotProven");
  assert.equal((await link.status()).connected, false);
  assert.equal((await (await mailboxOf(edge, `grooveDNS://127.0.0.1:${port}`)).status()).messages, 1);
}

describe("a link with a shared secret", () => {
  it("carries messages in both directions", async (t) => {
    const relay = await relayFor(t, `localhost=${SECRET}`);
    const edge = await edgeFor(t, [relay.port], { linkSecrets: `127.0.0.1:${relay.port}=${SECRET}` });
    const alice = await atEdge(t, edge, "alice/pc");
    const bob = await atRelay(t, relay.port, "bob/pc");
    await alice.send(`bob/pc@127.0.0.1:${relay.port}`, "there");
    assert.equal((await receive(bob, 1))[0]?.text(), "there");
    await bob.send("alice/pc@localhost", "and back");
    assert.equal((await receive(alice, 1))[0]?.text(), "and back");
  });

  it("keeps working while the secret is rotated, one end at a time", async (t) => {
    const next = newLinkSecret();
    const relay = await relayFor(t, `localhost=${next} localhost=${SECRET}`);
    const edge = await edgeFor(t, [relay.port], {
      linkSecrets: `127.0.0.1:${relay.port}=${SECRET} 127.0.0.1:${relay.port}=${next}`,
    });
    const bob = await atRelay(t, relay.port, "bob/pc");
    await attempt(t, edge, relay.port);
    assert.equal((await receive(bob, 1))[0]?.text(), "confidential");
  });

  for (const [what, atRelaySecrets, atEdgeSecret] of [
    ["the relay has another secret", `localhost=${newLinkSecret()}`, SECRET],
    ["the relay has no secret and requires none", undefined, SECRET],
    ["the relay accepts this edge without a secret, but the edge requires one", "localhost=none", SECRET],
    ["the edge has no secret", `localhost=${SECRET}`, undefined],
    ["the relay has only a secret for another edge", `other.example.com=${SECRET}`, undefined],
  ] as const) {
    it(`is not opened when ${what}, and nothing is delivered`, async (t) => {
      const relay = await relayFor(t, atRelaySecrets);
      const linkSecrets = atEdgeSecret && `127.0.0.1:${relay.port}=${atEdgeSecret}`;
      const edge = await edgeFor(t, [relay.port], { ...(linkSecrets && { linkSecrets }) });
      await assertUnproven(edge, relay.port, await attempt(t, edge, relay.port));
      assert.equal(relay.waiting("grooveDevice://bob/pc").messages, 0);
    });
  }

  it("neither takes from nor gives to an impostor of the relay", async (t) => {
    const impostor = await ScriptedRelay.start();
    t.after(() => impostor.close());
    const port = Number(impostor.name.split(":")[1]);
    const edge = await edgeFor(t, [port], { linkSecrets: `${impostor.name}=${SECRET}` });
    const victim = `${fresh("victim")}/pc`;
    const [identity = ""] = victim.split("/");
    impostor.plan(async (line) => {
      await line.expect("Connect");
      // Two commands in one segment, so that the edge has no time to reject the first.
      line.send(
        say.connectResponse(0),
        say.open(2, "message", `grooveIdentity://${identity}`, `grooveDevice://${victim}`),
      );
      await line.dropped(ConnectCloseReasonId.ProtocolError);
    });
    await assertUnproven(edge, port, await attempt(t, edge, port));
    assert.deepEqual([impostor.failures, impostor.texts], [[], []]);
  });

  it("can connect over HTTP to another edge that requires tokens", async (t) => {
    const issuer = await ed25519();
    const there = await startEdge(t, {
      relayName: "127.0.0.1",
      keys: jwks(issuer),
      linkSecrets: `localhost=${SECRET}`,
    });
    const port = Number(new URL(there.url).port);
    const options = { relayAllow: ["127.0.0.1", `127.0.0.1:${port}`], linkWays: `http:${port}` };
    const edge = await edgeFor(t, [], { ...options, linkSecrets: `127.0.0.1=${SECRET}` });
    const token = await issuer.issue({ address: "bob/pc" });
    const bob = await Device.connect({ edge: there.url, address: "bob/pc", transport: "websocket", token });
    t.after(() => bob.close());
    const alice = await atEdge(t, edge, "alice/pc");
    await alice.send("bob/pc@127.0.0.1", "over HTTP");
    assert.equal((await receive(bob, 1))[0]?.text(), "over HTTP");

    const stranger = await edgeFor(t, [], { ...options, linkSecrets: `127.0.0.1=${newLinkSecret()}` });
    const mallory = await atEdge(t, stranger, "mallory/pc");
    await mallory.send("bob/pc@127.0.0.1", "not to be had");
    const namespace = await stranger.miniflare.getDurableObjectNamespace("LINK");
    const link = namespace.getByName("grooveDNS://127.0.0.1") as unknown as LinkStub;
    await until("it is known why", async () => (await link.status()).reason === "RelayNotProven");
  });
});

describe("a link without TLS", () => {
  it("is never opened across the public internet, with or without a secret", async (t) => {
    const name = "63.209.254.7:9";
    for (const linkSecrets of ["", `${name}=${SECRET}`]) {
      // With DEV=private the resolved address is checked, and this one is never dialled.
      const edge = await edgeFor(t, [], { relayAllow: [name], linkSecrets });
      const alice = await atEdge(t, edge, "alice/pc");
      await alice.send(`bob/pc@${name}`, "confidential");
      const namespace = await edge.miniflare.getDurableObjectNamespace("LINK");
      const link = namespace.getByName(relayURL(name)) as unknown as LinkStub;
      await until("it is known why", async () => (await link.status()).reason === "LinkInClear");
    }
  });
});

describe("a client that connects to an edge as a relay", () => {
  /** A raw client that identifies itself with these URLs. */
  const client = async (t: Context, edge: InspectedEdge, sources: readonly string[]) => {
    const raw = new RawClient(
      edge,
      "websocket",
      sources[0] ?? "",
      { role: "relay", localDeviceURLs: sources },
      "localhost",
    );
    t.after(async () => raw.close());
    raw.connect("localhost");
    return raw;
  };

  it("needs the secret for that name, and gets no waiting messages without it", async (t) => {
    const relay = await relayFor(t);
    const name = `127.0.0.1:${relay.port}`;
    await relay.close();
    const edge = await edgeFor(t, [relay.port], { linkSecrets: `${name}=${SECRET}` });
    await attempt(t, edge, relay.port);
    for (const sources of [
      [relayURL(name)],
      [relayURL(name), "grooveDevice://mallory/pc"],
      ["grooveDevice://mallory/pc", relayURL(name)],
    ]) {
      const mallory = await client(t, edge, sources);
      const { token } = await mallory.event("refused");
      assert.equal(Buffer.from(token).toString(), "RelayNotProven");
    }
    assert.equal((await (await mailboxOf(edge, relayURL(name))).status()).messages, 1);
  });

  it("may address only peers of the edge, and may not attach an account", async (t) => {
    const edge = await edgeFor(t, [9]);
    const relay = await client(t, edge, ["grooveDNS://relay.example.com"]);
    await relay.event("connected");
    const entry = (identityURL: string, deviceURL = "", at = "") => ({ identityURL, deviceURL, relayURL: at });
    const session = relay.engine.openFanout({
      resourceURL: "message",
      entries: [
        entry("grooveIdentity://bob", "grooveDevice://bob/pc"),
        entry("grooveDNS://127.0.0.1:9"),
        entry("grooveIdentity://bob", "grooveDNS://127.0.0.1:9"),
        entry("grooveIdentity://bob", "grooveDevice://alice/pc"),
        entry("grooveAccount://bob"),
        entry("apphandler"),
        entry("grooveIdentity://bob", "", "grooveDNS://127.0.0.1:9"),
      ],
    });
    relay.flush();
    await relay.event("sessionState", ({ sessionId }) => sessionId === session);
    const locked = await relay.event("sessionStatus", ({ statusId }) => statusId === 5);
    assert.deepEqual(locked.indexes, [1, 2, 3, 4, 5]);
    assert.deepEqual((await relay.event("sessionStatus", ({ statusId }) => statusId === 2)).indexes, [6]);
    relay.engine.attach({ accountURL: accountURL({ identity: "bob" }) });
    relay.flush();
    assert.equal((await relay.event("sessionClosed")).kind, "attach");
  });

  it("may not have more recipients in one session than allowed", async (t) => {
    const edge = await edgeFor(t, []);
    const relay = await client(t, edge, ["grooveDNS://relay.example.com"]);
    await relay.event("connected");
    relay.engine.openFanout({
      resourceURL: "message",
      entries: Array.from({ length: 1002 }, (_, n) => ({
        identityURL: `grooveIdentity://bob${n}`,
        deviceURL: "",
        relayURL: "",
      })),
    });
    relay.flush();
    const status = await relay.event("sessionStatus");
    assert.deepEqual([status.statusId, status.indexes], [4, [1000, 1001]]);
  });
});

describe("a device at an open edge", () => {
  it("cannot address a relay or an account, and so creates no unread mailbox", async (t) => {
    const edge = await edgeFor(t, [9]);
    const alice = new RawClient(edge, "websocket", "grooveDevice://alice/pc", {}, "localhost");
    t.after(async () => alice.close());
    alice.connect("localhost");
    await alice.event("connected");
    for (const [identityURL, deviceURL] of [
      ["grooveDNS://127.0.0.1:9", ""],
      ["grooveIdentity://bob", "GrooveDNS://127.0.0.1:9"],
      ["grooveAccount://bob", ""],
    ] as const) {
      const session = alice.engine.open({ resourceURL: "message", identityURL, deviceURL });
      alice.flush();
      await alice.event("sessionRefused", ({ sessionId }) => sessionId === session);
    }
  });
});
