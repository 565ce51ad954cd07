/** A part of a file on its way to the disk. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type Folder, nodeFileSystem, type OpenFile } from "../../../src/cli/files/file-system.ts";
import { journalName, PartialFile, partName } from "../../../src/cli/files/partial-file.ts";
import { ALICE, transferOf } from "./transfer-support.ts";

/** A folder that tells which of its files are synced. Each sync waits for the test once `hold` was called. */
function observed(folder: Folder) {
  const syncing = new Map<string, () => void>();
  let isHeld = false;
  const watch = (file: OpenFile, name: string): OpenFile =>
    new Proxy(file, {
      get(target, key: keyof OpenFile) {
        const value: unknown = target[key];
        if (key !== "datasync") return typeof value === "function" ? value.bind(target) : value;
        return async () => {
          if (isHeld) await new Promise<void>((resolve) => syncing.set(name, resolve));
          await target.datasync();
        };
      },
    });
  const watched = new Proxy(folder, {
    get(target, key: keyof Folder) {
      if (key === "open") {
        return async (...[name, options]: Parameters<Folder["open"]>) => watch(await target.open(name, options), name);
      }
      const value: unknown = target[key];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return {
    watched,
    syncing,
    hold() {
      isHeld = true;
    },
  };
}

it("a part and its line in the journal are synced at the same time, and both before it is acknowledged", async (t) => {
  const path = await mkdtemp(join(tmpdir(), "grooveway-partial-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  const folder = await nodeFileSystem.openFolder(path, true);
  const { watched, syncing, hold } = observed(folder);
  const owner = { transfer: transferOf(1), from: ALICE, vouched: true };
  const partial = await PartialFile.open(watched, async () => undefined, "key", owner);
  hold();
  let isWritten = false;
  const bytes = new Uint8Array(1000).fill(7);
  const written = partial.part({ type: "part", transfer: owner.transfer, offset: 0, bytes }).then((decision) => {
    isWritten = true;
    return decision;
  });
  while (syncing.size < 2) await turn();
  assert.deepEqual([...syncing.keys()].sort(), [journalName("key"), partName("key")]);
  syncing.get(journalName("key"))?.();
  for (let turns = 0; turns < 20; turns += 1) await turn();
  assert.equal(isWritten, false);
  syncing.get(partName("key"))?.();
  assert.equal((await written).do, "write");
  await partial.close();
  await folder.close();
});
