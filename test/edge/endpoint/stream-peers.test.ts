/** Streams between devices go from Tunnel to Tunnel: the calls made, and what happens without an answer. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { InboundMessages } from "../../../src/edge/endpoint/inbound-messages.ts";
import { ATTACHED_TIME, STREAM_BATCH } from "../../../src/edge/endpoint/limits.ts";
import { HUNG_TIME } from "../../../src/edge/mailbox/limits.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import { VOLATILE_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { Attached, Streaming, Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { CALL_LOOK } from "../../../src/lib/runtime/deadline-pool.ts";
import type { Connection } from "../../../src/sstp/index.ts";

const BOB = "grooveDevice://bob/pc";
const CAROL = "grooveDevice://carol/pc";
const SOURCE = "grooveDevice://alice/pc";
const FIELDS = { userRef: "1@alice/pc", track: false, acknowledgeImmediately: true, doNotDeliverIfOffline: true };

interface Call {
  readonly tunnel: string;
  readonly generation: number;
  readonly bodies: number[];
}

class Sending {
  /** What the mailboxes were asked, and what they answer. */
  readonly asked: (Streaming & { readonly peer: string; readonly source: string })[] = [];
  attached: (peer: string) => Attached = (peer) => ({ type: "attached", tunnel: `tunnel of ${peer}`, generation: 1 });
  /** The calls of Tunnels, and what they answer. */
  readonly calls: Call[] = [];
  taken: (call: Call) => Taken | Promise<Taken> = () => "taken";
  readonly passed: string[] = [];
  readonly completed: number[] = [];
  readonly closed: number[] = [];
  readonly inbound: InboundMessages;

  constructor(resource = "stream") {
    const session = {};
    const engine = {
      closed: undefined,
      complete: (message: number) => this.completed.push(message),
      session: () => session,
      closeSession: (sessionId: number) => this.closed.push(sessionId),
    } as unknown as Connection;
    const host = {
      mailbox: (peer: string) => ({
        attached: async (source: string, streaming: Streaming) => {
          this.asked.push({ peer, source, ...streaming });
          return this.attached(peer);
        },
        pass: async () => {
          this.passed.push(peer);
          return [];
        },
      }),
      tunnel: (tunnel: string) => ({
        stream: async (_peer: string, generation: number, bundle: MessageBatch) => {
          const call = { tunnel, generation, bodies: unpack(bundle).map(({ body }) => body.length) };
          this.calls.push(call);
          return this.taken(call);
        },
      }),
      waitUntil: () => undefined,
      messageLimit: MESSAGE_LIMIT,
    } as unknown as EndpointContext;
    this.inbound = new InboundMessages(host, engine, () => undefined, {
      copies: () => undefined,
      wake: () => undefined,
    });
    for (const [at, peer] of [BOB, CAROL].entries()) {
      const target = { identityURL: "", deviceURL: peer, relayURL: "" };
      this.inbound.open(at + 1, SOURCE, resource, [target], false);
    }
  }

  /** The device sends a message on the session to bob (1) or carol (2). */
  async send(octets: number, message: number, sessionId = 1): Promise<void> {
    this.inbound.begin(sessionId, FIELDS);
    this.inbound.data(sessionId, new Uint8Array(octets));
    this.inbound.end(sessionId, message);
    this.inbound.flush();
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let n = 0; n < 50; n += 1) await Promise.resolve();
}

async function pass(milliseconds: number): Promise<void> {
  for (let left = milliseconds; left > 0; left -= CALL_LOOK) {
    mock.timers.tick(Math.min(left, CALL_LOOK));
    await settle();
  }
}

const never = () => new Promise<Taken>(() => undefined);

describe("what a device streams to another", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 }));
  afterEach(() => mock.timers.reset());

  it("goes to the other's Tunnel, and the mailbox is asked once who that is", async () => {
    const sending = new Sending();
    await sending.send(10, 1);
    await sending.send(20, 2);
    assert.deepEqual(sending.asked, [{ peer: BOB, source: SOURCE, messages: 1, slow: 0, gone: undefined }]);
    assert.deepEqual(
      sending.calls.map(({ tunnel, bodies }) => [tunnel, bodies]),
      [
        [`tunnel of ${BOB}`, [10]],
        [`tunnel of ${BOB}`, [20]],
      ],
    );
    assert.deepEqual([sending.completed, sending.passed], [[1, 2], []]);
  });

  it("is acknowledged only when the other's Tunnel has room, and counts as held until then", async () => {
    const sending = new Sending();
    const room = Promise.withResolvers<Taken>();
    sending.taken = () => room.promise;
    await sending.send(10, 1);
    await sending.send(20, 2);
    assert.deepEqual([sending.completed, sending.inbound.streamed], [[], 30]);
    room.resolve("taken");
    await settle();
    assert.deepEqual([sending.completed, sending.inbound.streamed], [[1, 2], 0]);
  });

  it("goes in batches of limited size, one at a time", async () => {
    const sending = new Sending();
    const room = Promise.withResolvers<Taken>();
    sending.taken = () => room.promise;
    for (let message = 1; message <= 6; message += 1) await sending.send(100 * 1024, message);
    assert.equal(sending.calls.length, 1);
    room.resolve("taken");
    await settle();
    assert.deepEqual(
      sending.calls.map(({ bodies }) => bodies.length),
      [1, 2, 2, 1],
    );
  });

  it("is looked up again when its Tunnel is gone, which the mailbox learns", async () => {
    const sending = new Sending();
    await sending.send(10, 1);
    sending.taken = ({ generation }) => (generation === 1 ? "gone" : "taken");
    sending.attached = () => ({ type: "attached", tunnel: "another", generation: 2 });
    await sending.send(20, 2);
    assert.equal(sending.asked.at(-1)?.gone, 1);
    assert.deepEqual(sending.calls.at(-1), { tunnel: "another", generation: 2, bodies: [20] });
    assert.deepEqual(sending.completed, [1, 2]);
  });

  it("is lost if nobody is there, without a loop between a mailbox and a Tunnel that disagree", async () => {
    const sending = new Sending();
    sending.taken = () => "gone";
    await sending.send(10, 1);
    assert.deepEqual([sending.asked.length, sending.calls.length, sending.completed], [1, 1, [1]]);
  });

  it("is asked about again after a while, so that a lock of the mailbox takes effect", async () => {
    const sending = new Sending();
    await sending.send(10, 1);
    sending.attached = () => ({ type: "locked" });
    mock.timers.tick(ATTACHED_TIME);
    await sending.send(10, 2);
    assert.deepEqual([sending.calls.length, sending.closed], [1, [1]]);
  });

  it("is waited for once if the other's Tunnel hangs, and meanwhile goes on to others", async () => {
    const sending = new Sending();
    sending.taken = ({ tunnel }) => (tunnel.endsWith(BOB) ? never() : "taken");
    await sending.send(10, 1);
    await sending.send(10, 2);
    await sending.send(10, 3, 2);
    assert.equal(sending.calls.at(-1)?.tunnel, `tunnel of ${CAROL}`);
    await pass(VOLATILE_TIMEOUT + CALL_LOOK);
    assert.deepEqual(sending.completed, [1, 2, 3], "and what waited behind is lost too");
    const { length } = sending.calls;
    await sending.send(10, 4);
    assert.deepEqual([sending.calls.length, sending.completed.at(-1)], [length, 4]);
    mock.timers.tick(HUNG_TIME);
    sending.taken = () => "taken";
    await sending.send(10, 5);
    assert.equal(sending.calls.length, length + 1);
  });

  it("tells the mailbox how much was lost because the other was slow", async () => {
    const sending = new Sending();
    sending.taken = () => ({ dropped: 1 });
    await sending.send(10, 1);
    mock.timers.tick(ATTACHED_TIME);
    await sending.send(10, 2);
    assert.deepEqual(
      sending.asked.map(({ slow }) => slow),
      [0, 1],
    );
  });

  it("is refused if it is longer than a batch", async () => {
    const sending = new Sending();
    await sending.send(STREAM_BATCH + 1, 1);
    assert.deepEqual([sending.calls.length, sending.closed], [0, [1]]);
  });

  it("goes through the mailbox as before on another resource", async () => {
    const sending = new Sending("message");
    await sending.send(STREAM_BATCH + 1, 1);
    assert.deepEqual([sending.passed, sending.calls.length, sending.inbound.streamed], [[BOB], 0, 0]);
  });
});
