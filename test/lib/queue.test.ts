/** The queues against arrays. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { OctetQueue } from "../../src/lib/octet-queue.ts";
import { Queue } from "../../src/lib/queue.ts";

const step = fc.oneof(
  fc.record({ do: fc.constant("push" as const), count: fc.integer({ min: 1, max: 2000 }) }),
  fc.record({ do: fc.constant("shift" as const), count: fc.integer({ min: 1, max: 2000 }) }),
  fc.record({ do: fc.constant("putBack" as const), count: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ do: fc.constant("remove" as const), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ do: fc.constant("clear" as const), count: fc.constant(1) }),
);

describe("a queue", () => {
  it("is first in, first out, however long it is", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const queue = new Queue<string>();
        let plain: string[] = [];
        let names = 0;
        const fresh = (count: number) => Array.from({ length: count }, () => `${++names}`);
        for (const { do: what, count } of steps) {
          if (what === "push") {
            const added = fresh(count);
            for (const one of added) queue.push(one);
            plain.push(...added);
          } else if (what === "shift") {
            for (let n = 0; n < count; n += 1) assert.equal(queue.shift(), plain.shift());
          } else if (what === "putBack") {
            const before = fresh(count);
            queue.putBack(before);
            plain = [...before, ...plain];
          } else if (what === "remove") {
            const gone = new Set(plain.filter((_, index) => index % 7 < count));
            queue.remove(gone);
            plain = plain.filter((one) => !gone.has(one));
          } else {
            queue.clear();
            plain = [];
          }
          assert.deepEqual([queue.size, queue.first], [plain.length, plain[0]]);
        }
        assert.deepEqual([...queue], plain);
      }),
      { numRuns: 50 },
    );
  });
});

describe("a queue of bytes", () => {
  const piece = fc.uint8Array({ maxLength: 6 });
  const octetStep = fc.oneof(
    fc.array(piece, { maxLength: 4 }),
    fc.record({ take: fc.integer({ min: 0, max: 12 }) }),
    fc.record({ takePiece: fc.integer({ min: 1, max: 5 }) }),
    fc.constant("clear" as const),
  );

  it("gives the bytes in order, and counts them", () => {
    fc.assert(
      fc.property(fc.array(octetStep, { maxLength: 20 }), (steps) => {
        const queue = new OctetQueue();
        let plain: number[] = [];
        for (const one of steps) {
          if (one === "clear") {
            queue.clear();
            plain = [];
          } else if (Array.isArray(one)) {
            queue.push(one);
            plain.push(...one.flatMap((octets) => [...octets]));
          } else if ("take" in one) {
            const taken = queue.take(one.take);
            assert.ok(taken.every(({ length }) => length > 0));
            assert.deepEqual(
              taken.flatMap((octets) => [...octets]),
              plain.splice(0, one.take),
            );
          } else {
            const taken = queue.takePiece(one.takePiece);
            assert.equal(taken === undefined, plain.length === 0);
            assert.ok((taken?.length ?? 1) > 0 && (taken?.length ?? 0) <= one.takePiece);
            assert.deepEqual([...(taken ?? [])], plain.splice(0, taken?.length ?? 0));
          }
          assert.equal(queue.length, plain.length);
        }
      }),
    );
  });

  it("does not copy a piece that is taken whole", () => {
    const queue = new OctetQueue();
    const octets = new Uint8Array(3);
    queue.push([octets, new Uint8Array(2)]);
    assert.equal(queue.takePiece(), octets);
    assert.deepEqual(queue.take(Number.POSITIVE_INFINITY), [new Uint8Array(2)]);
    assert.equal(queue.takePiece(), undefined);
  });
});
