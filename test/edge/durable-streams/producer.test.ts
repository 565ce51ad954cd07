/** Which requests of a producer are stored. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { judgeProducer, type ProducerState } from "../../../src/edge/durable-streams/producer.ts";

describe("a producer", () => {
  it("begins with 0, in any epoch", () => {
    assert.deepEqual(judgeProducer(undefined, { epoch: 3, seq: 0 }), { type: "accepted", state: { epoch: 3, seq: 0 } });
    assert.deepEqual(judgeProducer(undefined, { epoch: 0, seq: 1 }), { type: "gap", expected: 0 });
    const state = { epoch: 1, seq: 7 };
    assert.deepEqual(judgeProducer(state, { epoch: 2, seq: 0 }), { type: "accepted", state: { epoch: 2, seq: 0 } });
    assert.deepEqual(judgeProducer(state, { epoch: 2, seq: 1 }), { type: "epochWithoutStart" });
  });

  it("is fenced off by its successor", () => {
    assert.deepEqual(judgeProducer({ epoch: 2, seq: 0 }, { epoch: 1, seq: 9 }), { type: "fenced", epoch: 2 });
  });

  it("learns of a repeated request the last one that was stored", () => {
    const state = { epoch: 1, seq: 7 };
    assert.deepEqual(judgeProducer(state, { epoch: 1, seq: 3 }), { type: "duplicate", state });
    assert.deepEqual(judgeProducer(state, { epoch: 1, seq: 9 }), { type: "gap", expected: 8 });
  });

  it("has each request stored once and in order, however often and in whatever order they arrive", () => {
    const request = fc.record({ epoch: fc.nat({ max: 3 }), seq: fc.nat({ max: 5 }) });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 200 }), (requests) => {
        const stored: { epoch: number; seq: number }[] = [];
        let state: ProducerState | undefined;
        for (const each of requests) {
          const verdict = judgeProducer(state, each);
          if (verdict.type !== "accepted") continue;
          state = verdict.state;
          stored.push(each);
        }
        for (const [at, { epoch, seq }] of stored.entries()) {
          const before = stored[at - 1];
          const follows = before !== undefined && epoch === before.epoch && seq === before.seq + 1;
          assert.ok(follows || (seq === 0 && (before === undefined || epoch > before.epoch)));
        }
      }),
    );
  });
});
