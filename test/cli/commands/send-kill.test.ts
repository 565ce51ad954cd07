/** A sender is killed at random times and rerun until it finishes: each file arrives exactly once. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PART_BYTES } from "../../../src/transfer/index.ts";
import { FULL } from "../../support/long-form.ts";
import { eventually, pattern } from "../../support/watch.ts";
import { Chance, seedOf } from "../../torture/support.ts";
import { Place } from "../files/send-support.ts";
import { start } from "../support.ts";

const KILLS = FULL ? 100 : 6;
const SMALL_FILES = FULL ? 3000 : 300;
const LARGE_FILES = FULL ? 20 : 4;

test("a sender that is killed and rerun sends every file once", { timeout: 1_200_000 }, async (context) => {
  const seed = seedOf();
  const chance = new Chance(seed);
  context.diagnostic(`seed ${seed}`);
  const place = await Place.open(context);
  const top = join(place.here, "top");
  mkdirSync(join(top, "small"), { recursive: true });
  const contents = new Map<string, Uint8Array>();
  const sizes = [
    ...Array.from({ length: SMALL_FILES }, () => chance.below(5000)),
    ...Array.from({ length: LARGE_FILES }, () => 2 * PART_BYTES + chance.below(10 * PART_BYTES)),
  ];
  for (const [index, size] of sizes.entries()) {
    const name = size > PART_BYTES ? `${index}` : `small/${index}`;
    const bytes = pattern(size, index + seed);
    writeFileSync(join(top, name), bytes);
    contents.set(`top/${name}`, bytes);
  }

  let kills = 0;
  for (;;) {
    const before = place.parts + place.received.length;
    const sending = start(context, place.args([top]));
    let isOver = false;
    void sending.finished.then(() => {
      isOver = true;
    });
    if (kills < KILLS) {
      // Usually not while Node itself starts.
      await eventually(() => isOver || place.parts + place.received.length > before, "something to come");
      // The first kill comes at once, since a fast machine finishes soon.
      if (kills > 0) await sleep(chance.below(400));
      if (!isOver) sending.process.kill("SIGKILL");
    }
    const { code, stdout, stderr } = await sending.finished;
    if (code === 0) {
      assert.match(stdout, new RegExp(`^sent ${contents.size} files to bob/laptop: `));
      break;
    }
    assert.equal(sending.process.signalCode, "SIGKILL", stderr);
    kills += 1;
  }
  context.diagnostic(`${kills} kills`);
  assert.ok(kills > 0);

  assert.deepEqual(await place.names(contents.size), [...contents.keys()].sort());
  for (const [name, bytes] of contents) assert.ok(readFileSync(join(place.there, name)).equals(bytes), name);
  const files = readdirSync(join(place.there, "top"), { recursive: true, encoding: "utf8" });
  const count = files.filter((name) => statSync(join(place.there, "top", name)).isFile()).length;
  assert.equal(count, contents.size, "there are no duplicates");
});
