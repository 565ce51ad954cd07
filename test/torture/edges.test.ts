/**
 * Two edges, of which the first is killed again and again, and networks that let a sender and a recipient reach
 * different ones: no message may be lost or duplicated.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, DeviceError } from "../../src/device/index.ts";
import { FULL } from "../support/long-form.ts";
import { listen } from "../support/sockets.ts";
import { eventually } from "../support/watch.ts";
import { insist, Mortal } from "./support.ts";

const MESSAGES = FULL ? 10_000 : 2000;
const KILLS = 3;
/** Unacknowledged messages: with more, all would be sent before the first kill. */
const OUTSTANDING = 40;
/** Above the time in which an edge restarts, devices reconnect, and what waited is delivered. */
const PATIENCE = 120_000;

/** A way to an edge that a firewall can close. */
class Door {
  readonly url: string;
  #isClosed = false;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  static async before(t: TestContext, edge: Mortal): Promise<Door> {
    const server = await listen((socket) => door.#pass(socket, edge.port));
    const door = new Door(server.port);
    t.after(() => server.close());
    return door;
  }

  close(): void {
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  open(): void {
    this.#isClosed = false;
  }

  #pass(socket: Socket, port: number): void {
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    const edge = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    for (const [from, to] of [
      [socket, edge],
      [edge, socket],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
      from.pipe(to);
    }
  }
}

/** A sender, a recipient, and what has become of the messages. */
class Pair {
  readonly sender: Device;
  readonly received: string[] = [];
  readonly failures: DeviceError[] = [];
  readonly #recipient: Device;
  #sent = 0;
  readonly #outstanding = new Set<Promise<unknown>>();

  private constructor(sender: Device, recipient: Device) {
    this.sender = sender;
    this.#recipient = recipient;
    void this.#receive();
  }

  static async connect(t: TestContext, name: string, doors: Record<"sender" | "recipient", readonly Door[]>) {
    const device = async (role: "sender" | "recipient") => {
      const device = await insist({ edge: doors[role].map(({ url }) => url), address: `${name}/${role}` });
      t.after(() => device.close());
      return device;
    };
    return new Pair(await device("sender"), await device("recipient"));
  }

  async #receive(): Promise<void> {
    for await (const message of this.#recipient.messages()) {
      this.received.push(message.text());
      message.done();
    }
  }

  async send(count: number): Promise<void> {
    for (let n = 0; n < count; n += 1) {
      this.#sent += 1;
      const sending = this.sender
        .send(this.#recipient.address, String(this.#sent))
        .catch((error: DeviceError) => void this.failures.push(error))
        .finally(() => this.#outstanding.delete(sending));
      this.#outstanding.add(sending);
      if (this.#outstanding.size >= OUTSTANDING) await Promise.race(this.#outstanding);
    }
  }

  /** Waits until nothing is under way: no send, and no message or copy in a mailbox. */
  async settled(edges: readonly Mortal[]): Promise<void> {
    await Promise.all(this.#outstanding);
    for (const edge of edges) {
      while ((await edge.mailbox(this.#recipient.address)).messages > 0) await sleep(100);
    }
  }

  check(): void {
    assert.deepEqual(this.failures, []);
    const all = Array.from({ length: this.#sent }, (_, n) => String(n + 1));
    assert.equal(this.received.length, new Set(this.received).size, "some came twice");
    assert.deepEqual(new Set(this.received), new Set(all));
  }
}

describe("two edges", () => {
  const edges: Mortal[] = [];
  before(async () => {
    edges.push(...(await Promise.all([Mortal.start(), Mortal.start()])));
  });
  after(() => Promise.all(edges.map((edge) => edge.close())));

  const doorsTo = (t: TestContext) => Promise.all(edges.map((edge) => Door.before(t, edge)));

  test("lose and double nothing while the first is killed three times", {
    timeout: 600_000,
  }, async (t) => {
    const [first] = edges;
    assert.ok(first !== undefined);
    const doors = { sender: await doorsTo(t), recipient: await doorsTo(t) };
    const pair = await Pair.connect(t, "killed", doors);
    const isOn = (index: number) => pair.sender.edge === doors.sender[index]?.url;
    const share = MESSAGES / (2 * KILLS);
    for (let kills = 0; kills < KILLS; kills += 1) {
      await eventually(() => isOn(0), "the sender to use the first edge", PATIENCE);
      await pair.send(share);
      const killed = first.kill();
      await pair.send(share);
      assert.ok(isOn(1), "the sender does not wait for the first edge");
      await killed;
    }
    await pair.settled(edges);
    pair.check();
    t.diagnostic(`${MESSAGES} messages, ${first.kills} kills`);
  });

  test("lose and double nothing while sender and recipient are cut off from different ones", {
    timeout: 600_000,
  }, async (t) => {
    const doors = { sender: await doorsTo(t), recipient: await doorsTo(t) };
    const pair = await Pair.connect(t, "apart", doors);
    const share = MESSAGES / 4;
    for (const closed of [0, 1, 0, 1]) {
      const ways = [doors.sender[closed], doors.recipient[1 - closed]];
      for (const door of ways) door?.close();
      await pair.send(share);
      assert.equal(pair.sender.edge, doors.sender[1 - closed]?.url);
      for (const door of ways) door?.open();
      await pair.settled(edges);
    }
    pair.check();
  });
});
