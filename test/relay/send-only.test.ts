/** Connections of a device that only send, at the relay, beside the one that receives with the same address. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { Device, type DeviceOptions } from "../../src/device/index.ts";
import type { Relay } from "../../src/relay/index.ts";
import { CloseReasonId } from "../../src/sstp/index.ts";
import { SEND_ONLY } from "../../src/store-and-forward/capabilities.ts";
import { receive } from "../edge/mailbox/support.ts";
import { eventually } from "../support/watch.ts";
import { Peer, relayFor, texts, waiting } from "./support.ts";

const ONE_BY_ONE = 20;
const AT_ONCE = 5;

async function device(t: TestContext, { port }: Relay, options: Partial<DeviceOptions> = {}): Promise<Device> {
  const connected = await Device.connect({ relay: `127.0.0.1:${port}`, address: "alice/pc", ...options });
  t.after(() => connected.close());
  return connected;
}

describe("connections that only send", () => {
  it("leave the connection that receives with their address alone", async (t) => {
    const relay = await relayFor(t);
    const lost: string[] = [];
    const onReconnect = ({ message }: Error) => lost.push(message);
    const receiver = await device(t, relay, { onReconnect });
    const sendFrom = async (to: string, text: string) => {
      const sender = await device(t, relay, { receive: false, onReconnect });
      const { id } = await sender.send(to, text);
      await sender.close();
      return id;
    };
    const ids: string[] = [];
    for (let i = 0; i < ONE_BY_ONE; i += 1) ids.push(await sendFrom(i % 2 === 0 ? "alice/pc" : "alice", `${i}`));
    ids.push(...(await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => sendFrom("alice/pc", `at once ${i}`)))));
    const messages = await receive(receiver, ONE_BY_ONE + AT_ONCE);
    assert.deepEqual(messages.map(({ id }) => id).sort(), ids.toSorted(), "each once, with the id its sender was told");
    assert.equal(new Set(ids).size, ONE_BY_ONE + AT_ONCE);
    for (const { from, vouched } of messages) assert.deepEqual([from, vouched], ["alice/pc", true]);
    assert.deepEqual(lost, []);
  });

  it("take nothing of what waits, while they are open or after", async (t) => {
    const relay = await relayFor(t);
    const sender = await Peer.connect(relay, { address: "alice/pc", attach: false, capabilities: SEND_ONLY });
    await sender.untilAcknowledged(sender.send(await sender.open("alice/pc"), "waits"));
    await sender.settled();
    assert.deepEqual(sender.messages, []);
    sender.drop();
    await eventually(() => relay.status().connections === 0, "the sender to be gone");
    assert.equal(waiting(relay, "alice/pc").messages, 1);
    const receiver = await device(t, relay);
    assert.equal((await receive(receiver, 1))[0]?.text(), "waits");
  });

  it("may not attach an account: the device that has it keeps it", async (t) => {
    const relay = await relayFor(t);
    const phone = await Peer.connect(relay, { address: "alice/phone" });
    const pc = await Peer.connect(relay, { address: "alice/pc", attach: false, capabilities: SEND_ONLY });
    t.after(() => [phone, pc].map((peer) => peer.drop()));
    pc.engine.attach({ accountURL: "grooveAccount://alice" });
    pc.flush();
    assert.equal((await pc.event("sessionClosed")).reasonId, CloseReasonId.UserAuthenticationFailed);
    pc.send(await pc.open("alice"), "still to the phone");
    assert.deepEqual(texts(await phone.received(1)), ["still to the phone"]);
    assert.deepEqual(pc.messages, []);
  });
});
