/** Times from storing a message to its acknowledgement. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DeliveryTimes } from "../../../src/edge/mailbox/delivery-times.ts";

function timed() {
  const times = new Map<number, number>();
  const counted = {
    delivered(milliseconds: number, messages: number) {
      times.set(milliseconds, (times.get(milliseconds) ?? 0) + messages);
    },
  };
  return { times, deliveries: new DeliveryTimes(counted) };
}

describe("delivery times", () => {
  it("are those of each message, whatever arrived together", () => {
    const { times, deliveries } = timed();
    deliveries.sent(1, 3, 100);
    deliveries.sent(4, 2, 150);
    deliveries.acknowledged([[1, 4]], 200);
    assert.deepEqual(
      [...times],
      [
        [100, 3],
        [50, 1],
      ],
    );
    deliveries.acknowledged([[5, 5]], 300);
    assert.equal(times.get(150), 1);
  });

  it("begin anew for what is sent again", () => {
    const { times, deliveries } = timed();
    deliveries.sent(1, 2, 100);
    deliveries.forget([[1, 1]]);
    deliveries.sent(1, 1, 100);
    deliveries.acknowledged([[1, 2]], 110);
    assert.deepEqual([...times], [[10, 2]]);
    deliveries.sent(3, 1, 100);
    deliveries.clear();
    deliveries.acknowledged([[3, 3]], 110);
    assert.equal(times.get(10), 2);
  });

  it("count each message once, in any order of acknowledgements", () => {
    const ranges = fc.array(fc.tuple(fc.nat(60), fc.nat(20)), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 8 }), ranges, (batches, acknowledged) => {
        const { times, deliveries } = timed();
        let next = 1;
        for (const [at, size] of batches.entries()) {
          deliveries.sent(next, size, at);
          next += size;
        }
        for (const [from, length] of acknowledged) deliveries.acknowledged([[from, from + length]], 1000);
        deliveries.acknowledged([[0, 1000]], 1000);
        assert.deepEqual(
          [...times].sort(([one], [other]) => other - one),
          batches.map((size, at) => [1000 - at, size]),
        );
      }),
    );
  });
});
