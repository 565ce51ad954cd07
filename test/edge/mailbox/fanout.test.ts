/** Fanout: one message to many mailboxes of this edge, acknowledged once, with refusals reported by recipient. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import {
  decode,
  type SessionStatus,
  SessionStatusId,
  VERSION_1_5,
  VERSION_1_6,
  type Version,
} from "../../../src/sstp/index.ts";
import type { Mail } from "../../../src/store-and-forward/envelope.ts";
import { QUOTA } from "../../../src/store-and-forward/sender-share.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { statusOf } from "../../torture/lossy.ts";
import { ADMIN_TOKEN } from "../../torture/support.ts";
import {
  afterAll,
  connect,
  type MailboxStub,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  TRANSPORTS,
  until,
} from "./support.ts";

const ENTRIES = 1000;
const FULL = 10;
const LOCKED = 10;

const urls = Array.from({ length: ENTRIES }, (_, i) => `grooveDevice://peer${i}/pc`);
const full = Array.from({ length: FULL }, (_, i) => i * 90 + 5);
const locked = Array.from({ length: LOCKED }, (_, i) => i * 90 + 50);

describe("fanout", () => {
  let edge: InspectedEdge;
  const all = afterAll();
  before(async () => {
    edge = await startEdge(all, { adminToken: ADMIN_TOKEN });
    for (const index of full) await fill(await mailboxOf(edge, urls[index] ?? ""));
    for (const index of locked) await (await mailboxOf(edge, urls[index] ?? "")).setLocked(true);
  });

  for (const [round, version] of [VERSION_1_5, VERSION_1_6].entries()) {
    it(`reaches ${ENTRIES - FULL - LOCKED} of ${ENTRIES} mailboxes and reports the others, in version 1.${version.minor}`, {
      timeout: 1_000_000,
    }, async (t) => {
      const transport = TRANSPORTS[round] ?? "websocket";
      const client = await RawClient.open(edge, transport, `grooveDevice://alice/v${version.minor}`, undefined, {
        version,
      });
      t.after(() => client.close());
      assert.deepEqual(client.engine.version, version);
      const statuses = statusesOf(client, version);
      const entries = urls.map((deviceURL, i) => ({
        identityURL: `grooveIdentity://peer${i}`,
        deviceURL,
        // A recipient is local if it names this relay or none.
        relayURL: i % 2 === 0 ? "" : "grooveDNS://127.0.0.1",
      }));
      const session = client.engine.openFanout({ resourceURL: "news", entries });
      client.flush();
      await client.event("sessionState", (event) => event.sessionId === session);

      const sentAt = performance.now();
      const first = client.send(session, "to all", { userRef: `first-${version.minor}` });
      // The first round creates a thousand objects and their databases, which the edge does at its own pace.
      await client.event("acknowledged", ({ messages }) => messages.includes(first), 600_000);
      t.diagnostic(`acknowledged after ${Math.round(performance.now() - sentAt)} ms`);
      const second = client.send(session, "to the rest", { userRef: `second-${version.minor}` });
      await client.event("acknowledged", ({ messages }) => messages.includes(second));

      const acknowledged = client.events.flatMap((event) => (event.type === "acknowledged" ? event.messages : []));
      assert.deepEqual(acknowledged, [first, second], "each message is acknowledged once");
      const lost = client.events.flatMap((event) => (event.type === "sessionStatus" ? [event] : []));
      for (const [statusId, indexes] of [
        [SessionStatusId.QuotaWouldBeExceeded, full],
        [SessionStatusId.LockedOut, locked],
      ] as const) {
        const named = lost.filter((event) => event.statusId === statusId).flatMap((event) => event.indexes);
        assert.deepEqual(named, indexes);
      }
      assertForm(statuses, version);

      const wanting = new Set([...full, ...locked]);
      const reached: number[] = [];
      const others: string[] = [];
      for (const [index, messages] of (await waitingAt(edge)).entries()) {
        if (messages === 2 * (round + 1)) reached.push(index);
        else others.push(`${index}: ${messages}`);
      }
      assert.equal(reached.length, ENTRIES - wanting.size, others.slice(0, 30).join(" "));
      assert.ok(reached.every((index) => !wanting.has(index)));
    });
  }

  it("delivers to a device in the sender's order, with each message's resource", async (t) => {
    const one = await connect(edge, "peer7/pc", "keepalive");
    t.after(() => one.close());
    assert.deepEqual(
      (await receive(one, 4)).map((message) => [message.text(), message.resource]),
      ["to all", "to the rest", "to all", "to the rest"].map((text) => [text, "news"]),
    );
  });

  it("reaches identities and devices on one session, and each device once", async (t) => {
    const client = await RawClient.open(edge, "websocket", "grooveDevice://alice/mixed");
    const device = await connect(edge, "olga/pc", "websocket");
    t.after(() => {
      client.close();
      return device.close();
    });
    const to = { identityURL: "grooveIdentity://olga", relayURL: "" };
    const session = client.engine.openFanout({
      resourceURL: "news",
      entries: [
        { ...to, deviceURL: "" },
        { ...to, deviceURL: "grooveDevice://olga/pc" },
        { ...to, deviceURL: "grooveDevice://olga/pc" },
        { ...to, deviceURL: "grooveDevice://olga/absent" },
      ],
    });
    client.flush();
    await client.event("sessionState", (event) => event.sessionId === session);
    const number = client.send(session, "x", { userRef: "mixed" });
    await client.event("acknowledged", ({ messages }) => messages.includes(number));
    assert.equal((await receive(device, 2)).length, 2);
    const absent = await (await mailboxOf(edge, "grooveDevice://olga/absent")).status();
    assert.equal(absent.messages, 1);
    const own = await mailboxOf(edge, "grooveDevice://olga/pc");
    await until("nothing waits", async () => (await own.status()).messages === 0);
    assert.equal((await own.status()).dropped.DuplicateMessage, 0, "the repeated entry was delivered once");
  });

  it("closes the session when no entry is left", async (t) => {
    const client = await RawClient.open(edge, "longlived", "grooveDevice://alice/none");
    t.after(() => client.close());
    const urls = ["grooveDevice://pat/one", "grooveDevice://pat/two"];
    for (const url of urls) await (await mailboxOf(edge, url)).setLocked(true);
    const session = client.engine.openFanout({
      resourceURL: "news",
      entries: urls.map((deviceURL) => ({ identityURL: "grooveIdentity://pat", deviceURL, relayURL: "" })),
    });
    client.flush();
    await client.event("sessionState", (event) => event.sessionId === session);
    const number = client.send(session, "x", { userRef: "none" });
    await client.event("sessionClosed", (event) => event.sessionId === session);
    await client.event("acknowledged", ({ messages }) => messages.includes(number));
    // The connection stays open.
    const next = await client.session("message", "grooveIdentity://quentin");
    const sent = client.send(next, "y");
    await client.event("acknowledged", ({ messages }) => messages.includes(sent));
  });
});

/** Mailboxes that are asked at a time. */
const ASKED = 50;

/** The number of messages that wait in each mailbox. */
async function waitingAt(edge: InspectedEdge): Promise<number[]> {
  const waiting: number[] = [];
  for (let from = 0; from < ENTRIES; from += ASKED) {
    const some = urls.slice(from, from + ASKED).map((url) => statusOf(edge, url.replace("grooveDevice://", "")));
    waiting.push(...(await Promise.all(some)).map(({ messages }) => messages));
  }
  return waiting;
}

/** Fills a mailbox for alice's devices: one sender gets half of it. */
async function fill(mailbox: MailboxStub): Promise<void> {
  const mail: Mail = {
    envelope: {
      source: "grooveDevice://alice/filler",
      resourceURL: "m",
      identityURL: "grooveIdentity://x",
      deviceURL: "",
    },
    fields: { userRef: "", track: false },
    body: new Uint8Array(0),
  };
  const bundle = pack(Array.from({ length: QUOTA.messages / 4 }, () => mail));
  for (let i = 0; i < 2; i += 1)
    assert.equal((await mailbox.append(bundle)).refusals.length, 0, "it accepts all of them");
}

/** The SessionStatus commands as received on the wire. */
function statusesOf(client: RawClient, version: Version): SessionStatus[] {
  const found: SessionStatus[] = [];
  const { engine } = client;
  const taken = engine.receive.bind(engine);
  let held: Uint8Array = new Uint8Array(0);
  engine.receive = (octets, now) => {
    held = new Uint8Array(Buffer.concat([held, octets]));
    try {
      for (const command of decode(held, version)) if (command.command === "SessionStatus") found.push(command);
      held = new Uint8Array(0);
    } catch {
      // A command is truncated: wait for the rest.
    }
    return taken(octets, now);
  };
  return found;
}

/** 1.5 names each recipient by its URLs; 1.6 names several by index, in one command. */
function assertForm(statuses: readonly SessionStatus[], version: Version): void {
  for (const [statusId, indexes] of [
    [SessionStatusId.QuotaWouldBeExceeded, full],
    [SessionStatusId.LockedOut, locked],
  ] as const) {
    const found = statuses.filter((status) => status.statusId === statusId);
    if (version.minor < 6) {
      assert.deepEqual(
        found.map(({ deviceURL, fanoutDeviceIndexes }) => [deviceURL, fanoutDeviceIndexes]),
        indexes.map((index) => [urls[index], undefined]),
      );
    } else {
      assert.deepEqual(
        found.map(({ deviceURL, fanoutDeviceIndexes }) => [deviceURL, fanoutDeviceIndexes]),
        [[urls[indexes[0] ?? 0], indexes]],
      );
    }
  }
}
