/** The budget that the answers kept in an isolate share. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { KeptAnswers } from "../../../src/edge/tunnel/kept-answers.ts";
import { KEPT_ANSWERS_OCTETS } from "../../../src/edge/tunnel/limits.ts";
import { HELD_BODY, MAX_BODY } from "../../../src/encapsulation/index.ts";

it("an answer may have 32768 bytes also when more is kept than the budget", () => {
  // Two answers of 32768 bytes each are always kept, and the budget knows of one.
  const all = Array.from({ length: 8 }, () => new KeptAnswers());
  const [most, ...others] = all;
  most?.count(KEPT_ANSWERS_OCTETS + MAX_BODY);
  for (const one of others) one.count(2 * MAX_BODY);
  assert.equal(new KeptAnswers().room(HELD_BODY), MAX_BODY);
  for (const one of all) one.count(0);
});

it("an object that is evicted gives back what its answers took", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const other = new KeptAnswers();
  new KeptAnswers().count(KEPT_ANSWERS_OCTETS);
  assert.ok(other.room(HELD_BODY) < HELD_BODY);
  for (let time = 0; time < 100 && other.room(HELD_BODY) < HELD_BODY; time += 1) {
    await new Promise(setImmediate);
    collect();
  }
  assert.equal(other.room(HELD_BODY), HELD_BODY);
});
