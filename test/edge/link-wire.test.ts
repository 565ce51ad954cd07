/**
 * What a Link says to an origin relay, and what it makes of all that a relay may answer. The relay is a script that
 * shares no code with the edge.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { LocalEdge } from "../../src/cli/local-edge.ts";
import { Device } from "../../src/device/index.ts";
import type { LinkStatus } from "../../src/edge/link.ts";
import { fresh, mailboxOf, startEdge, until } from "../mailbox/support.ts";
import { type Line, type Script, ScriptedRelay, say } from "./scripted-relay.ts";

const EDGE = "grooveDNS://localhost";
/** Each test has a relay of its own: the edge must know them all before it starts. */
const RELAYS = 110;
/** Tests wait for one another's pauses, not for one another. */
const TOGETHER = 12;

let edge: LocalEdge;
const relays: ScriptedRelay[] = [];
const unused: ScriptedRelay[] = [];
const closing: (() => Promise<unknown>)[] = [];

before(async () => {
  relays.push(...(await Promise.all(Array.from({ length: RELAYS }, () => ScriptedRelay.start()))));
  unused.push(...relays);
  edge = await startEdge(
    { after: (run) => closing.push(run) },
    { relayAllow: relays.map(({ name }) => name), relayName: "localhost" },
  );
});

after(async () => {
  for (const close of closing.reverse()) await close();
  await Promise.all(relays.map((relay) => relay.close()));
});

/** A relay that nobody has used, with what it is to do. */
function relayThat(...scripts: Script[]): ScriptedRelay {
  const relay = unused.pop();
  assert.ok(relay !== undefined, "there are enough relays");
  relay.plan(...scripts);
  return relay;
}

async function device(identity = fresh("alice")): Promise<Device> {
  const url = edge.url.replace("127.0.0.1", "localhost");
  const device = await Device.connect({ edge: url, address: `${identity}/pc`, transport: "websocket" });
  closing.push(() => device.close());
  return device;
}

async function outbox(relay: ScriptedRelay) {
  return (await mailboxOf(edge, relay.url)).status();
}

async function link(relay: ScriptedRelay): Promise<LinkStatus> {
  const namespace = await edge.miniflare.getDurableObjectNamespace("LINK");
  const stub = namespace.get(namespace.idFromName(relay.url)) as unknown as { status(): Promise<LinkStatus> };
  return stub.status();
}

/** Waits until the relay has been given all that it is to have, and nothing waits for it. */
async function settled(relay: ScriptedRelay): Promise<void> {
  await until(`${relay.name} is given everything; it has ${relay.texts}; ${relay.failures}`, async () => {
    assert.deepEqual(relay.failures, []);
    return (await outbox(relay)).messages === 0;
  });
}

/** Reads to the end of a connection: its ConnectClose must have that reason; undefined for an end without. */
async function endsWith(line: Line, reasonId: number | undefined): Promise<void> {
  const said = await line.toEnd();
  const last = said.at(-1);
  assert.equal(last?.command === "ConnectClose" ? last.reasonId : undefined, reasonId, JSON.stringify(said));
}

// ---------------------------------------------------------------------------------------------------- ordinary traffic

it("connects as a relay, once for all recipients and sessions, and gives every message whole", async () => {
  const lengths = [0, 1, 2047, 2048, 2049, 100_000, 1024 * 1024];
  const bodies = lengths.map((length) => Buffer.alloc(length, `${length}`));
  const relay = relayThat(async (line) => {
    const connect = await line.establish();
    assert.deepEqual(connect, { command: "Connect", version: [1, 6], target: relay.url, sources: [EDGE] });
  });
  const alice = await device();
  for (const [n, body] of bodies.entries()) await alice.send(`bob${n % 3}/pc@${relay.name}`, body);
  await alice.send(`carol@${relay.name}`, "to an identity", { resource: "apphandler" });
  await settled(relay);
  assert.equal(relay.lines.length, 1);
  assert.equal(relay.lines[0]?.sessions.size, 4, "one session for each recipient");
  for (const [n, body] of bodies.entries()) {
    const taken = relay.taken[n];
    assert.ok(taken?.body.equals(body), `body ${n}`);
    assert.equal(taken.resource, "message");
    assert.equal(taken.flags & 0x01, 0, "not flag D");
    const to = { identity: `grooveIdentity://bob${n % 3}`, device: `grooveDevice://bob${n % 3}/pc` };
    assert.deepEqual(taken.entries, [{ ...to, relay: relay.url, failover: "" }]);
  }
  const last = relay.taken.at(-1);
  assert.equal(last?.resource, "apphandler");
  assert.deepEqual(last.entries, [{ identity: "grooveIdentity://carol", device: "", relay: relay.url, failover: "" }]);
  assert.equal((await link(relay)).connected, true);
});

// -------------------------------------------------------------------------------------------------------- connections

/** What a relay does on its first connection, or its first few; what comes after them is taken. */
interface Breach {
  readonly name: string;
  readonly on: Script | readonly Script[];
}

const CONNECT_RESPONSES = {
  WrongDevice: 1,
  TryLater: 2,
  WillUpgrade: 3,
  WontUpgrade: 4,
  NewVersionRequired: 5,
  AuthenticationFailed: 6,
  "unknown 7": 7,
  "unknown 8": 8,
  ConnectRejected: 9,
  "unknown 255": 255,
};

const breaches: Breach[] = [
  ...Object.entries(CONNECT_RESPONSES).map(([name, responseId]) => ({
    name: `ConnectResponse ${name}`,
    on: async (line: Line) => {
      await line.expect("Connect");
      line.send(say.connectResponse(responseId));
      await endsWith(line, undefined);
    },
  })),
];

describe("what ends a connection costs no message", { concurrency: TOGETHER }, () => {
  for (const { name, on } of breaches) {
    it(name, async () => {
      const scripts = [on].flat();
      const relay = relayThat(...scripts);
      const alice = await device();
      for (const text of ["1", "2", "3"]) await alice.send(`bob${text}/pc@${relay.name}`, text);
      await settled(relay);
      assert.deepEqual(relay.texts, ["1", "2", "3"]);
      assert.equal(relay.lines.length, scripts.length + 1, "the one after it stays");
      assert.equal((await outbox(relay)).dropped.RefusedByPeer, 0);
      assert.equal((await link(relay)).connected, true);
    });
  }
});

// ----------------------------------------------------------------------------------------------------------- sessions

const OPEN_REFUSALS = { NoResource: 4, Unknown: 5, NoFanoutEntries: 8, FanoutNotSupported: 12, "unknown 1": 1 };

describe("a recipient that is refused does not stop the others", { concurrency: TOGETHER }, () => {
  for (const [name, responseId] of Object.entries(OPEN_REFUSALS)) {
    it(`OpenResponse ${name}`, async () => {
      const relay = relayThat(async (line) => {
        await line.establish();
        const { session } = await line.opened();
        line.send(say.openResponse(session, responseId));
      });
      const alice = await device();
      await alice.send(`mallory/pc@${relay.name}`, "refused");
      await alice.send(`bob/pc@${relay.name}`, "1");
      await alice.send(`carol/pc@${relay.name}`, "2");
      await settled(relay);
      assert.deepEqual(relay.texts, ["1", "2"]);
      assert.equal(relay.lines.length, 1);
      assert.equal((await outbox(relay)).dropped.RefusedByPeer, 1);
    });
  }
});
