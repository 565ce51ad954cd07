/**
 * End-to-end flow control in one process: the outboxes of devices, the intakes of their Tunnels, and the store and
 * waiters of one mailbox, with calls between them that cross, get lost, and meet an object without its memory. The
 * capacity is never exceeded, each message arrives once and in order, and no sender waits while there is room.
 */
import assert from "node:assert/strict";
import { it, mock } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { DeviceError } from "../../../src/device/device-error.ts";
import { Outbox } from "../../../src/device/outbox.ts";
import type { Destination, RelayConnection } from "../../../src/device/relay-connection.ts";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { InboundMessages } from "../../../src/edge/endpoint/inbound-messages.ts";
import { ROOM_RETRY } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { RoomWaiters } from "../../../src/edge/mailbox/room-waiters.ts";
import type { Appended, Outcome } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { CloseReasonId, Connection, type ConnectionEvent, deviceURL, relayURL } from "../../../src/sstp/index.ts";
import { senderOf } from "../../../src/store-and-forward/sender-share.ts";
import { FULL } from "../../support/long-form.ts";
import { database } from "../mailbox/sqlite.ts";

const QUOTA = { octets: 1024 * 1024, messages: 24, share: 0.5 };
const EDGE = relayURL("edge.example.com");
const BOB = { resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "grooveDevice://bob/pc" };
const DESTINATION: Destination = { to: "bob/pc", ...BOB, relayURL: "", key: "bob", newId: () => "" };
const SENDERS = 3;
/** A run has more than one suspension on average, but with a few runs that would depend on chance. */
const RUNS = FULL ? 100 : 40;

/** A call on its way to the mailbox or back: it may be executed, then answered, or lost. */
interface Call {
  readonly sender: number;
  readonly run: () => void;
  answer: (() => void) | undefined;
  readonly lose: () => void;
}

/** The carrier that the outbox needs, on an engine whose octets go to an edge in this process. */
class Line {
  readonly engine: Connection;
  readonly transport = { remaining: Number.POSITIVE_INFINITY };
  readonly messageLimit = Number.POSITIVE_INFINITY;
  sessionId: number | undefined;
  #asked: ((outcome: { ok: true; sessionId: number } | { ok: false; error: DeviceError }) => void)[] = [];
  readonly #exchange: () => void;

  constructor(source: string, exchange: () => void) {
    this.engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [source], now: 0 });
    this.#exchange = exchange;
  }

  ready(sessionId: number): boolean {
    const session = this.engine.session(sessionId);
    return session?.kind === "outbound" && session.state === "ready";
  }

  readySession(): number | undefined {
    return this.sessionId !== undefined && this.ready(this.sessionId) ? this.sessionId : undefined;
  }

  suspendedSession(): number | undefined {
    const session = this.sessionId === undefined ? undefined : this.engine.session(this.sessionId);
    return session?.kind === "outbound" && session.state === "suspended" ? this.sessionId : undefined;
  }

  session(): Promise<{ ok: true; sessionId: number } | { ok: false; error: DeviceError }> {
    const ready = this.readySession();
    if (ready !== undefined) return Promise.resolve({ ok: true, sessionId: ready });
    this.sessionId ??= this.engine.open(BOB);
    return new Promise((resolve) => {
      this.#asked.push(resolve);
      this.#exchange();
    });
  }

  follow(event: ConnectionEvent): void {
    if (event.type === "sessionState" && event.state === "ready") this.#tell({ ok: true, sessionId: event.sessionId });
    if (event.type === "sessionClosed" || event.type === "sessionRefused") {
      this.sessionId = undefined;
      const quota = event.type === "sessionClosed" && event.reasonId === CloseReasonId.QuotaWouldBeExceeded;
      this.#tell({
        ok: false,
        error: new DeviceError(quota ? "QuotaWouldBeExceeded" : "ConnectFailed", ""),
      });
    }
  }

  #tell(outcome: { ok: true; sessionId: number } | { ok: false; error: DeviceError }): void {
    const asked = this.#asked;
    this.#asked = [];
    for (const resolve of asked) resolve(outcome);
  }

  async flush(): Promise<void> {
    this.#exchange();
  }

  fail(): void {}

  end(error: unknown): void {
    throw error;
  }
}

/** A device, and its Tunnel while it is connected. */
class Peer {
  readonly source: string;
  readonly outbox: Outbox;
  line: Line | undefined;
  relay: Connection | undefined;
  intake: InboundMessages | undefined;
  sent = 0;
  readonly acknowledged = new Set<string>();
  readonly failures: DeviceError[] = [];
  rests: (() => void)[] = [];
  #exchanging = false;
  readonly #world: World;
  readonly #at: number;

  constructor(world: World, at: number) {
    this.#world = world;
    this.#at = at;
    this.source = deviceURL({ identity: `s${at}`, device: "pc" });
    this.outbox = new Outbox({
      needed: (length) => length,
      renew: async () => undefined,
      isRenewing: () => false,
      pause: () => new Promise((resolve) => this.rests.push(resolve)),
    });
  }

  connect(): void {
    const line = new Line(this.source, () => this.exchange());
    this.line = line;
    this.relay = new Connection({ role: "relay", outbound: false, localDeviceURLs: [EDGE], now: 0 });
    const host = {
      name: `tunnel-${this.#at}-${this.#world.tunnels++}`,
      mailbox: () => ({
        // Calls copy what they carry.
        append: (bundle: MessageBatch, from?: string) => this.#world.append(this.#at, structuredClone(bundle), from),
      }),
      waitUntil: () => undefined,
      messageLimit: QUOTA.octets / 2,
    } as unknown as EndpointContext;
    this.intake = new InboundMessages(host, this.relay, () => this.exchange(), {
      copies: () => undefined,
      wake: () => undefined,
    });
    this.intake.introduce(this.source, false, this.source);
    this.#world.intakes.set(host.name, this.intake);
    line.engine.connect(EDGE);
    this.exchange();
    this.outbox.attach(line as unknown as RelayConnection);
  }

  disconnect(): void {
    this.intake?.abandon();
    this.line?.engine.transportLost();
    this.relay?.transportLost();
    this.relay = undefined;
    this.intake = undefined;
    this.line = undefined;
    this.outbox.detach();
  }

  send(size: number): void {
    const id = `${this.sent}`;
    this.sent += 1;
    const body = new Uint8Array(size);
    this.outbox.add({
      userRef: `${id}@s${this.#at}/pc`,
      acknowledgeImmediately: true,
      destination: DESTINATION,
      body,
      signal: undefined,
      resolve: () => {
        assert.ok(!this.acknowledged.has(id));
        this.acknowledged.add(id);
      },
      reject: (error) => this.failures.push(error),
    });
  }

  /** Exchanges octets until none are left. */
  exchange(): void {
    if (this.#exchanging) return;
    this.#exchanging = true;
    try {
      for (let more = true; more; ) {
        more = false;
        const { line, relay } = this;
        if (line === undefined || relay === undefined) return;
        for (const block of line.engine.output(0)) {
          more = true;
          for (const event of relay.receive(block, 0)) this.#atEdge(event);
        }
        this.intake?.flush();
        for (const block of relay.output(0)) {
          more = true;
          for (const event of line.engine.receive(block, 0)) {
            const key = "sessionId" in event && event.sessionId === line.sessionId ? "bob" : undefined;
            line.follow(event);
            if (this.line === line) this.outbox.on(event, key);
          }
        }
        if (line.engine.closed !== undefined && this.line === line) this.disconnect();
      }
    } finally {
      this.#exchanging = false;
    }
  }

  #atEdge(event: ConnectionEvent): void {
    const { relay, intake } = this;
    if (relay === undefined || intake === undefined) return;
    if (event.type === "connect") relay.acceptConnect();
    if (event.type === "open") {
      relay.setAvailability(event.sessionId, "ready");
      intake.open(event.sessionId, this.source, event.resourceURL, [{ ...event, relayURL: "" }], false);
    }
    if (event.type === "message") intake.begin(event.sessionId, event.fields);
    if (event.type === "data") intake.data(event.sessionId, event.octets);
    if (event.type === "endMessage") intake.end(event.sessionId, event.message);
    if (event.type === "sessionClosed" && event.kind === "inbound") intake.close(event.sessionId);
  }
}

class World {
  readonly #db = database();
  store!: MailboxStore;
  waiters!: RoomWaiters;
  now = 0;
  tunnels = 0;
  readonly intakes = new Map<string, InboundMessages>();
  readonly peers: Peer[];
  calls: Call[] = [];
  /** Tunnels being notified of room: whether they have heard, and the outcome of the call. */
  rooms: { readonly name: string; readonly sender: string; readonly upTo: number; heard: boolean }[] = [];
  /** What the consumer has received, or an operator has removed, by source. */
  readonly taken = new Map<string, string[]>();
  readonly purged = new Set<string>();

  constructor() {
    this.wake();
    this.peers = Array.from({ length: SENDERS }, (_, at) => new Peer(this, at));
    for (const peer of this.peers) peer.connect();
  }

  /** The mailbox starts from what it has stored. */
  wake(): void {
    const { sql, transaction } = this.#db;
    this.store = new MailboxStore(sql, transaction, { quota: QUOTA });
    this.waiters = new RoomWaiters(this.store);
  }

  append(sender: number, bundle: MessageBatch, from: string | undefined): Promise<Appended> {
    return new Promise((resolve, reject) => {
      const call: Call = {
        sender,
        run: () => {
          const appended = this.#append(bundle, from);
          call.answer = () => resolve(appended);
        },
        answer: undefined,
        lose: () => reject(new Error("the object was reset")),
      };
      this.calls.push(call);
    });
  }

  /** As a mailbox does. */
  #append(bundle: MessageBatch, from: string | undefined): Appended {
    const outcomes = this.store.append(bundle, this.now, { reserve: from !== undefined });
    const sender = senderOf(bundle.envelopes[0]?.source ?? "");
    const some = outcomes.some((outcome) => outcome !== "tooLong");
    const suspend =
      from !== undefined && some && this.store.isAtMark(sender) && this.waiters.add({ name: from, sender });
    const refusals = outcomes.flatMap((outcome: Outcome, at) =>
      outcome === "stored" || outcome === "duplicate" ? [] : [{ at, outcome }],
    );
    return { refusals, ...(suspend && { suspend: this.store.last, suspended: [sender] }) };
  }

  consume(count: number, purges = false): void {
    for (const { first, bundle } of this.store.read(0, Number.MAX_SAFE_INTEGER, count)) {
      for (const { envelope, fields } of unpack(bundle)) {
        const [id = ""] = fields.userRef.split("@");
        if (purges) this.purged.add(`${envelope.source} ${id}`);
        const taken = this.taken.get(envelope.source) ?? [];
        if (!purges) this.taken.set(envelope.source, [...taken, id]);
      }
      this.store.remove([[first, first + unpack(bundle).length - 1]]);
    }
  }

  tell(): void {
    const waiters = this.waiters.take((sender) => this.store.mayGoOn(sender), this.now);
    for (const waits of waiters) this.rooms.push({ ...waits, upTo: this.store.last, heard: false });
  }

  hear(at: number): void {
    const room = this.rooms[at];
    if (room === undefined || room.heard) return;
    room.heard = true;
    this.intakes.get(room.name)?.room(BOB.deviceURL, room.upTo, room.sender);
    for (const peer of this.peers) peer.exchange();
  }

  settleRoom(at: number, lost: boolean): void {
    const [room] = this.rooms.splice(at, 1);
    if (room === undefined) return;
    if (lost) this.waiters.failed(room, this.now);
    else {
      if (!room.heard) this.intakes.get(room.name)?.room(BOB.deviceURL, room.upTo, room.sender);
      this.waiters.told(room);
    }
  }

  check(): void {
    const { messages, octets } = this.store.waiting();
    assert.ok(messages <= QUOTA.messages && octets <= QUOTA.octets, `${messages} messages, ${octets} octets`);
  }
}

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      at: fc.nat(SENDERS - 1),
      count: fc.integer({ min: 1, max: 20 }),
      size: fc.constantFrom(10, 10, 10, 50_000, 200_000),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom("run" as const, "answer" as const), at: fc.nat(5) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("consume" as const), count: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("purge" as const) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("tell" as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constantFrom("hear" as const, "told" as const, "lost" as const), at: fc.nat(3) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("evict" as const, "rest" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("reconnect" as const), at: fc.nat(SENDERS - 1) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function settle(world: World): Promise<void> {
  for (let n = 0; n < 4; n += 1) await turn();
  for (const peer of world.peers) {
    if (peer.relay?.closed !== undefined) peer.exchange();
    if (peer.line === undefined) peer.connect();
    peer.exchange();
  }
  for (let n = 0; n < 4; n += 1) await turn();
}

function act(world: World, one: Step): void {
  switch (one.do) {
    case "send":
      for (let n = 0; n < one.count; n += 1) world.peers[one.at]?.send(one.size);
      break;
    case "run": {
      const waiting = world.calls.filter(({ answer }) => answer === undefined);
      waiting[one.at % Math.max(1, waiting.length)]?.run();
      break;
    }
    case "answer": {
      const done = world.calls.filter(({ answer }) => answer !== undefined);
      const call = done[one.at % Math.max(1, done.length)];
      world.calls = world.calls.filter((other) => other !== call);
      call?.answer?.();
      break;
    }
    case "consume":
      world.consume(one.count);
      break;
    case "purge":
      world.consume(QUOTA.messages, true);
      break;
    case "tell":
      world.tell();
      break;
    case "hear":
      world.hear(one.at);
      break;
    case "told":
      world.settleRoom(one.at, false);
      break;
    case "lost":
      world.settleRoom(one.at, true);
      break;
    case "evict": {
      // The outcome of pending calls is unknown.
      const calls = world.calls;
      world.calls = [];
      world.rooms = [];
      world.wake();
      for (const call of calls) call.lose();
      break;
    }
    case "rest":
      for (const peer of world.peers) {
        const { rests } = peer;
        peer.rests = [];
        for (const resolve of rests) resolve();
      }
      break;
    case "reconnect":
      world.peers[one.at]?.disconnect();
      break;
  }
}

it("a mailbox never exceeds its capacity, loses and duplicates nothing, and leaves no sender waiting while there is room", async (t) => {
  // Each lost call is logged.
  const log = mock.method(console, "error", () => undefined);
  t.after(() => log.mock.restore());
  let suspensions = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
      const world = new World();
      for (const one of steps) {
        act(world, one);
        await settle(world);
        world.check();
        suspensions += world.waiters.size;
      }
      // From now on nothing fails, and the consumer reads.
      let quiet = 0;
      for (let rounds = 0; quiet < 3; rounds += 1) {
        assert.ok(rounds < 500, "a sender waits while there is room");
        world.now += ROOM_RETRY;
        while (world.calls.length > 0) {
          for (const call of world.calls) if (call.answer === undefined) call.run();
          const calls = world.calls;
          world.calls = [];
          for (const call of calls) call.answer?.();
          await settle(world);
          world.check();
        }
        world.consume(QUOTA.messages);
        world.tell();
        for (let at = 0; at < world.rooms.length; at += 1) world.hear(at);
        while (world.rooms.length > 0) world.settleRoom(0, false);
        act(world, { do: "rest" });
        await settle(world);
        const isDone = world.peers.every((peer) => peer.acknowledged.size + peer.failures.length === peer.sent);
        quiet = isDone && world.store.messages === 0 && world.calls.length === 0 ? quiet + 1 : 0;
      }
      for (const peer of world.peers) {
        // A sender with nothing waiting may be refused when the mailbox is full: that is not a suspension.
        for (const error of peer.failures) assert.equal(error.code, "QuotaWouldBeExceeded");
        const came = (world.taken.get(peer.source) ?? []).map(Number);
        assert.deepEqual(
          came,
          [...came].sort((a, b) => a - b),
          "in order",
        );
        assert.equal(new Set(came).size, came.length, "once");
        for (const id of peer.acknowledged) {
          assert.ok(came.includes(Number(id)) || world.purged.has(`${peer.source} ${id}`), `message ${id} is lost`);
        }
      }
      assert.equal(world.waiters.size, 0);
      for (const peer of world.peers) peer.outbox.end(new DeviceError("Closed", ""));
    }),
    { numRuns: RUNS },
  );
  assert.ok(suspensions > (FULL ? 100 : 20), `${suspensions} suspensions: too few to test anything`);
});
