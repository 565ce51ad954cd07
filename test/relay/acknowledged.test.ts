/** A relay acknowledges only what it has stored, whatever a peer sends and closes in any order. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Hub } from "../../src/relay/hub.ts";
import { PeerConnection } from "../../src/relay/peer-connection.ts";
import { RelayTrust } from "../../src/relay/relay-trust.ts";
import { Store } from "../../src/relay/store.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  Decoder,
  encode,
  relayURL,
  VERSION_1_6,
} from "../../src/sstp/index.ts";
import { runs } from "../support/long-form.ts";

const RELAY = relayURL("relay.example.com");
const MESSAGE_LIMIT = 100;
/** The number of messages one sender may have waiting for a peer. */
const QUOTA = 3;

const PEERS = [0, 1, 2].map((n) => ({ identityURL: `grooveIdentity://p${n}`, deviceURL: `grooveDevice://p${n}/pc` }));

interface Sent {
  readonly session: number;
  readonly number: number;
  readonly to: readonly number[];
  readonly volatile: boolean;
}

/** A relay with one peer on a simulated socket. */
class World {
  // The device is the only sender, and has half of the quota.
  readonly store = new Store(undefined, { octets: 1_000_000, messages: 2 * QUOTA, share: 0.5 });
  readonly hub = new Hub(this.store, () => undefined, new RelayTrust(new Map()));
  readonly device = new Connection({
    role: "client",
    outbound: true,
    localDeviceURLs: ["grooveDevice://alice/pc"],
    now: 0,
  });
  readonly events: ConnectionEvent[] = [];
  readonly sent: Sent[] = [];
  readonly sessions: { readonly id: number; readonly to: readonly number[] }[] = [];
  /** Entries of fanout sessions reported to the device. */
  readonly told = new Map<number, Set<number>>();
  readonly #socket: EventEmitter;
  readonly #decoder = new Decoder(VERSION_1_6);

  constructor() {
    this.#socket = Object.assign(new EventEmitter(), {
      writableLength: 0,
      writableNeedDrain: false,
      destroyed: false,
      cork: () => undefined,
      uncork: () => undefined,
      pause: () => undefined,
      resume: () => undefined,
      end: () => undefined,
      destroy: () => undefined,
      write: (octets: Uint8Array) => this.#heard(octets),
    });
    const settings = { localDeviceURLs: [RELAY], messageLimit: MESSAGE_LIMIT, tokens: undefined };
    new PeerConnection(this.hub, this.#socket as unknown as Socket, settings);
    this.device.connect(RELAY);
    this.flush();
    this.hub.settle();
  }

  /** In order of events: a device that has closed its session hears no more about it. */
  #heard(octets: Uint8Array): boolean {
    this.#decoder.push(octets, (command) => {
      if (command.command === "SessionStatus") {
        const { sessionId, deviceURL, fanoutDeviceIndexes } = command;
        const { to } = this.sessions.find(({ id }) => id === sessionId) ?? assert.fail();
        const named = to.flatMap((peer, index) => (PEERS[peer]?.deviceURL === deviceURL ? [index] : []));
        this.told.set(sessionId, new Set([...(this.told.get(sessionId) ?? []), ...(fanoutDeviceIndexes ?? named)]));
      }
      const events = this.device.receive(encode(command, VERSION_1_6), 0);
      this.events.push(...events);
      for (const event of events) if (event.type === "acknowledged") for (const n of event.messages) this.#check(n);
      return true;
    });
    return true;
  }

  #check(number: number): void {
    const { session, to, volatile } = this.sent.find((sent) => sent.number === number) ?? assert.fail();
    if (volatile) return;
    for (const [index, peer] of to.entries()) {
      const safe = this.stored(peer).includes(`${number}`) || this.told.get(session)?.has(index) === true;
      assert.ok(safe, `message ${number} is acknowledged but not stored for peer ${peer}`);
    }
  }

  /** Bodies of a peer's waiting messages. */
  stored(peer: number): string[] {
    const { deviceURL = "" } = PEERS[peer] ?? {};
    return this.store.after(deviceURL, 0, 1000).map(({ seq }) =>
      Buffer.from(this.store.body(seq, 0) ?? [])
        .toString()
        .trim(),
    );
  }

  open(to: readonly number[], fanout: boolean): void {
    const entries = to.flatMap((n) => PEERS[n] ?? []);
    const [first = assert.fail()] = entries;
    const id = fanout
      ? this.device.openFanout({ resourceURL: "m", entries: entries.map((entry) => ({ ...entry, relayURL: "" })) })
      : this.device.open({ resourceURL: "m", ...first });
    this.sessions.push({ id, to });
  }

  send(at: number, volatile: boolean, long: boolean): void {
    const { id, to } = this.sessions[at % this.sessions.length] ?? assert.fail();
    const session = this.device.session(id);
    if (session?.kind !== "outbound" || session.state !== "ready") return;
    const number = this.sent.length + 1;
    this.device.beginMessage(id, { acknowledgeImmediately: true, doNotDeliverIfOffline: volatile });
    this.device.data(id, Buffer.from(`${number}`.padEnd(long ? MESSAGE_LIMIT + 1 : 1)));
    assert.equal(this.device.endMessage(id), number);
    this.sent.push({ session: id, number, to, volatile });
  }

  close(at: number): void {
    const { id } = this.sessions[at % this.sessions.length] ?? assert.fail();
    if (this.device.session(id) !== undefined) this.device.closeSession(id, CloseReasonId.Idle);
  }

  flush(): void {
    const octets = Buffer.concat(this.device.output(0));
    if (octets.length > 0) this.#socket.emit("data", octets);
  }

  /** Asserts order per session and recipient, with gaps only at the end. */
  checkOrder(): void {
    for (const { id, to } of this.sessions) {
      for (const peer of to) {
        const all = this.sent
          .filter(({ session, volatile }) => session === id && !volatile)
          .map(({ number }) => `${number}`);
        const come = this.stored(peer).filter((text) => all.includes(text));
        assert.deepEqual(come, all.slice(0, come.length), `messages of session ${id} for peer ${peer}`);
      }
    }
  }

  end(): void {
    this.#socket.emit("close");
    this.hub.settle();
    this.store.close();
  }
}

function begun(): World {
  const world = new World();
  for (const [to, fanout] of [
    [[0], false],
    [[1], false],
    [[0, 1, 2], true],
    [[2, 1], true],
  ] as const)
    world.open(to, fanout);
  world.flush();
  world.hub.settle();
  return world;
}

const seldom = fc.nat(5).map((n) => n === 0);
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      at: fc.nat(3),
      volatile: seldom,
      long: seldom,
      closed: seldom,
      flushed: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("settle" as const) }) },
);

describe("acknowledgements of a relay", () => {
  it("cover only stored messages and fanouts whose refusals were reported, in any order of events", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), fc.boolean(), (steps, closes) => {
        const world = begun();
        try {
          for (const one of steps) {
            if (world.device.closed !== undefined) break;
            if (one.do === "settle") world.hub.settle();
            else {
              world.send(one.at, one.volatile, one.long);
              if (one.closed) world.close(one.at);
              if (one.flushed) world.flush();
            }
          }
          if (closes && world.device.closed === undefined) world.device.close(ConnectCloseReasonId.Resting);
          world.flush();
          world.hub.settle();
          world.checkOrder();
          // No sender is left waiting.
          if (world.device.closed === undefined) assert.deepEqual(world.device.unacknowledged, []);
        } finally {
          world.end();
        }
      }),
      { numRuns: runs(500) },
    );
  });

  // A message to a single peer is suspended before it is refused for quota, and refused at once for its length.
  for (const { at, before, long } of [
    { at: 0, before: QUOTA - 1, long: true },
    { at: 2, before: QUOTA, long: false },
  ]) {
    it(`exclude a message refused after its session was closed behind it: the connection ends, on session ${at}`, () => {
      const world = begun();
      for (let n = 0; n < before; n += 1) world.send(at, false, false);
      world.flush();
      world.hub.settle();
      world.send(at, false, long);
      world.close(at);
      world.send(1, false, false);
      world.flush();
      world.hub.settle();
      const { closed } = world.device;
      assert.deepEqual(
        [closed?.by, closed?.reasonId, closed?.unacknowledged],
        ["peer", ConnectCloseReasonId.Resting, [before + 1, before + 2]],
      );
      assert.ok((closed?.returnTime ?? 0) > 0);
      world.end();
    });
  }
});
