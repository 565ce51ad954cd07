/** The budget that the answers kept in an isolate share. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { KeptAnswers } from "../../../src/edge/tunnel/kept-answers.ts";
import { KEPT_ANSWERS_OCTETS } from "../../../src/edge/tunnel/limits.ts";
import { HELD_BODY } from "../../../src/encapsulation/index.ts";

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
