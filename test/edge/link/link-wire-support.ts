/** Edges with many scripted relays, one per test, so that their pauses pass concurrently. */
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { Device, openTransport, type SendOptions } from "../../../src/device/index.ts";
import type { LinkStatus } from "../../../src/edge/rpc/link-rpc.ts";
import type { MailboxStatus } from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { fresh, mailboxOf, startEdge, until } from "../mailbox/support.ts";
import { Peer, type Script, ScriptedRelay, say } from "../scripted-relay.ts";

export const EDGE = "grooveDNS://localhost";
/** The edge must know them all before it starts. */
const RELAYS = 100;
export const TOGETHER = { concurrency: 12 };

export let edge: InspectedEdge;
const relays: ScriptedRelay[] = [];
const unused: ScriptedRelay[] = [];
const closing: (() => unknown)[] = [];

before(async () => {
  relays.push(...(await Promise.all(Array.from({ length: RELAYS }, () => ScriptedRelay.start()))));
  unused.push(...relays);
  const allowed = { relayAllow: relays.map(({ name }) => name), relayName: "localhost" };
  edge = await startEdge({ after: (run) => closing.push(run) }, allowed);
});

after(async () => {
  for (const close of closing.reverse()) await close();
  await Promise.all(relays.map((relay) => relay.close()));
});

/** An unused relay, with what it does on its first connection, the second, and so on. */
export function relayThat(...scripts: readonly Script[]): ScriptedRelay {
  const relay = unused.pop();
  assert.ok(relay !== undefined, "there are not enough relays");
  relay.plan(...scripts);
  return relay;
}

const url = () => edge.url.replace("127.0.0.1", "localhost");

export async function connect(address = `${fresh("alice")}/pc`): Promise<Device> {
  const device = await Device.connect({ edge: url(), address, transport: "websocket" });
  closing.push(() => device.close());
  return device;
}

export async function outbox(relay: ScriptedRelay): Promise<MailboxStatus> {
  return (await mailboxOf(edge, relay.url)).status();
}

export async function link(relay: ScriptedRelay): Promise<LinkStatus> {
  const stub = await objectOf<{ status(): Promise<LinkStatus> }>(edge.miniflare, "LINK", relay.url);
  return stub.status();
}

/** A text begins with the name of its recipient. */
function recipientOf(text: string): string {
  return text.slice(0, 8).split(" ")[0] ?? "";
}

/** Sorts by recipient; the order per recipient is kept. */
function byName(one: string, other: string): number {
  return recipientOf(one).localeCompare(recipientOf(other));
}

/** Sends one message after another, each to the recipient named at the start of its text. */
export async function send(relay: ScriptedRelay, texts: readonly string[], options: SendOptions = {}): Promise<void> {
  const alice = await connect();
  for (const text of texts) {
    await alice.send(`${recipientOf(text)}/pc@${relay.name}`, text, options);
  }
}

/** URLs of a device by the name of its identity. */
export function urls(name: string): { readonly identity: string; readonly device: string } {
  return { identity: `grooveIdentity://${name}`, device: `grooveDevice://${name}/pc` };
}

/** A message that takes more than one write, so that something can happen midway. */
export const big = Buffer.alloc(600_000, "big").toString();

/**
 * Waits until the relay's scripts are done and nothing waits for it; then asserts that it has exactly these, in order
 * per recipient.
 */
export async function gives(relay: ScriptedRelay, texts: readonly string[], refused = 0): Promise<void> {
  await given(relay);
  const byRecipient = (all: readonly string[]) => Map.groupBy([...all].sort(byName), recipientOf);
  assert.deepEqual(byRecipient(relay.texts), byRecipient(texts));
  assert.equal((await outbox(relay)).dropped.RefusedByPeer, refused, "refused");
}

/** Waits until the relay's scripts are done and nothing waits for it. */
export async function given(relay: ScriptedRelay): Promise<void> {
  try {
    await until("the relay is given everything", async () => {
      assert.deepEqual(relay.failures, []);
      return relay.unfinished === 0 && (await outbox(relay)).messages === 0;
    });
  } catch (error) {
    const texts = relay.texts.map((text) => text.slice(0, 20));
    throw new Error(`${error}; it has ${texts}, ${relay.lines.length} connections, ${relay.unfinished} to do`);
  }
}

/** A scripted client of the edge, in version 1.6. */
export async function client(device: string): Promise<Peer> {
  const transport = openTransport({ transport: "websocket", relay: "localhost", edge: url() });
  closing.push(() => transport.close());
  let received = Buffer.alloc(0);
  const peer = new Peer({
    async take(count) {
      while (received.length < count) {
        const more = await transport.read();
        if (more === undefined) return undefined;
        received = Buffer.concat([received, more]);
      }
      const taken = received.subarray(0, count);
      received = received.subarray(count);
      return taken;
    },
    write: (octets) => void transport.write([octets]),
  });
  peer.send(say.connect(EDGE, device));
  assert.equal((await peer.expect("ConnectResponse")).responseId, 0);
  return peer;
}
