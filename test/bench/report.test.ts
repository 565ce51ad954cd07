/** What the figures of the bench say about rounds that failed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { alternate, atOnce, type Contender, type Figure, figureOf, intact, type Round } from "./report.ts";

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

test("each figure is shown as soon as its last round is over, with ratios to those before it", async () => {
  const shown: string[] = [];
  const contenders: Contender[] = ["floor", "row"].map((name, at) => ({
    name,
    against: name === "row" ? ["floor"] : [],
    async round(warm): Promise<Round> {
      shown.push(`${name}${warm ? " warm" : ""}`);
      return { value: at + 1, count: 1, lost: 0, duplicated: 0 };
    },
  }));
  const onFigure = ({ name, against }: Figure) => shown.push(`figure of ${name} ${against[0]?.ratio ?? ""}`.trim());
  await alternate(contenders, 2, { onFigure });
  const twice = ["floor", "row"];
  assert.deepEqual(shown, ["floor warm", "row warm", ...twice, "floor", "figure of floor", "row", "figure of row 2"]);
});

test("no round is begun when the time of a section is over, but each contender has one", async () => {
  let rounds = 0;
  const contender: Contender = {
    name: "one",
    against: [],
    async round(): Promise<Round> {
      rounds += 1;
      return { value: rounds, count: 1, lost: 0, duplicated: 0 };
    },
  };
  const shown: string[] = [];
  const [figure] = await alternate([contender], 5, { budget: 0, onFigure: ({ name }) => shown.push(name) });
  assert.deepEqual([figure?.rounds, rounds, shown], [[2], 2, ["one"]]);
});
