/** Offsets of a mailbox: they sort like places, and name what was lost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatPlace, type Losses, placeAfter, placeOf } from "../../../src/edge/durable-streams/mailbox-offset.ts";
import { parseOffset } from "../../../src/edge/durable-streams/offset.ts";

const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 1000 });

describe("an offset of a mailbox", () => {
  it("is gone if something after it was lost since its epoch", () => {
    const losses: Losses = { floor: 10, epoch: 12 };
    const gone = (incarnation: number, position: number) =>
      placeOf({ incarnation, position }, losses, 20) === undefined;
    assert.deepEqual(
      [gone(0, 5), gone(11, 9), gone(12, 5), gone(0, 10), gone(0, 20)],
      [true, true, false, false, false],
    );
    // No message has that number.
    assert.ok(gone(12, 21));
    // One that was made up knows no more than there is to know.
    assert.deepEqual(placeOf({ incarnation: 99, position: 5 }, losses, 20), { position: 5, epoch: 12 });
    assert.deepEqual(placeOf("beginning", losses, 20), { position: 0, epoch: 12 });
    assert.deepEqual(placeOf("now", losses, 20), { position: 20, epoch: 12 });
  });

  it("sorts like the place that it names, however much is lost while its reader goes on", () => {
    const step = fc.record({ ahead: fc.nat(50), loses: fc.nat(60), isLoss: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let losses: Losses = { floor: 0, epoch: 0 };
        const last = 1000;
        let text = formatPlace({ position: 0, epoch: 0 });
        for (const { ahead, loses, isLoss } of steps) {
          if (isLoss) {
            const floor = Math.min(last, losses.floor + loses);
            losses = { floor, epoch: Math.max(losses.epoch + 1, floor) };
          }
          const offset = parseOffset(text);
          assert.ok(offset !== undefined);
          const place = placeOf(offset, losses, last) ?? placeOf("beginning", losses, last);
          assert.ok(place !== undefined);
          const next = formatPlace(placeAfter(place, Math.min(last, place.position + ahead), losses));
          // One that begins anew may be before where it was, and sorts after what it had.
          assert.ok(next >= text || place.position === 0, `${next} sorts before ${text}`);
          assert.ok(next >= formatPlace(place));
          text = next;
        }
      }),
    );
  });

  it("names no other place than that for which it was written", () => {
    fc.assert(
      fc.property(number, number, (epoch, position) => {
        const offset = parseOffset(formatPlace({ position, epoch }));
        const isZero = position === 0 && epoch === 0;
        assert.deepEqual(offset, isZero ? "beginning" : { incarnation: epoch, position });
      }),
    );
  });
});
