/** Streams between devices go from Tunnel to Tunnel: the calls made, and what happens without an answer. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { InboundMessages } from "../../../src/edge/endpoint/inbound-messages.ts";
import {
  ATTACHED_TIME,
  LINK_STREAMS_HELD,
  STALLED_HELD,
  STALLED_PAUSE,
  STREAM_BATCH,
  STREAM_STALL,
} from "../../../src/edge/endpoint/limits.ts";
import { HUNG_TIME } from "../../../src/edge/mailbox/limits.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import { VOLATILE_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { Attached, Streaming, Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { CALL_LOOK } from "../../../src/lib/runtime/deadline-pool.ts";
import { type Connection, SessionStatusId } from "../../../src/sstp/index.ts";

const BOB = "grooveDevice://bob/pc";
const CAROL = "grooveDevice://carol/pc";
const SOURCE = "grooveDevice://alice/pc";
const RELAY = "grooveDNS://relay.example.com";
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
  /** The objects for which stubs were made. */
  readonly stubs: string[] = [];
  /** Batches on the WebSocket to a Tunnel, once that can be opened. */
  readonly batches: Uint8Array[] = [];
  opensSockets = false;
  readonly passed: string[] = [];
  readonly completed: number[] = [];
  readonly closed: number[] = [];
  /** Changes of sessions, and statuses of their entries. */
  readonly states: string[] = [];
  /** How often a mailbox was woken. */
  woken = 0;
  readonly inbound: InboundMessages;

  /** @param relay where bob and carol are, unless here */
  constructor(resource = "stream", relay = "") {
    const session = {};
    const engine = {
      closed: undefined,
      complete: (message: number) => this.completed.push(message),
      session: () => session,
      closeSession: (sessionId: number) => this.closed.push(sessionId),
      setAvailability: (sessionId: number, state: string) => this.states.push(`${sessionId} ${state}`),
      sessionStatus: (sessionId: number, statusId: number) => this.states.push(`${sessionId} status ${statusId}`),
      noop: () => undefined,
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
      consumer: (tunnel: string) => {
        this.stubs.push(tunnel);
        return {
          stub: {
            stream: async (_peer: string, generation: number, bundle: MessageBatch) => {
              const call = { tunnel, generation, bodies: unpack(bundle).map(({ body }) => body.length) };
              this.calls.push(call);
              return this.taken(call);
            },
          },
          ...(this.opensSockets && { open: async () => this.#socket() }),
        };
      },
      waitUntil: () => undefined,
      messageLimit: MESSAGE_LIMIT,
    } as unknown as EndpointContext;
    this.inbound = new InboundMessages(host, engine, () => undefined, {
      copies: () => undefined,
      wake: () => {
        this.woken += 1;
        return undefined;
      },
    });
    for (const [at, peer] of [BOB, CAROL].entries()) {
      const target = { identityURL: "", deviceURL: peer, relayURL: relay };
      this.inbound.open(at + 1, SOURCE, resource, [target], relay !== "");
    }
  }

  #socket(): WebSocket {
    const send = (data: Uint8Array | string) => {
      if (typeof data !== "string") this.batches.push(data);
    };
    return Object.assign(new EventTarget(), { send, close: () => undefined }) as unknown as WebSocket;
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

  it("passes on a short message in the turn in which it comes, once there is a WebSocket to the Tunnel", async () => {
    const sending = new Sending();
    sending.opensSockets = true;
    for (const message of [1, 2]) await sending.send(10, message);
    const { calls, batches, completed } = sending;
    assert.deepEqual([calls.length, batches.length], [2, 0]);
    void sending.send(10, 3);
    assert.deepEqual([calls.length, batches.length, completed], [2, 1, [1, 2, 3]]);
    void sending.send(100, 4, 2);
    void sending.send(100, 5);
    assert.deepEqual(
      [batches.length, completed],
      [2, [1, 2, 3]],
      "what comes behind another destination's is in order",
    );
    await settle();
    assert.deepEqual(completed, [1, 2, 3, 4, 5]);
    sending.inbound.abandon();
  });

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

  it("goes by one stub of the Tunnel until a call fails, which leaves a stub useless", async () => {
    const sending = new Sending();
    for (const message of [1, 2, 3]) await sending.send(10, message);
    assert.deepEqual(sending.stubs, [`tunnel of ${BOB}`]);
    sending.taken = () => Promise.reject(new Error("the object was reset"));
    await sending.send(10, 4);
    sending.taken = () => "taken";
    await sending.send(10, 5);
    assert.deepEqual([sending.stubs.length, sending.calls.length], [2, 5]);
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

  it("is lost for a while after there was no room in time, so that what is for others does not wait each time", async () => {
    const sending = new Sending();
    sending.taken = () => ({ dropped: 1 });
    await sending.send(10, 1);
    await sending.send(10, 2);
    assert.deepEqual([sending.calls.length, sending.completed], [1, [1, 2]]);
    mock.timers.tick(STALLED_PAUSE);
    await sending.send(10, 3);
    assert.equal(sending.calls.length, 2);
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

  it("goes to the Link of a relay, which its mailbox has connected, and each destination there by itself", async () => {
    const sending = new Sending("stream", RELAY);
    sending.attached = (peer) => ({ type: "attached", tunnel: peer, generation: 1 });
    const room = Promise.withResolvers<Taken>();
    sending.taken = ({ bodies }) => (bodies[0] === 10 ? room.promise : "taken");
    await sending.send(10, 1);
    await sending.send(20, 2, 2);
    await sending.send(30, 3, 2);
    assert.deepEqual([sending.asked.map(({ peer }) => peer), sending.passed], [[RELAY, RELAY], []]);
    assert.deepEqual(
      sending.calls.map(({ tunnel, bodies }) => [tunnel, bodies]),
      [
        [RELAY, [10]],
        [RELAY, [20]],
        [RELAY, [30]],
      ],
    );
    assert.equal(sending.woken, 2, "each is charged like a mailbox");
    room.resolve("taken");
    await settle();
    assert.deepEqual(sending.completed, [1, 2, 3]);
  });

  it("is refused by name if the relay cannot be reached", async () => {
    const sending = new Sending("stream", RELAY);
    sending.attached = () => ({ type: "unreachable", outcome: "DNSLookupFailed" });
    await sending.send(10, 1);
    assert.deepEqual([sending.states, sending.completed], [[`1 status ${SessionStatusId.DNSLookupFailed}`], [1]]);
  });

  it("is lost, and not refused, if the Link does not answer", async () => {
    const sending = new Sending("stream", RELAY);
    sending.taken = never;
    await sending.send(10, 1);
    await pass(VOLATILE_TIMEOUT + CALL_LOOK);
    assert.deepEqual([sending.states, sending.completed], [["1 notReady", "1 ready"], [1]]);
  });
});

describe("what a relay streams", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 }));
  afterEach(() => mock.timers.reset());

  function fromRelay(): Sending {
    const sending = new Sending();
    sending.inbound.introduce(RELAY, true, "relay");
    return sending;
  }

  it("is acknowledged when it has arrived, so that a slow device delays no other acknowledgements", async () => {
    const sending = fromRelay();
    sending.taken = ({ tunnel }) => (tunnel.endsWith(BOB) ? never() : "taken");
    await sending.send(10, 1);
    await sending.send(10, 2, 2);
    assert.deepEqual([sending.completed, sending.calls.length], [[1, 2], 2]);
  });

  it("is held back by its own session, while the relay is read on", async () => {
    const sending = fromRelay();
    const room = Promise.withResolvers<Taken>();
    sending.taken = ({ tunnel }) => (tunnel.endsWith(BOB) ? room.promise : "taken");
    const size = STREAM_BATCH;
    await sending.send(size, 1);
    await sending.send(size, 2);
    assert.deepEqual(sending.states, []);
    await sending.send(size, 3);
    assert.deepEqual([sending.states, sending.inbound.isBehind], [["1 notReady"], false]);
    for (let message = 4; message < 20; message += 1) await sending.send(size, message, 2);
    assert.deepEqual([sending.states, sending.completed.length], [["1 notReady"], 19]);
    room.resolve("taken");
    await settle();
    assert.deepEqual([sending.states.at(-1), sending.inbound.streamed], ["1 ready", 0]);
  });

  it("is dropped beyond a limit, which takes no more memory of a relay that ignores that", async () => {
    const sending = fromRelay();
    sending.taken = never;
    const most = LINK_STREAMS_HELD / STREAM_BATCH;
    for (let message = 1; message <= 2 * most; message += 1) await sending.send(STREAM_BATCH, message);
    assert.equal(sending.inbound.streamed, LINK_STREAMS_HELD);
    assert.equal(sending.completed.length, 2 * most);
  });

  it("ends its session by name when the mailbox is locked, although it was acknowledged", async () => {
    const sending = fromRelay();
    sending.attached = () => ({ type: "locked" });
    await sending.send(10, 1);
    assert.deepEqual([sending.completed, sending.closed], [[1], [1]]);
  });
});

describe("what a device streams to one that has no room", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 }));
  afterEach(() => mock.timers.reset());

  async function stalled() {
    const sending = new Sending();
    const room = Promise.withResolvers<Taken>();
    sending.taken = ({ tunnel }) => (tunnel.endsWith(BOB) ? room.promise : "taken");
    for (let message = 1; message <= 3; message += 1) await sending.send(STREAM_BATCH, message);
    return { sending, room };
  }

  it("keeps the device from being read, for a moment", async () => {
    const { sending } = await stalled();
    mock.timers.tick(STREAM_STALL - 1);
    await settle();
    assert.deepEqual([sending.inbound.isBehind, sending.states, sending.completed], [true, [], []]);
  });

  it("then waits by itself: its session is suspended, and the device is read and answered", async () => {
    const { sending, room } = await stalled();
    mock.timers.tick(STREAM_STALL);
    await settle();
    assert.deepEqual([sending.inbound.isBehind, sending.states, sending.completed], [false, ["1 notReady"], [1, 2, 3]]);
    // What was on its way.
    await sending.send(STREAM_BATCH, 4);
    await sending.send(STREAM_BATCH, 5, 2);
    assert.deepEqual([sending.completed, sending.calls.at(-1)?.tunnel], [[1, 2, 3, 4, 5], `tunnel of ${CAROL}`]);
    room.resolve("taken");
    for (let batches = 0; batches < 4; batches += 1) await settle();
    assert.deepEqual([sending.states.at(-1), sending.inbound.streamed], ["1 ready", 0]);
    sending.taken = never;
    await sending.send(10, 6);
    assert.equal(sending.completed.includes(6), false, "it is acknowledged late again");
  });

  it("keeps a device from being read that ignores the suspension", async () => {
    const { sending } = await stalled();
    mock.timers.tick(STREAM_STALL);
    await settle();
    for (let message = 4; !sending.inbound.isBehind; message += 1) await sending.send(STREAM_BATCH, message);
    assert.ok(sending.inbound.streamed <= STALLED_HELD + STREAM_BATCH, `${sending.inbound.streamed} bytes`);
  });
});
