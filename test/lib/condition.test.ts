/** Who waits for a condition, and who is woken. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Condition } from "../../src/lib/condition.ts";

const turn = () => new Promise(setImmediate);

describe("a condition", () => {
  it("wakes all that wait, in order, and nobody that comes later", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom("wait", "notify"), { maxLength: 20 }), async (steps) => {
        const condition = new Condition();
        const woken: number[] = [];
        let [waiting, notified] = [0, 0];
        for (const step of steps) {
          if (step === "wait") {
            const name = waiting++;
            void condition.wait().then(() => woken.push(name));
          } else {
            condition.notifyAll();
            notified = waiting;
          }
          assert.equal(condition.isAwaited, waiting > notified);
        }
        await turn();
        assert.deepEqual(
          woken,
          Array.from({ length: notified }, (_, name) => name),
        );
      }),
    );
  });

  it("can be waited for again by those it wakes", async () => {
    const condition = new Condition();
    let woken = 0;
    const again = async () => {
      for (;;) {
        await condition.wait();
        woken += 1;
      }
    };
    void again();
    condition.notifyAll();
    await turn();
    assert.deepEqual([woken, condition.isAwaited], [1, true]);
    condition.notifyAll();
    await turn();
    assert.equal(woken, 2);
  });
});
