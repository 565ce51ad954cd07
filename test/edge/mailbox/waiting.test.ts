/** A consumer that takes messages without acknowledging them, while another device of its identity waits. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { Device } from "../../../src/device/index.ts";
import { ACKNOWLEDGE_SECONDS } from "../../../src/edge/policy/acknowledge-time.ts";
import { FIRST_HOLD } from "../../../src/encapsulation/index.ts";
import { SIGN_OF_LIFE } from "../../../src/store-and-forward/consumer-timeout.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { drivenWorker } from "../../support/worker.ts";
import {
  afterAll,
  connect,
  fresh,
  type MailboxStub,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  until,
} from "./support.ts";

type Driven = MailboxStub & Record<"elapse" | "letPass", (milliseconds: number) => Promise<void>>;

const SECOND = 1000;
const code = await drivenWorker();

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all, { code });
});

/** Two devices of an identity; the newer one takes messages and acknowledges none. */
async function started(transport: "websocket" | "keepalive") {
  const name = fresh("alice");
  const healthy = await connect(edge, `${name}/desk`, "websocket");
  const mailbox = (await mailboxOf(edge, `grooveIdentity://${name}`)) as Driven;
  await until("the first one consumes", async () => (await mailbox.status()).consumer !== undefined);
  const { generation } = await mailbox.status();
  /** How many times the mailbox has been consumed so far. */
  const consumers = async () => (await mailbox.status()).generation - generation + 1;
  const hung = new RawClient(edge, transport, `grooveDevice://${name}/phone`);
  const complete = hung.engine.complete.bind(hung.engine);
  hung.engine.complete = () => false;
  hung.connect("127.0.0.1");
  await hung.event("connected");
  hung.engine.attach({ accountURL: `grooveAccount://${name}` });
  hung.flush();
  await hung.event("attached");
  await until("the newer one consumes", async () => (await consumers()) === 2);
  const sender = await connect(edge, `${fresh("bob")}/pc`, "websocket");
  const send = async (text: string) => {
    await sender.send(name, text);
    await hung.event("endMessage", ({ message }) => message === hung.messages.length);
  };
  const texts = async (device: Device, count: number) => (await receive(device, count)).map((one) => one.text());
  return { name, healthy, hung, complete, mailbox, consumers, send, texts };
}

describe("messages of an identity with two devices", { concurrency: false }, () => {
  it("move to the other when a live device holds them too long", async () => {
    const { healthy, hung, mailbox, consumers, send, texts } = await started("websocket");
    await send("urgent");
    await mailbox.elapse((ACKNOWLEDGE_SECONDS - 5) * SECOND);
    assert.equal(await consumers(), 2, "it is still waited for");
    await mailbox.elapse(10 * SECOND);
    assert.deepEqual(await texts(healthy, 1), ["urgent"]);
    await until("it is acknowledged", async () => (await mailbox.status()).messages === 0);
    // It stays connected, and does not get them back while the other is connected.
    assert.equal(hung.engine.closed, undefined);
    await healthy.close();
    await until("the other has left", async () => (await consumers()) === 4);
  });

  it("stay with a device that acknowledges from time to time", async () => {
    const { hung, complete, mailbox, consumers, send } = await started("websocket");
    for (let turn = 0; turn < 3; turn += 1) {
      await send(`one ${turn}`);
      await mailbox.elapse((ACKNOWLEDGE_SECONDS - 10) * SECOND);
      assert.equal(await consumers(), 2);
      await send(`two ${turn}`);
      const [first] = hung.messages.splice(0);
      complete(first?.number ?? 0);
      hung.flush();
      await until("it is acknowledged", async () => (await mailbox.status()).messages < 2 * turn + 2);
    }
  });

  it("move to the other 15 s after the last sign of life of a device", async () => {
    const { healthy, hung, mailbox, consumers, send, texts } = await started("keepalive");
    await send("first");
    hung.close();
    // Its last GET may have been held.
    await mailbox.letPass(FIRST_HOLD * 1000 + SIGN_OF_LIFE - 5 * SECOND);
    assert.equal(await consumers(), 2, "it is still waited for");
    await mailbox.letPass(6 * SECOND);
    const replaced = async () => {
      // The mailbox may set its alarm only now.
      await mailbox.letPass(0);
      return (await consumers()) === 3;
    };
    // Less than the 9 s that are left of another 15 s.
    await until("the other consumes", replaced, 5 * SECOND);
    assert.deepEqual(await texts(healthy, 1), ["first"]);
  });

  it("do not bounce between two devices that keep them", async () => {
    const { name, hung, mailbox, consumers, send } = await started("websocket");
    const third = await RawClient.open(edge, "websocket", `grooveDevice://${name}/tablet`, name);
    third.engine.complete = () => false;
    await until("the newest consumes", async () => (await consumers()) === 3);
    void hung;
    const sent = send("one").catch(() => undefined);
    await third.event("endMessage");
    const generations: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      await mailbox.elapse((ACKNOWLEDGE_SECONDS + 1) * SECOND);
      await until("it is quiet", async () => (await mailbox.status()).consumer !== undefined);
      generations.push(await consumers());
    }
    await sent;
    assert.ok((generations.at(-1) ?? 0) <= 5, `generations ${generations}`);
  });
});
