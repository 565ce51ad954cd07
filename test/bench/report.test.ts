/** What the figures of the bench say about rounds that failed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { alternate, atOnce, type Contender, figureOf, intact, type Round } from "./report.ts";

/** A contender whose rounds, the one for warming up first, fail as often as the list says before they succeed. */
function failing(name: string, attempts: number, failures: readonly number[]): Contender {
  let turn = 0;
  let left = failures[0] ?? 0;
  return {
    name,
    against: [],
    attempts,
    async round(): Promise<Round> {
      left -= 1;
      if (left >= 0) throw new Error(`failure of ${name}\nwith details`);
      turn += 1;
      left = failures[turn] ?? 0;
      return { value: turn, count: 1, lost: 0, duplicated: 0 };
    },
  };
}

test("rounds that are begun again are counted, and a contender that fails in the end has failed", async () => {
  const figures = await alternate(
    [failing("one", 3, [2, 0, 1]), failing("two", 1, [0, 0]), failing("three", 3, [3])],
    2,
  );
  const find = (name: string) => figureOf(figures, name) ?? assert.fail(name);
  assert.deepEqual(find("one").begunAgain, { warm: 2, counted: 1, why: "failure of one" });
  assert.deepEqual(find("one").rounds, [2, 3]);
  assert.equal(find("two").begunAgain, undefined);
  assert.equal(find("three").missing, "FAILED: failure of three");
  assert.deepEqual(find("three").begunAgain, { warm: 2, counted: 0, why: "failure of three" });
  assert.equal(intact(figures).met, false);
  assert.deepEqual(atOnce(figures), { text: "no round is begun again (one, 1 times)", met: false });
  assert.equal(atOnce([find("two"), find("three")]).met, true);
});
