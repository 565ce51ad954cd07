/** A sender that has used up its share of a mailbox is suspended until half of it is free; nothing is lost. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect as dial, type Socket } from "node:net";
import { before, describe, it } from "node:test";
import type { Device, DeviceOptions } from "../../../src/device/index.ts";
import { CloseReasonId, deviceURL, identityURL, SessionStatusId } from "../../../src/sstp/index.ts";
import { partsOf } from "../../support/address.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { listen } from "../../support/sockets.ts";
import { soon } from "../../support/watch.ts";
import {
  afterAll,
  bodyOf,
  connect,
  fresh,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  TRANSPORTS,
  until,
} from "./support.ts";

const MIB = 1024 * 1024;

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  // A sender may have 2 MiB or 50 messages waiting, and 3.2 MiB or 80 messages if it ignores suspension.
  edge = await startEdge(all, { quota: "octets=4MiB messages=100" });
});

/** Evicts an object from memory. */
function evict(kind: "Tunnel" | "Mailbox", name: string): Promise<unknown> {
  return edge.miniflare.unsafeEvictDurableObject("grooveway", kind, { name });
}

const mailboxOfDevice = (address: string) => mailboxOf(edge, deviceURL(partsOf(address)));

/** A sender, and its held recipients. */
async function sender(address: string, options: Partial<DeviceOptions> = {}) {
  const held = new Set<string>();
  const device = await connect(edge, address, options.transport ?? "websocket", {
    onHeld: (to) => held.add(to),
    onReleased: (to) => held.delete(to),
    ...options,
  });
  return { device, held };
}

/** Sends 80 messages to an absent recipient, which stores 50 and is then held. */
async function fill(from: Awaited<ReturnType<typeof sender>>, to: string): Promise<{ all: Promise<unknown> }> {
  // Those up to the mark one by one: the messages in flight when it is reached would be too many for so small a quota.
  for (let n = 0; n < 50; n += 1) await from.device.send(to, `${n}`);
  const all = Promise.all(Array.from({ length: 30 }, (_, n) => from.device.send(to, `${n + 50}`)));
  all.catch(() => undefined);
  await until(`${to} is held`, () => from.held.has(to));
  return { all };
}

/** Receives the 80 messages of {@link fill}, in order. */
async function assertAll(receiver: Device): Promise<void> {
  const texts = (await receive(receiver, 80)).map((message) => message.text());
  assert.deepEqual(
    texts,
    Array.from({ length: 80 }, (_, n) => `${n}`),
  );
}

describe("a sender that has used up its share", () => {
  for (const transport of TRANSPORTS) {
    it(`waits while others continue, and resumes when half is free, over ${transport}`, {
      timeout: 300_000,
    }, async () => {
      const [name, to] = [fresh("alice"), `${fresh("bob")}/pc`];
      const from = await sender(`${name}/pc`, { transport });
      const sent = await fill(from, to);
      const mailbox = await mailboxOfDevice(to);
      const { messages, suspended, dropped } = await mailbox.status();
      assert.deepEqual([messages, suspended, dropped.QuotaWouldBeExceeded], [50, 1, 0]);
      await soon(from.device.send(`${fresh("carol")}/pc`, "another"), "a message for somebody else");
      const another = await sender(`${fresh("dora")}/pc`);
      await soon(another.device.send(to, "by somebody else"), "a message by somebody else");
      const receiver = await connect(edge, to, "websocket");
      const texts = (await receive(receiver, 81)).map((message) => message.text());
      assert.deepEqual(
        texts.filter((text) => text !== "by somebody else"),
        Array.from({ length: 80 }, (_, n) => `${n}`),
      );
      await soon(sent.all, "the acknowledgements");
      assert.deepEqual([...from.held], []);
      await until("nobody waits for room", async () => (await mailbox.status()).suspended === 0);
      await Promise.all([from.device, another.device, receiver].map((device) => device.close()));
    });
  }

  it("resumes even if mailbox and Tunnel were evicted while it was suspended", async () => {
    const to = `${fresh("bob")}/pc`;
    const from = await sender(`${fresh("alice")}/pc`);
    const own = await mailboxOfDevice(from.device.address);
    const guid = (await own.status()).consumer ?? "";
    const sent = await fill(from, to);
    // A Tunnel saves what it needs for hibernation once it has been idle for a while, by the platform's own timers.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await evict("Tunnel", guid);
    await evict("Mailbox", deviceURL(partsOf(to)));
    const receiver = await connect(edge, to, "websocket");
    await assertAll(receiver);
    await soon(sent.all, "the acknowledgements");
    assert.deepEqual([...from.held], []);
    await Promise.all([from.device, receiver].map((device) => device.close()));
  });

  it("resumes when an operator has purged the mailbox", async () => {
    const to = `${fresh("bob")}/pc`;
    const from = await sender(`${fresh("alice")}/pc`);
    const sent = await fill(from, to);
    const mailbox = await mailboxOfDevice(to);
    await mailbox.purge();
    await soon(sent.all, "the acknowledgements");
    await from.device.close();
  });

  it("is forgotten if it disconnects meanwhile", async () => {
    const to = `${fresh("bob")}/pc`;
    const from = await sender(`${fresh("alice")}/pc`);
    const sent = await fill(from, to);
    await from.device.close();
    await assert.rejects(sent.all);
    const mailbox = await mailboxOfDevice(to);
    assert.equal((await mailbox.status()).suspended, 1);
    await mailbox.purge();
    await until("it is forgotten", async () => (await mailbox.status()).suspended === 0);
  });

  it("can send a small message on a new session", async () => {
    const to = `${fresh("bob")}/pc`;
    const from = await sender(`${fresh("alice")}/pc`);
    const sent = await fill(from, to);
    await soon(from.device.send(to, "cancel", { resource: "file-cancel" }), "the message");
    const receiver = await connect(edge, to, "websocket");
    const all = await receive(receiver, 81);
    assert.ok(all.some((message) => message.resource === "file-cancel"));
    await soon(sent.all, "the acknowledgements");
    await Promise.all([from.device, receiver].map((device) => device.close()));
  });

  it("can send one message at a time after reconnecting, and is refused nothing", async (t) => {
    const to = `${fresh("bob")}/pc`;
    const sockets = new Set<Socket>();
    const between = await listen((socket) => {
      const onwards = dial(Number(new URL(edge.url).port), "127.0.0.1");
      for (const one of [socket, onwards]) sockets.add(one.on("error", () => undefined));
      socket.pipe(onwards).pipe(socket);
    });
    t.after(() => between.close());
    const from = await sender(`${fresh("alice")}/pc`, { edge: `http://127.0.0.1:${between.port}` });
    const sent = await fill(from, to);
    const mailbox = await mailboxOfDevice(to);
    for (let n = 1; n <= 3; n += 1) {
      for (const socket of sockets) socket.destroy();
      await until("it is suspended again", async () => (await mailbox.status()).messages === 50 + n);
    }
    assert.equal((await mailbox.status()).dropped.QuotaWouldBeExceeded, 0);
    assert.deepEqual([...from.held], [to]);
    const receiver = await connect(edge, to, "websocket");
    await assertAll(receiver);
    await soon(sent.all, "the acknowledgements");
    await Promise.all([from.device, receiver].map((device) => device.close()));
  });

  it("continues after its LongLived connections were used up and replaced while it was suspended", {
    timeout: 300_000,
  }, async () => {
    const [to, beside] = [`${fresh("bob")}/pc`, `${fresh("carol")}/pc`];
    const messageLimit = 256 * 1024;
    const options = { transport: "longlived", messageLimit, contentLength: 4 * messageLimit } as const;
    const from = await sender(`${fresh("alice")}/pc`, options);
    const sent = await fill(from, to);
    const carol = await connect(edge, beside, "websocket");
    const own = await mailboxOfDevice(from.device.address);
    const connections = new Set<string | undefined>();
    // Each connection brings in one message, and the reserve has room for 30.
    for (let n = 0; connections.size < 6; n += 1) {
      await soon(from.device.send(beside, bodyOf(200_000, `${n}`)), `message ${n}`);
      const [message] = await receive(carol, 1);
      assert.deepEqual(Buffer.from(message?.body ?? []), Buffer.from(bodyOf(200_000, `${n}`)));
      connections.add((await own.status()).consumer);
    }
    const mailbox = await mailboxOfDevice(to);
    await until("a message of each connection", async () => (await mailbox.status()).messages >= 50 + 5);
    assert.deepEqual([...from.held], [to]);
    const receiver = await connect(edge, to, "websocket");
    await assertAll(receiver);
    await soon(sent.all, "the acknowledgements");
    assert.equal((await mailbox.status()).dropped.QuotaWouldBeExceeded, 0);
    await Promise.all([from.device, carol, receiver].map((device) => device.close()));
  });
});

describe("a sender that ignores its suspension", () => {
  it("is refused beyond the reserve, and earlier messages are delivered", async () => {
    const [mallory, to] = [fresh("mallory"), fresh("bob")];
    const client = await RawClient.open(edge, "websocket", deviceURL({ identity: mallory, device: "pc" }));
    const session = await client.session("message", identityURL({ identity: to }));
    // A Grooveway device would not.
    const said = client.engine.session(session) as { state: string };
    let acknowledged = 0;
    let refused = false;
    for (let n = 0; n < 200 && !refused; n += 1) {
      said.state = "ready";
      client.send(session, `${n}`, { userRef: `m-${n}` });
      await until("an answer", () => {
        acknowledged = client.events.flatMap((event) => (event.type === "acknowledged" ? event.messages : [])).length;
        refused = client.events.some((event) => event.type === "sessionClosed");
        return refused || acknowledged > n;
      });
    }
    const closed = await client.event("sessionClosed");
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    assert.equal(acknowledged, 80);
    const mailbox = await mailboxOf(edge, identityURL({ identity: to }));
    assert.equal((await mailbox.status()).messages, 80);
    const honest = await sender(`${fresh("alice")}/pc`);
    await soon(honest.device.send(to, "there is room for others"), "a message by somebody else");
    client.close();
    await honest.device.close();
  });

  it("has no reserve for fanout messages, which are not suspended", async () => {
    const [mallory, one, two] = [fresh("mallory"), fresh("bob"), fresh("carol")];
    const client = await RawClient.open(edge, "websocket", deviceURL({ identity: mallory, device: "pc" }));
    const entries = [one, two].map((identity) => ({
      identityURL: identityURL({ identity }),
      deviceURL: "",
      relayURL: "",
    }));
    const session = client.engine.openFanout({ resourceURL: "message", entries });
    client.flush();
    await client.event("sessionState", (event) => event.sessionId === session);
    for (let n = 0; n < 60; n += 1) client.send(session, `${n}`, { userRef: `m-${n}` });
    const status = await client.event("sessionStatus");
    assert.equal(status.statusId, SessionStatusId.QuotaWouldBeExceeded);
    assert.equal(client.events.filter((event) => event.type === "sessionState").length, 1);
    for (const identity of [one, two]) {
      const { messages, suspended } = await (await mailboxOf(edge, identityURL({ identity }))).status();
      assert.deepEqual([messages, suspended], [50, 0]);
    }
    client.close();
  });
});

it("a recipient that reads receives many times the quota, and nothing is refused", {
  timeout: 300_000,
}, async (t) => {
  const edge = await startEdge(t, { quota: "octets=16MiB" });
  const alice = await connect(edge, "alice/pc", "websocket");
  const bob = await connect(edge, "bob/pc", "websocket");
  const sent = createHash("sha256");
  const got = createHash("sha256");
  const sending = Promise.all(
    Array.from({ length: 64 }, (_, n) => {
      const body = bodyOf(MIB, `${n}`);
      sent.update(body);
      return alice.send("bob/pc", body);
    }),
  );
  for (let n = 0; n < 64; n += 1) for (const { body } of await receive(bob, 1)) got.update(body);
  await soon(sending, "the acknowledgements");
  assert.equal(got.digest("hex"), sent.digest("hex"));
  const { dropped } = await (await mailboxOf(edge, "grooveDevice://bob/pc")).status();
  assert.equal(dropped.QuotaWouldBeExceeded, 0);
  await Promise.all([alice.close(), bob.close()]);
});
