/** The consumer of a mailbox: takeover, return, and messages that the consumer refuses. */
import assert from "node:assert/strict";
import { connect as dial, type Socket } from "node:net";
import { before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device } from "../../../src/device/index.ts";
import type { Mailbox } from "../../../src/edge/mailbox/mailbox.ts";
import { FIRST_HOLD } from "../../../src/encapsulation/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { listen } from "../../support/sockets.ts";
import { soon } from "../../support/watch.ts";
import {
  afterAll,
  bodyOf,
  connect,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  TRANSPORTS,
  tunnelOf,
  until,
} from "./support.ts";

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all);
});

interface Context {
  after(run: () => Promise<unknown>): void;
}

async function device(t: Context, ...[address, transport, options]: Tail<Parameters<typeof connect>>): Promise<Device> {
  const connected = await connect(edge, address, transport, options);
  t.after(() => connected.close());
  return connected;
}

type Tail<T extends unknown[]> = T extends [unknown, ...infer Rest] ? Rest : never;

/** Evicts an object from memory. */
function evict(kind: "Tunnel" | "Mailbox", name: string): Promise<unknown> {
  return edge.miniflare.unsafeEvictDurableObject("grooveway", kind, { name });
}

/** The Tunnel that consumes a mailbox. */
async function consumerOf(peer: string): Promise<string | undefined> {
  return (await (await mailboxOf(edge, peer)).status()).consumer;
}

describe("the mailbox of an identity", () => {
  it("returns to an older device of the identity when the newest leaves", async (t) => {
    const sender = await device(t, "alice/back", "websocket");
    const first = await device(t, "olga/first", "websocket");
    const second = await device(t, "olga/second", "keepalive");
    const third = await connect(edge, "olga/third", "longlived");
    await sender.send("olga", "for the third");
    assert.equal((await receive(third, 1))[0]?.text(), "for the third");
    await third.close();
    await sender.send("olga", "for the second");
    assert.equal((await receive(second, 1))[0]?.text(), "for the second");
    await second.close();
    await sender.send("olga", "for the first");
    assert.equal((await receive(first, 1))[0]?.text(), "for the first");
  });

  it("returns to a device when the one that replaced it leaves at once", { timeout: 300_000 }, async (t) => {
    const peer = "grooveIdentity://nina";
    const first = await device(t, "nina/first", "websocket");
    const tunnel = await consumerOf(peer);
    assert.ok(tunnel);
    const mailbox = (await mailboxOf(edge, peer)) as unknown as Pick<Mailbox, "attach" | "ready" | "detach" | "status">;
    for (let time = 0; time < 10; time += 1) {
      const { generation } = await mailbox.attach();
      // It is gone before the device has answered that it would take the mailbox back.
      await Promise.all([mailbox.ready("00000000000000000000000000000000", generation), mailbox.detach(generation)]);
      await until("the device has it again", async () => (await mailbox.status()).consumer === tunnel);
    }
    const sender = await device(t, "alice/brief", "websocket");
    await sender.send("nina", "still there?");
    assert.equal((await receive(first, 1))[0]?.text(), "still there?");
  });

  it("returns to a device that hibernated meanwhile, skipping one that is gone", { timeout: 300_000 }, async (t) => {
    const sender = await device(t, "alice/slept", "websocket");
    const first = await device(t, "pia/first", "websocket");
    const tunnel = await consumerOf("grooveIdentity://pia");
    assert.ok(tunnel);
    const gone = await connect(edge, "pia/gone", "websocket");
    const last = await connect(edge, "pia/last", "websocket");
    await gone.close();
    // Long enough for it to save what it needs for hibernation.
    await sleep(2000);
    const evicted = Date.now();
    await evict("Tunnel", tunnel);
    await last.close();
    await sender.send("pia", "who is there?");
    assert.equal((await receive(first, 1))[0]?.text(), "who is there?");
    assert.ok((await (await tunnelOf(edge, tunnel)).status()).since >= evicted, "its object was recreated");
  });
});

describe("after eviction", () => {
  it("a mailbox continues when its consumer acknowledges, and resends nothing", { timeout: 300_000 }, async (t) => {
    const receiver = await RawClient.open(edge, "websocket", "grooveDevice://rosa/pc");
    t.after(async () => receiver.close());
    const sender = await device(t, "alice/watch", "websocket");
    const complete = receiver.engine.complete.bind(receiver.engine);
    receiver.engine.complete = () => false;
    await Promise.all(Array.from({ length: 30 }, (_, i) => sender.send("rosa/pc", bodyOf(100_000, `${i}`))));
    await until("a window full", () => receiver.messages.length === 10);
    await evict("Mailbox", "grooveDevice://rosa/pc");
    assert.equal(receiver.messages.length, 10, "the rest waits for acknowledgements");
    receiver.engine.complete = complete;
    for (const { number } of receiver.messages) complete(number, performance.now());
    receiver.flush();
    await until("the rest", () => receiver.messages.length === 30);
    const inOrder = receiver.messages.every(({ body }, i) => body.equals(bodyOf(100_000, `${i}`)));
    assert.ok(inOrder);
  });

  it("a mailbox keeps messages that follow an acknowledgement beyond its end", async (t) => {
    const mailbox = await mailboxOf(edge, "grooveDevice://uma/pc");
    const { generation } = await mailbox.attach();
    assert.equal(await mailbox.ready("nobody's tunnel", generation), true);
    assert.notEqual(await mailbox.acknowledge(generation, { done: [[1, 1000]] }), undefined);
    const sender = await device(t, "alice/ahead", "websocket");
    for (const text of ["one", "two"]) await sender.send("uma/pc", text);
    assert.equal((await mailbox.status()).messages, 2);
    const receiver = await device(t, "uma/pc", "websocket");
    assert.deepEqual(
      (await receive(receiver, 2)).map((message) => message.text()),
      ["one", "two"],
    );
  });

  it("a silent Polling device keeps its connection", { timeout: 300_000 }, async (t) => {
    const lost: string[] = [];
    await device(t, "sam/pc", "polling", { onReconnect: (error) => lost.push(error.message) });
    const tunnel = await consumerOf("grooveDevice://sam/pc");
    assert.ok(tunnel);
    // Its polls are now some seconds apart, and it has settled between two of them: the device has no other clock.
    for (let tries = 0; tries < 3; tries += 1) {
      await sleep(5000);
      await evict("Tunnel", tunnel);
    }
    await sleep(5000);
    assert.equal(await consumerOf("grooveDevice://sam/pc"), tunnel);
    assert.deepEqual(lost, []);
  });
});

/** A proxy to the edge that can hold traffic in either direction. */
async function slowWay(t: Context, direction: "up" | "down") {
  const ways = new Map<Socket, Socket>();
  let held = false;
  const server = await listen((device) => {
    const there = dial(Number(new URL(edge.url).port), "127.0.0.1");
    const [from, to] = direction === "up" ? [device, there] : [there, device];
    to.pipe(from);
    if (!held) from.pipe(to);
    ways.set(from, to);
    there.on("error", () => undefined);
    // Data that has arrived is forwarded before the end.
    there.on("end", () => device.end());
    device.on("close", () => {
      ways.delete(from);
      there.destroy();
    });
  });
  t.after(() => server.close());
  return {
    url: `http://127.0.0.1:${server.port}`,
    hold() {
      held = true;
      for (const [from] of ways) from.unpipe().pause();
    },
    goOn() {
      held = false;
      for (const [from, to] of ways) from.pipe(to);
    },
  };
}

describe("a KeepAlive device that pauses its requests", () => {
  for (const [name, message] of [
    ["vera", "with a message on its way"],
    ["wanda", "with nothing on its way"],
  ] as const) {
    it(`keeps its connection, ${message}, while its object hibernates`, { timeout: 300_000 }, async (t) => {
      const way = await slowWay(t, "up");
      const lost: string[] = [];
      const slow = await connect({ ...edge, url: way.url }, `${name}/pc`, "keepalive", {
        onReconnect: (error) => lost.push(error.message),
      });
      t.after(() => slow.close());
      const sender = await device(t, "alice/patient", "websocket");
      const tunnel = await consumerOf(`grooveDevice://${name}/pc`);
      assert.ok(tunnel);
      await sender.send(`${name}/pc`, "one");
      assert.equal((await receive(slow, 1))[0]?.text(), "one");
      // The GET is parked by then. It is answered by a message, or empty after the hold time.
      await sleep(500);
      way.hold();
      if (message.startsWith("with a")) {
        await sender.send(`${name}/pc`, "one more");
        assert.equal((await receive(slow, 1))[0]?.text(), "one more");
        // The empty answer comes by the Worker's own timer.
      } else await sleep(FIRST_HOLD * 1000);
      // Long enough for it to save what it needs for hibernation.
      await sleep(2000);
      const evicted = Date.now();
      // It may have been evicted by itself.
      await evict("Tunnel", tunnel).catch(() => undefined);
      await sender.send(`${name}/pc`, "two");
      await sleep(500);
      way.goOn();
      assert.equal((await receive(slow, 1))[0]?.text(), "two");
      const { since, ended } = await (await tunnelOf(edge, tunnel)).status();
      assert.deepEqual([lost, ended], [[], undefined]);
      assert.ok(since >= evicted, "its object was recreated");
    });
  }
});

describe("a device with a backlog that is replaced by another", () => {
  for (const transport of TRANSPORTS) {
    it(`is told over ${transport}`, { timeout: 300_000 }, async (t) => {
      const address = `xenia-${transport}/pc`;
      const way = await slowWay(t, "down");
      const lost: string[] = [];
      const behind = await connect({ ...edge, url: way.url }, address, transport, {
        onReconnect: (error) => lost.push(error.message),
      });
      t.after(() => behind.close());
      const sender = await device(t, `alice/${transport}`, "websocket");
      await sender.send(address, "hello");
      assert.equal((await receive(behind, 1))[0]?.text(), "hello");
      const told = (async () => {
        for await (const message of behind.messages()) message.done();
      })();
      told.catch(() => undefined);
      way.hold();
      // The full send window, which is more than the kernel buffers at once.
      await Promise.all(Array.from({ length: 12 }, (_, i) => sender.send(address, bodyOf(100_000, `${i}`))));
      await sleep(500);
      await device(t, address, "websocket");
      // The edge ends the connection meanwhile, and its reason is stuck behind the backlog.
      await sleep(2000);
      way.goOn();
      await assert.rejects(soon(told, "the end of the device that is behind"), { code: "AddressInUse" });
      assert.deepEqual(lost, []);
    });
  }
});

describe("a message that exceeds its device's size limit", () => {
  it("waits, and those before and after it are delivered on the same connection", { timeout: 300_000 }, async (t) => {
    const sender = await device(t, "alice/refused", "websocket");
    await sender.send("tom/pc", "before");
    await sender.send("tom/pc", bodyOf(50_000, "too long"));
    await sender.send("tom/pc", "behind");
    const lost: string[] = [];
    const receiver = await device(t, "tom/pc", "websocket", {
      messageLimit: 10_000,
      onReconnect: (error) => lost.push(error.message),
    });
    const texts = (await receive(receiver, 2)).map((message) => message.text());
    assert.deepEqual(texts, ["before", "behind"]);
    const mailbox = await mailboxOf(edge, "grooveDevice://tom/pc");
    await until("the message is set aside", async () => (await mailbox.status()).aside === 1);
    const { messages, dropped } = await mailbox.status();
    assert.deepEqual([messages, dropped.RefusedByPeer, lost], [1, 0, []]);
  });

  it("is kept for a device with a higher limit", { timeout: 300_000 }, async (t) => {
    const sender = await device(t, "alice/larger", "websocket");
    await sender.send("una/pc", bodyOf(50_000, "long"));
    const small = await device(t, "una/pc", "websocket", { messageLimit: 10_000 });
    const mailbox = await mailboxOf(edge, "grooveDevice://una/pc");
    await until("the message is set aside", async () => (await mailbox.status()).aside === 1);
    await small.close();
    const large = await device(t, "una/pc", "keepalive");
    assert.equal((await receive(large, 1))[0]?.body.length, 50_000);
  });
});

describe("a resource that a device refuses", () => {
  it("is counted once per message, and each message waits for a device that accepts it", {
    timeout: 300_000,
  }, async (t) => {
    const sender = await device(t, "alice/player", "websocket");
    await sender.send("vic/pc", "for a program that is not there", { resource: "chess" });
    await sender.send("vic/pc", "an ordinary message");
    const mailbox = await mailboxOf(edge, "grooveDevice://vic/pc");
    for (let connection = 0; connection < 2; connection += 1) {
      const plain = new RawClient(edge, "websocket", "grooveDevice://vic/pc");
      plain.refused = ["chess"];
      plain.connect("127.0.0.1");
      if (connection === 0) {
        await plain.event("endMessage");
        assert.deepEqual(
          plain.messages.map(({ body }) => body.toString()),
          ["an ordinary message"],
        );
      }
      await until("the message is set aside", async () => (await mailbox.status()).aside === 1);
      const { messages, dropped, consumer } = await mailbox.status();
      assert.deepEqual([messages, dropped.ResourceRefused], [1, 1]);
      assert.ok(consumer !== undefined, "the device stays connected");
      plain.close();
      await until("the device has gone", async () => (await mailbox.status()).consumer === undefined);
    }
    const player = await device(t, "vic/pc", "websocket");
    assert.equal((await receive(player, 1))[0]?.resource, "chess");
  });
});
