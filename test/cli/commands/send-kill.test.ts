/** A sender is killed, at random times and just before it exits, and rerun: each file arrives exactly once. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { PART_BYTES } from "../../../src/transfer/index.ts";
import { FULL } from "../../support/long-form.ts";
import { eventually, pattern } from "../../support/watch.ts";
import { Chance, seedOf } from "../../torture/support.ts";
import { Place } from "../files/send-support.ts";
import { start } from "../support.ts";

const RUN_COMMAND = new URL("../../../src/cli/run-command.ts", import.meta.url).href;

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
    // With this line it has finished, even if it is killed before it has exited.
    if (code === 0 || stdout !== "") {
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

test("a sender that is killed when it has sent everything, and has not exited yet, sends nothing again", async (context) => {
  const place = await Place.open(context);
  for (const name of ["a", "b", "c"]) place.write(name, name);
  const args = place.args([place.here]);
  const script = `
    import { runCommand } from ${JSON.stringify(RUN_COMMAND)};
    await runCommand(${JSON.stringify(args)});
    process.kill(process.pid, "SIGKILL");`;
  const sending = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", script],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  assert.deepEqual(await once(sending, "close"), [null, "SIGKILL"]);

  const { code, stdout, stderr } = await start(context, args).finished;
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^sent 3 files to bob\/laptop: 3 B \(3 B of it in earlier runs\)/);
  // Messages arrive in order: nothing else is on the way once this has arrived.
  place.write("last", "last");
  await place.send(context, [join(place.here, "last")]);
  assert.deepEqual(await place.names(4), ["here/a", "here/b", "here/c", "last"]);
});

test("a rerun after success sends everything again", async (context) => {
  const place = await Place.open(context);
  const file = place.write("a", "a");
  for (const count of [1, 2]) {
    assert.equal((await place.send(context, [file])).code, 0);
    assert.equal((await place.names(count)).length, count);
  }
});

test("a rerun after some files failed sends only those", async (context) => {
  const place = await Place.open(context);
  const first = place.write("first", "first");
  const second = join(place.here, "second");
  const failed = await place.send(context, [first, second]);
  assert.equal(failed.code, EXIT_CODES.SomeFailed.status, failed.stderr);

  place.write("second", "second");
  const { code, stdout, stderr } = await place.send(context, [first, second]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^sent 2 files to bob\/laptop: 11 B \(5 B of it in earlier runs\)/);
  assert.deepEqual(await place.names(2), ["first", "second"]);
});
