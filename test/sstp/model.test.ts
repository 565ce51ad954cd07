/**
 * Two engines, arbitrary calls on both, octets that arrive late and in arbitrary pieces. Neither side may ever report a
 * violation by the other, and every message is acknowledged once and in order, or reported as unacknowledged.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type {
  ConnectionEvent,
  ConnectionOptions,
  ConnectionSnapshot,
  OutboundSession as Outbound,
} from "../../src/sstp/index.ts";
import { Connection } from "../../src/sstp/index.ts";
import { runs } from "../support/long-form.ts";
import { bytes, clientOptions, entry, joined, RELAY_URL, relayOptions } from "./support.ts";

/** One side, and its owner's records. */
interface Side {
  readonly options: ConnectionOptions;
  connection: Connection;
  /** Octets on their way to the other side. */
  wire: Uint8Array;
  /** Bodies of messages by the number that endMessage returned. */
  readonly sent: Map<number, string>;
  readonly sending: Map<number, string>;
  readonly acknowledged: number[];
  readonly unacknowledged: number[];
  readonly receiving: Map<number, string>;
  /** Bodies by message number of this side's endMessage events, and whether they are completed. */
  readonly received: Map<number, { body: string; complete: boolean }>;
}

/** The possible actions of a step, and their weights out of a hundred. */
const WEIGHTS = {
  open: 4,
  ready: 8,
  notReady: 2,
  fault: 1,
  begin: 5,
  data: 8,
  end: 5,
  whole: 15,
  complete: 20,
  close: 2,
  time: 5,
  deliver: 25,
} as const;
type Kind = keyof typeof WEIGHTS;
type Step = readonly [side: 0 | 1, kind: Kind, choice: number];

function makeSide(options: ConnectionOptions): Side {
  return {
    options,
    connection: new Connection(options),
    wire: new Uint8Array(0),
    sent: new Map(),
    sending: new Map(),
    acknowledged: [],
    unacknowledged: [],
    receiving: new Map(),
    received: new Map(),
  };
}

function pick<T>(list: readonly T[], choice: number): T | undefined {
  return list[choice % Math.max(1, list.length)];
}

class World {
  readonly sides: readonly [Side, Side];
  readonly log: string[] = [];
  readonly #hibernate: boolean;
  #now = 0;
  #bodies = 0;

  /** @param hibernate save and restore the engine before each action */
  constructor(hibernate: boolean) {
    this.#hibernate = hibernate;
    const timers = { keepAlive: 20_000, acknowledgeAfter: 3000 };
    this.sides = [makeSide({ ...clientOptions, ...timers }), makeSide({ ...relayOptions, ...timers })];
    const [client, relay] = this.sides;
    client.connection.connect(RELAY_URL);
    this.#send(client);
    this.deliver(client, Number.POSITIVE_INFINITY);
    relay.connection.acceptConnect();
    this.#send(relay);
    this.deliver(relay, Number.POSITIVE_INFINITY);
    for (const side of this.sides) {
      this.step([side === client ? 0 : 1, "open", 0]);
      this.deliver(side, Number.POSITIVE_INFINITY);
      this.step([side === client ? 1 : 0, "ready", 0]);
      this.deliver(this.other(side), Number.POSITIVE_INFINITY);
    }
  }

  other(side: Side): Side {
    return this.sides[0] === side ? this.sides[1] : this.sides[0];
  }

  step([which, kind, choice]: Step): void {
    const side = this.sides[which];
    this.#wake(side);
    this.#act(side, kind, choice);
    this.#send(side);
  }

  /** The other side receives up to `count` octets sent by this one. */
  deliver(from: Side, count: number): void {
    const to = this.other(from);
    this.#wake(to);
    const octets = from.wire.subarray(0, count);
    from.wire = from.wire.subarray(octets.length);
    for (const event of to.connection.receive(octets.slice(), this.#now)) this.#note(to, event);
    this.#send(to);
  }

  /** Delivers everything, completes everything, and waits for the acknowledgements. */
  settle(): void {
    const [a, b] = this.sides;
    for (let round = 0; round < 4; round++) {
      while (a.wire.length + b.wire.length > 0) for (const side of this.sides) this.deliver(side, 1_000_000);
      for (const side of this.sides) {
        for (const [number, message] of side.received) {
          side.connection.complete(number);
          message.complete = true;
        }
        side.connection.noop();
        this.#send(side);
      }
    }
  }

  #wake(side: Side): void {
    if (!this.#hibernate) return;
    const saved = JSON.parse(JSON.stringify(side.connection.snapshot())) as ConnectionSnapshot;
    side.connection = Connection.restore(structuredClone(saved), side.options);
  }

  #send(side: Side): void {
    side.wire = joined([side.wire, ...side.connection.output(this.#now)]);
  }

  #act(side: Side, kind: Kind, choice: number): void {
    const { connection } = side;
    const sessions = connection.sessions();
    const outbound = pick(
      sessions.filter((session) => session.kind === "outbound"),
      choice,
    );
    const inbound = pick(
      sessions.filter((session) => session.kind === "inbound"),
      choice,
    );
    switch (kind) {
      case "open":
        connection.open(entry);
        break;
      case "ready":
      case "notReady":
      case "fault":
        if (inbound !== undefined) connection.setAvailability(inbound.sessionId, kind);
        break;
      case "begin":
        this.#begin(side, outbound, choice);
        break;
      case "data":
        this.#data(side, outbound, choice);
        break;
      case "end":
        this.#end(side, outbound);
        break;
      case "whole":
        this.#begin(side, outbound, choice);
        this.#data(side, outbound, choice);
        this.#end(side, outbound);
        break;
      case "complete": {
        const waiting = [...side.received].filter(([, message]) => !message.complete);
        const [number, message] = pick(waiting, choice % 4) ?? [];
        if (number === undefined || message === undefined) break;
        connection.complete(number, this.#now);
        message.complete = true;
        break;
      }
      case "close": {
        const session = pick(sessions, choice);
        if (session !== undefined) connection.closeSession(session.sessionId, 0);
        break;
      }
      case "time":
        this.#now += choice % 5000;
        for (const event of connection.advance(this.#now)) this.#note(side, event);
        break;
      case "deliver":
        this.deliver(side, choice);
    }
  }

  #begin({ connection, sending }: Side, session: Readonly<Outbound> | undefined, choice: number): void {
    if (session?.state !== "ready" || session.sending !== "idle") return;
    connection.beginMessage(session.sessionId, { acknowledgeImmediately: choice % 4 === 0 });
    sending.set(session.sessionId, "");
  }

  #data({ connection, sending }: Side, session: Readonly<Outbound> | undefined, choice: number): void {
    if (session?.state !== "ready" || session.sending === "idle") return;
    const part = `${this.#bodies++},`.repeat(1 + (choice % 700));
    connection.data(session.sessionId, bytes(part));
    sending.set(session.sessionId, sending.get(session.sessionId) + part);
  }

  #end({ connection, sending, sent }: Side, session: Readonly<Outbound> | undefined): void {
    if (session === undefined || session.sending === "idle") return;
    sent.set(connection.endMessage(session.sessionId), sending.get(session.sessionId) as string);
  }

  #note(side: Side, event: ConnectionEvent): void {
    const shown = JSON.stringify(event, (_, value) => (value instanceof Uint8Array ? value.length : value));
    this.log.push(`${side.options.role} ${shown}`);
    switch (event.type) {
      case "message":
        side.receiving.set(event.sessionId, "");
        break;
      case "data":
        side.receiving.set(
          event.sessionId,
          side.receiving.get(event.sessionId) + Buffer.from(event.octets).toString("latin1"),
        );
        break;
      case "endMessage":
        side.received.set(event.message, { body: side.receiving.get(event.sessionId) as string, complete: false });
        break;
      case "acknowledged":
        side.acknowledged.push(...event.messages);
        break;
      case "sessionClosed":
      case "sessionRefused":
        side.unacknowledged.push(...event.unacknowledged);
        break;
      case "closed":
        assert.fail(event.detail);
    }
  }
}

function checkMessages(side: Side, other: Side): void {
  const bodiesCompleted = [...other.received.values()].filter(({ complete }) => complete).map(({ body }) => body);
  const bodiesAcknowledged = side.acknowledged.map((number) => side.sent.get(number));
  assert.deepEqual(
    side.acknowledged,
    side.acknowledged.toSorted((a, b) => a - b),
    "acknowledged in order",
  );
  // Bodies differ, except empty ones: what was acknowledged was received as sent, and completed.
  let at = 0;
  for (const body of bodiesAcknowledged) {
    at = bodiesCompleted.indexOf(body as string, at) + 1;
    assert.ok(at > 0, "only completed messages are acknowledged");
  }
  const known = [...side.acknowledged, ...side.unacknowledged, ...side.connection.unacknowledged];
  assert.deepEqual(
    known.toSorted((a, b) => a - b),
    [...side.sent.keys()],
    "each message in one place",
  );
}

const kind = fc.oneof(
  ...(Object.entries(WEIGHTS) as [Kind, number][]).map(([name, weight]) => ({ arbitrary: fc.constant(name), weight })),
);
const steps = fc.array(fc.tuple(fc.constantFrom(0, 1), kind, fc.nat(10_000)), { maxLength: 400, size: "max" });

test("two engines agree on every message, however their commands are interleaved", () => {
  let acknowledged = 0;
  let unacknowledged = 0;
  fc.assert(
    fc.property(steps, (list) => {
      const world = new World(false);
      const [a, b] = world.sides;
      for (const step of list) {
        world.step(step);
        checkMessages(a, b);
        checkMessages(b, a);
      }
      world.settle();
      for (const side of world.sides) {
        checkMessages(side, world.other(side));
        assert.deepEqual(side.connection.unacknowledged, [], "nothing is left outstanding");
        acknowledged += side.acknowledged.length;
        unacknowledged += side.unacknowledged.length;
      }
    }),
    { numRuns: 200 },
  );
  // The model is useful only if it reaches these.
  assert.ok(acknowledged > 1000 && unacknowledged > 50, `${acknowledged} and ${unacknowledged}`);
});

test("a connection saved and restored before every step behaves the same", () => {
  fc.assert(
    fc.property(steps, (list) => {
      const worlds = [new World(false), new World(true)] as const;
      for (const world of worlds) {
        for (const step of list) world.step(step);
        world.settle();
      }
      assert.deepEqual(worlds[1].log, worlds[0].log);
    }),
    { numRuns: runs(60) },
  );
});
