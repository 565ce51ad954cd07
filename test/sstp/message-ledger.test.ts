/** The message ledger compared with plain lists, with enough messages that removed ones are compacted meanwhile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Ledger } from "../../src/sstp/message-ledger.ts";

interface Plain {
  readonly message: number;
  readonly sessionId: number;
  readonly immediate: boolean;
  complete: boolean;
}

/** The behaviour of a ledger, without regard to cost. */
class PlainLedger {
  lastSent = 0;
  lastReceived = 0;
  due = 0;
  urgent = false;
  outbound: Plain[] = [];
  inbound: Plain[] = [];

  sent(sessionId: number): number {
    this.lastSent += 1;
    this.outbound.push({ message: this.lastSent, sessionId, immediate: false, complete: false });
    return this.lastSent;
  }

  acknowledge(count: number): number[] | undefined {
    if (count > this.outbound.length) return undefined;
    return this.outbound.splice(0, count).map(({ message }) => message);
  }

  dropOutbound(sessionId: number): number[] {
    const dropped = this.outbound.filter((sent) => sent.sessionId === sessionId);
    this.outbound = this.outbound.filter((sent) => sent.sessionId !== sessionId);
    return dropped.map(({ message }) => message);
  }

  received(sessionId: number, immediate: boolean): number {
    this.lastReceived += 1;
    this.inbound.push({ message: this.lastReceived, sessionId, immediate, complete: false });
    return this.lastReceived;
  }

  complete(message: number): boolean | undefined {
    if (message < 1 || message > this.lastReceived) return undefined;
    const found = this.inbound.find((received) => received.message === message);
    if (found !== undefined) found.complete = true;
    this.#advance();
    return found !== undefined;
  }

  dropInbound(sessionId: number): void {
    this.inbound = this.inbound.filter((received) => received.sessionId !== sessionId);
    this.#advance();
  }

  #advance(): void {
    while (this.inbound[0]?.complete) {
      this.urgent ||= this.inbound[0].immediate;
      this.due += 1;
      this.inbound.shift();
    }
  }
}

type Step =
  | { readonly do: "send" | "receive"; readonly sessionId: number; readonly count: number; readonly immediate: boolean }
  | { readonly do: "acknowledge"; readonly part: number }
  /** Selects messages around a position in all received ones: consecutive from there, or every `every`-th. */
  | { readonly do: "complete"; readonly place: number; readonly count: number; readonly every: number }
  | { readonly do: "dropOutbound" | "dropInbound"; readonly sessionId: number }
  | { readonly do: "acknowledgementSent" | "restore" };

const sessionId = fc.integer({ min: 1, max: 4 });
const part = fc.double({ min: 0, max: 1, noNaN: true });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constantFrom("send" as const, "receive" as const),
    sessionId,
    count: fc.integer({ min: 1, max: 900 }),
    immediate: fc.boolean(),
  }),
  fc.record({ do: fc.constant("acknowledge" as const), part }),
  fc.record({
    do: fc.constant("complete" as const),
    place: part,
    count: fc.integer({ min: 1, max: 2000 }),
    every: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({ do: fc.constantFrom("dropOutbound" as const, "dropInbound" as const), sessionId }),
  fc.record({ do: fc.constantFrom("acknowledgementSent" as const, "restore" as const) }),
);

test("a ledger matches a list of its messages", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 40 }), (steps) => {
      let ledger = new Ledger();
      const plain = new PlainLedger();
      for (const step of steps) {
        switch (step.do) {
          case "send":
            for (let n = 0; n < step.count; n += 1)
              assert.equal(ledger.sent(step.sessionId), plain.sent(step.sessionId));
            break;
          case "receive":
            for (let n = 0; n < step.count; n += 1) {
              const message = plain.received(step.sessionId, step.immediate);
              assert.equal(ledger.received(step.sessionId, step.immediate), message);
            }
            break;
          case "acknowledge": {
            const count = Math.round(step.part * (plain.outbound.length + 1));
            assert.deepEqual(ledger.acknowledge(count), plain.acknowledge(count));
            break;
          }
          case "complete": {
            // Mostly from the oldest incomplete one on; sometimes before and beyond all.
            const oldest = plain.inbound[0]?.message ?? plain.lastReceived;
            const from = step.place < 0.7 ? oldest : Math.round(step.place * (plain.lastReceived + 1));
            for (let n = 0; n < step.count; n += step.every) {
              assert.equal(ledger.complete(from + n), plain.complete(from + n));
            }
            break;
          }
          case "dropOutbound":
            assert.deepEqual(ledger.dropOutbound(step.sessionId), plain.dropOutbound(step.sessionId));
            break;
          case "dropInbound":
            ledger.dropInbound(step.sessionId);
            plain.dropInbound(step.sessionId);
            break;
          case "acknowledgementSent":
            ledger.acknowledgementSent();
            plain.due = 0;
            plain.urgent = false;
            break;
          case "restore":
            // Urgent messages have triggered their acknowledgement by then.
            ledger = Ledger.restore(JSON.parse(JSON.stringify(ledger.snapshot())));
            plain.urgent = false;
            break;
        }
        assert.deepEqual(
          [ledger.due, ledger.urgent, ledger.unprocessed],
          [plain.due, plain.urgent, plain.inbound.length],
        );
        assert.deepEqual(
          ledger.unacknowledged,
          plain.outbound.map(({ message }) => message),
        );
      }
      assert.deepEqual(ledger.snapshot().inbound, plain.inbound);
    }),
    { numRuns: 60 },
  );
});

test("numbers never assigned are distinguished from those already removed", () => {
  const ledger = new Ledger();
  ledger.received(1, false);
  assert.deepEqual(
    [0, 2, 1.5, Number.NaN, -1].map((message) => ledger.complete(message)),
    [undefined, undefined, undefined, undefined, undefined],
  );
  assert.equal(ledger.complete(1), true);
  assert.equal(ledger.complete(1), false);
});
