/** When a disk counts as full, and the ballast. The test drives the disk and the time. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { BALLAST, DiskWatch, MIN_FREE } from "../../../src/lib/node/disk-watch.ts";
import { folder } from "../../cli/support.ts";

const MIB = 1024 * 1024;
const LARGE = 8 * MIN_FREE;

async function watch(context: TestContext, free: number, size = LARGE) {
  const at = await folder(context);
  const disk = {
    bytes: free,
    time: 0,
    isSound: true,
    tries: 0,
    room: () => ({ free: disk.bytes, size }),
    now: () => disk.time,
    takesWrites: () => {
      disk.tries += 1;
      return disk.isSound;
    },
  };
  const told: boolean[] = [];
  const ballast = join(at, "ballast");
  const failing: boolean[] = [];
  const changed = (full: boolean) => told.push(full);
  const watch = new DiskWatch({ folder: at, ballast, changed, failing: (is) => failing.push(is) }, disk);
  context.after(() => watch.close());
  await watch.ready();
  return { watch, disk, told, failing, ballast };
}

describe("a disk", () => {
  it("is full below the minimum, and has room again an eighth above it", async (context) => {
    const { watch: one, disk, told } = await watch(context, MIN_FREE);
    assert.equal(one.full, false);
    for (const [bytes, full] of [
      [MIN_FREE - 1, true],
      [MIN_FREE, true],
      [MIN_FREE + MIN_FREE / 8, false],
      [MIN_FREE, false],
      [0, true],
    ] as const) {
      disk.bytes = bytes;
      one.look();
      assert.equal(one.full, full, String(bytes));
    }
    assert.deepEqual(told, [true, false, true]);
  });

  it("that is small is full below an eighth of its size", async (context) => {
    const { watch: one, disk, told } = await watch(context, 8 * MIB, 64 * MIB);
    assert.equal(one.full, false);
    disk.bytes = 8 * MIB - 1;
    one.look();
    assert.deepEqual(told, [true]);
  });

  it("that takes no writes is failing until it takes one again, and not by one failure", async (context) => {
    const { watch: one, disk, failing } = await watch(context, 1000 * MIB);
    one.broke();
    assert.deepEqual([one.isFailing, failing], [false, []], "a file could be written");
    disk.isSound = false;
    disk.time += 1000;
    one.broke();
    one.look();
    assert.deepEqual([one.isFailing, failing], [true, [true]]);
    disk.isSound = true;
    one.look();
    assert.deepEqual([one.isFailing, one.full, failing], [false, false, [true, false]]);
  });

  it("is tried once a second, however many writes fail, and always after the last of them", async (context) => {
    const { watch: one, disk, failing } = await watch(context, 1000 * MIB);
    for (let failures = 0; failures < 100; failures += 1) one.broke();
    assert.equal(disk.tries, 1);
    disk.isSound = false;
    one.broke();
    assert.deepEqual([disk.tries, failing], [1, []]);
    one.look();
    assert.deepEqual([disk.tries, failing], [2, [true]]);
    disk.isSound = true;
    one.look();
    one.look();
    assert.equal(disk.tries, 3);
  });

  it("counts as full for ten seconds after a failed write, whatever its free space", async (context) => {
    const { watch: one, disk } = await watch(context, 1000 * MIB);
    one.failed();
    assert.equal(one.full, true);
    disk.time = 9999;
    one.look();
    assert.equal(one.full, true);
    disk.time = 10_000;
    one.look();
    assert.equal(one.full, false);
  });
});

describe("the ballast", () => {
  it("is created when there is room, released when the disk is full, and created again", async (context) => {
    const { watch: one, disk, ballast } = await watch(context, 1000 * MIB);
    assert.equal(statSync(ballast).size, BALLAST);
    disk.bytes = 10 * MIB;
    one.look();
    assert(existsSync(ballast), "the rest of the minimum is used first");
    disk.bytes = 0;
    one.look();
    assert(!existsSync(ballast));
    disk.bytes = 1000 * MIB;
    one.look();
    await one.ready();
    assert.equal(statSync(ballast).size, BALLAST);
  });

  it("is released when a write fails", async (context) => {
    const { watch: one, ballast } = await watch(context, 1000 * MIB);
    one.failed();
    assert(!existsSync(ballast));
  });

  it("is not created where it would fill the disk", async (context) => {
    const { ballast } = await watch(context, MIN_FREE + BALLAST);
    assert(!existsSync(ballast));
  });
});
