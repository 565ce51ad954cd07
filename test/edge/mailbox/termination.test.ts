/** The edge as the relay of its devices: who gets messages, what is kept, what is refused, and who is excluded. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type Device, DeviceError, type DeviceOptions } from "../../../src/device/index.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  ConnectResponseId,
  MessageFlag,
  type StreamSize,
} from "../../../src/sstp/index.ts";
import { QUOTA } from "../../../src/store-and-forward/sender-share.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { afterAll, bodyOf, connect, mailboxOf, RawClient, receive, startEdge, TRANSPORTS, until } from "./support.ts";

describe("the edge as relay", () => {
  let edge: InspectedEdge;
  const all = afterAll();
  before(async () => {
    edge = await startEdge(all);
  });

  /** A device that is closed when the test is over. */
  async function device(
    t: { after(run: () => unknown): void },
    address: string,
    transport: (typeof TRANSPORTS)[number],
    options: Partial<DeviceOptions> = {},
  ) {
    const made = await connect(edge, address, transport, options);
    t.after(() => made.close());
    return made;
  }

  it("delivers an identity's messages to the device that attached it last", async (t) => {
    const sender = await device(t, "alice/one", "websocket");
    const older = await device(t, "dave/older", "longlived");
    await sender.send("dave", "to the older");
    assert.equal((await receive(older, 1))[0]?.text(), "to the older");
    const newer = await device(t, "dave/newer", "keepalive");
    for (let i = 0; i < 20; i += 1) await sender.send("dave", `to the newer ${i}`);
    await sender.send("dave/older", "to the older alone");
    const texts = (await receive(newer, 20)).map((message) => message.text());
    assert.deepEqual(
      texts,
      Array.from({ length: 20 }, (_, i) => `to the newer ${i}`),
    );
    assert.equal((await receive(older, 1))[0]?.text(), "to the older alone");
    await newer.close();
    await sender.send("dave", "for whoever comes");
    await older.close();
    const next = await device(t, "dave/next", "websocket");
    assert.equal((await receive(next, 1))[0]?.text(), "for whoever comes");
  });

  it("treats the same id for an identity and for a device as two messages, each taken once", async (t) => {
    const sender = await device(t, "alice/two", "websocket");
    const receiver = await device(t, "erin/pc", "websocket");
    for (const to of ["erin", "erin/pc", "erin", "erin/pc"]) await sender.send(to, to, { id: "same" });
    await sender.send("erin/pc", "last");
    const texts = (await receive(receiver, 3)).map((message) => message.text());
    assert.deepEqual(texts.sort(), ["erin", "erin/pc", "last"]);
  });

  it("passes on messages with flag D without storing them, and drops them when the recipient is offline", async (t) => {
    const sender = await device(t, "alice/three", "longlived");
    const mailbox = await mailboxOf(edge, "grooveDevice://fred/pc");
    const receiver = await connect(edge, "fred/pc", "websocket");
    const before = await mailbox.status();
    for (let i = 0; i < 10; i += 1) await sender.send("fred/pc", `hot ${i}`, { onlyIfOnline: true });
    assert.deepEqual(
      (await receive(receiver, 10)).map((message) => message.text()),
      Array.from({ length: 10 }, (_, i) => `hot ${i}`),
    );
    const online = await mailbox.status();
    assert.equal(online.rowsWritten, before.rowsWritten);
    await receiver.close();
    await until("the device is gone", async () => (await mailbox.status()).consumer === undefined);
    const offline = await mailbox.status();
    await sender.send("fred/pc", "nobody hears it", { onlyIfOnline: true });
    await sender.send("fred/pc", "nor this", { onlyIfOnline: true });
    const dropped = await mailbox.status();
    assert.equal(dropped.rowsWritten, offline.rowsWritten);
    assert.deepEqual([dropped.messages, dropped.octets], [0, 0]);
    assert.equal(dropped.dropped.PeerOffline, 2);
    const again = await device(t, "fred/pc", "websocket");
    await sender.send("fred/pc", "kept");
    assert.equal((await receive(again, 1))[0]?.text(), "kept");
    assert.equal((await mailbox.status()).dropped.PeerOffline, 2, "counted once, even after it is stored");
  });

  it("limits a sender of maximum-length messages to its share, and delivers all of them", {
    timeout: 300_000,
  }, async (t) => {
    let held = 0;
    const sender = await device(t, "alice/four", "websocket", {
      onHeld: () => {
        held += 1;
      },
    });
    const body = bodyOf(MESSAGE_LIMIT, "long");
    // A sender may fill half of it, and the overhead of a message counts as well: this is the one that fits.
    const many = (QUOTA.octets * QUOTA.share) / MESSAGE_LIMIT;
    for (let i = 0; i < many; i += 1) await sender.send("gina/pc", body);
    const next = sender.send("gina/pc", "next");
    next.catch(() => undefined);
    const mailbox = await mailboxOf(edge, "grooveDevice://gina/pc");
    await until("it is held", () => held === 1);
    const { messages, octets, dropped } = await mailbox.status();
    assert.ok(messages === many && octets > many * MESSAGE_LIMIT);
    assert.equal(dropped.QuotaWouldBeExceeded, 0);
    const receiver = await device(t, "gina/pc", "longlived");
    for (let i = 0; i < many; i += 1) {
      const [message] = await receive(receiver, 1);
      assert.ok(Buffer.from(message?.body ?? []).equals(body), `message ${i} is whole`);
    }
    assert.equal((await receive(receiver, 1))[0]?.text(), "next");
    await next;
  });

  it("stores nothing behind a refused message: order is kept, and the sender learns which was refused", async (t) => {
    const mailbox = await mailboxOf(edge, "grooveDevice://gus/pc");
    const sender = await device(t, "alice/five", "websocket");
    await sender.send("gus/pc", bodyOf(100, "first"));
    await mailbox.setLocked(true);
    const outcomes = await Promise.allSettled(Array.from({ length: 500 }, (_, i) => sender.send("gus/pc", `${i}`)));
    await mailbox.setLocked(false);
    await sender.send("gus/pc", "last");
    const sent = outcomes.flatMap(({ status }, i) => (status === "fulfilled" ? [`${i}`] : []));
    const receiver = await device(t, "gus/pc", "websocket");
    const [first, ...rest] = await receive(receiver, sent.length + 2);
    assert.equal(first?.body.length, 100);
    assert.deepEqual(
      rest.map((message) => message.text()),
      [...sent, "last"],
    );
    assert.equal((await mailbox.status()).messages, 0, "nothing else was stored");
  });

  it("refuses senders of a locked mailbox, and keeps its contents", async (t) => {
    const sender = await device(t, "alice/six", "keepalive");
    const mailbox = await mailboxOf(edge, "grooveIdentity://hank");
    await sender.send("hank", "before");
    await mailbox.setLocked(true);
    await assert.rejects(sender.send("hank", "while locked"), DeviceError);
    const status = await mailbox.status();
    assert.deepEqual([status.messages, status.locked, status.dropped.LockedOut], [1, true, 1]);
    await mailbox.setLocked(false);
    await sender.send("hank", "after");
    const receiver = await device(t, "hank/pc", "websocket");
    assert.deepEqual(
      (await receive(receiver, 2)).map((message) => message.text()),
      ["before", "after"],
    );
  });

  for (const transport of TRANSPORTS) {
    it(`passes message fields on unchanged, with the sender after the id, to an SSTP client over ${transport}`, async (t) => {
      const sender = await RawClient.open(edge, transport, `grooveDevice://alice/raw-${transport}`);
      const receiver = await RawClient.open(edge, transport, `grooveDevice://ines/${transport}`, `ines-${transport}`);
      t.after(() => {
        sender.close();
        receiver.close();
      });
      const streamSize: StreamSize = [0xffff_ffff_ffff_ffffn, 1n << 53n, 7n];
      const fields = {
        userRef: "<id 'with' \"quotes\">",
        track: true,
        ephemeral: 0xffff_ffff,
        streamSize,
        fragmentation: bodyOf(300, "fragmentation"),
      };
      const session = await sender.session(
        "a/resource?x=1",
        `grooveIdentity://ines-${transport}`,
        `grooveDevice://ines/${transport}`,
      );
      const number = sender.send(session, "with fields", fields);
      sender.send(session, new Uint8Array(0), { userRef: "" });
      const identity = await sender.session("other", `grooveIdentity://ines-${transport}`);
      sender.send(identity, bodyOf(70_000, "body"), { userRef: "third" });
      await sender.event("acknowledged", ({ messages }) => messages.includes(number));
      await until("three messages", () => receiver.messages.length === 3);
      const opens = receiver.events.filter((event) => event.type === "open");
      const to = (id: number | undefined) => opens.find(({ sessionId }) => sessionId === id);
      const first = receiver.messages.find(({ body }) => body.toString() === "with fields");
      assert.ok(first);
      const opened = to(first.sessionId);
      assert.deepEqual(
        [opened?.resourceURL, opened?.identityURL, opened?.deviceURL],
        ["a/resource?x=1", `grooveIdentity://ines-${transport}`, `grooveDevice://ines/${transport}`],
      );
      const { userRef, track, ephemeral, streamSize: size, fragmentation } = first.fields as typeof fields;
      assert.deepEqual(
        { userRef, track, ephemeral, streamSize: size, fragmentation: new Uint8Array(fragmentation) },
        { ...fields, userRef: `${fields.userRef}@alice/raw-${transport}` },
      );
      const empty = receiver.messages.find(({ body }) => body.length === 0) ?? assert.fail("the empty one");
      assert.match((empty.fields as typeof fields).userRef, new RegExp(`^%n[\\w-]+-1@alice/raw-${transport}$`));
      assert.equal(to(empty.sessionId)?.resourceURL, "a/resource?x=1");
      const long = receiver.messages.find(({ body }) => body.equals(bodyOf(70_000, "body"))) ?? assert.fail("the long");
      assert.deepEqual([to(long.sessionId)?.resourceURL, to(long.sessionId)?.deviceURL], ["other", ""]);
    });
  }

  for (const transport of TRANSPORTS) {
    it(`acknowledges no message refused after its session was closed, and ends the connection, over ${transport}`, async (t) => {
      const peer = `grooveDevice://olga/${transport}`;
      const mailbox = await mailboxOf(edge, peer);
      const sender = await RawClient.open(edge, transport, `grooveDevice://alice/closing-${transport}`);
      t.after(() => sender.close());
      const stored = sender.send(await sender.session("first", "grooveIdentity://olga", peer), "stored");
      await sender.event("acknowledged", ({ messages }) => messages.includes(stored));
      await mailbox.setLocked(true);
      const session = await sender.session("message", "grooveIdentity://olga", peer);
      // In the same segment, so that nothing can be sent between them.
      sender.engine.beginMessage(session, { userRef: "1" });
      const refused = sender.engine.endMessage(session);
      sender.engine.closeSession(session, CloseReasonId.Idle);
      sender.flush();
      const closed = await sender.event("closed");
      assert.deepEqual([closed.by, closed.unacknowledged], ["peer", [refused]]);
      assert.equal((await mailbox.status()).messages, 1);
    });
  }

  it("delivers flag D with a message that has it", async (t) => {
    const sender = await RawClient.open(edge, "websocket", "grooveDevice://alice/flag");
    const receiver = await RawClient.open(edge, "websocket", "grooveDevice://ivan/pc", "ivan");
    t.after(() => {
      sender.close();
      receiver.close();
    });
    const session = await sender.session("message", "grooveIdentity://ivan");
    sender.send(session, "hot", { doNotDeliverIfOffline: true });
    sender.send(session, "cold");
    await until("both", () => receiver.messages.length === 2);
    const flags = receiver.messages.map(({ body, fields }) => [
      body.toString(),
      (fields as { doNotDeliverIfOffline: boolean }).doNotDeliverIfOffline,
    ]);
    assert.deepEqual(flags.sort(), [
      ["cold", false],
      ["hot", true],
    ]);
    assert.equal(MessageFlag.DoNotDeliverIfOffline, 1);
  });

  it("refuses only a message too large for an object", { timeout: 300_000 }, async (t) => {
    const sender = await RawClient.open(edge, "websocket", "grooveDevice://alice/long");
    t.after(() => sender.close());
    const session = await sender.session("message", "grooveIdentity://jack");
    sender.send(session, new Uint8Array(MESSAGE_LIMIT + 1));
    const closed = await sender.event("sessionClosed");
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    const next = await sender.session("message", "grooveIdentity://jack");
    const number = sender.send(next, new Uint8Array(MESSAGE_LIMIT));
    await sender.event("acknowledged", ({ messages }) => messages.includes(number));
    const { messages, octets } = await (await mailboxOf(edge, "grooveIdentity://jack")).status();
    assert.ok(messages === 1 && octets > MESSAGE_LIMIT);
  });

  it("refuses a Connect to another name with WrongDevice, and a URL with another name by the allow list", async (t) => {
    const client = new RawClient(edge, "websocket", "grooveDevice://alice/wrong");
    t.after(() => client.close());
    client.connect("other.example.com");
    const refused = await client.event("refused");
    assert.equal(refused.responseId, ConnectResponseId.WrongDevice);
    await assert.rejects(
      connect(edge, "alice/wrong", "keepalive", { relay: "other.example.com" }),
      (error) => error instanceof DeviceError && /RelayNotAllowed/.test(error.message),
    );
  });

  for (const transport of TRANSPORTS) {
    it(`closes the older connection of a device with CrossedConnections (${transport})`, async (t) => {
      const older = await RawClient.open(edge, transport, `grooveDevice://kim/${transport}`);
      t.after(() => older.close());
      const newer = await device(t, `kim/${transport}`, transport);
      const closed = await older.event("closed");
      assert.equal(closed.reasonId, ConnectCloseReasonId.CrossedConnections);
      const sender = await device(t, `alice/crossed-${transport}`, "websocket");
      await sender.send(`kim/${transport}`, "for the newer");
      assert.equal((await receive(newer, 1))[0]?.text(), "for the newer");
    });
  }

  it("tells a device's application that another has taken its place", async (t) => {
    const older: Device = await device(t, "lena/pc", "longlived");
    const told = assert.rejects(older.messages().next(), refusedBy("AddressInUse"));
    await device(t, "lena/pc", "websocket");
    await told;
  });

  it("redelivers the older connection's unfinished messages to the newer", async (t) => {
    const sender = await device(t, "alice/seven", "websocket");
    const older = await RawClient.open(edge, "websocket", "grooveDevice://mia/pc");
    // It takes messages and never acknowledges them.
    older.engine.complete = () => false;
    await Promise.all(Array.from({ length: 30 }, (_, i) => sender.send("mia/pc", `${i}`)));
    await until("it has all", () => older.messages.length === 30);
    const newer = await device(t, "mia/pc", "keepalive");
    assert.deepEqual(
      (await receive(newer, 30)).map((message) => message.text()),
      Array.from({ length: 30 }, (_, i) => `${i}`),
    );
    older.close();
  });

  it("throttles a device that sends faster than mailboxes write, without breaking its connection", {
    timeout: 300_000,
  }, async (t) => {
    for (const transport of ["websocket", "longlived"] as const) {
      const lost: string[] = [];
      const sender = await connect(edge, `alice/flood-${transport}`, transport, {
        onReconnect: (error) => lost.push(error.message),
      });
      t.after(() => sender.close());
      const count = 40_000;
      await Promise.all(Array.from({ length: count }, (_, i) => sender.send(`nina/${transport}`, `${i}`)));
      assert.deepEqual(lost, [], transport);
      assert.equal((await (await mailboxOf(edge, `grooveDevice://nina/${transport}`)).status()).messages, count);
    }
  });
});

function refusedBy(code: string): (error: unknown) => boolean {
  return (error) => error instanceof DeviceError && error.code === code;
}

describe("an edge restart", () => {
  it("keeps mailboxes with a state folder, without finished messages", {
    timeout: 300_000,
  }, async (t) => {
    const state = temporaryFolder();
    const first = await startEdge(t, { state });
    const sender = await connect(first, "alice/laptop", "websocket");
    await Promise.all(Array.from({ length: 20 }, (_, i) => sender.send("bob/pc", `${i}`, { id: `${i}` })));
    await sender.send("bob/pc", bodyOf(3_000_000, "long"));
    const receiver = await connect(first, "bob/pc", "longlived");
    await receive(receiver, 5);
    const stored = await mailboxOf(first, "grooveDevice://bob/pc");
    // An acknowledgement that the edge has not stored when the device leaves is lost, and the message comes again.
    await until("5 are acknowledged", async () => (await stored.status()).messages === 16);
    await receiver.close();
    await (await mailboxOf(first, "grooveIdentity://locked")).setLocked(true);
    await sender.close();
    await first.close();

    const second = await startEdge(t, { state });
    const again = await connect(second, "alice/laptop", "websocket");
    await again.send("bob/pc", "sent again", { id: "3" });
    await assert.rejects(again.send("locked", "still"), DeviceError);
    const next = await connect(second, "bob/pc", "websocket");
    const messages = await receive(next, 16);
    assert.deepEqual(
      messages.slice(0, 15).map((message) => message.text()),
      Array.from({ length: 15 }, (_, i) => `${i + 5}`),
    );
    assert.ok(Buffer.from(messages[15]?.body ?? []).equals(bodyOf(3_000_000, "long")));
    const mailbox = await mailboxOf(second, "grooveDevice://bob/pc");
    await until("all is done", async () => (await mailbox.status()).messages === 0);
    await next.close();
    await again.close();
  });

  it("loses mailboxes without a state folder", async (t) => {
    const first = await startEdge(t);
    const sender = await connect(first, "alice/laptop", "websocket");
    await sender.send("bob/pc", "lost");
    await sender.close();
    await first.close();
    const second = await startEdge(t);
    assert.equal((await (await mailboxOf(second, "grooveDevice://bob/pc")).status()).messages, 0);
  });
});
