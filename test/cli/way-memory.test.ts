import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openWayMemory } from "../../src/cli/way-memory.ts";

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "grooveway-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test("the way of a network is kept for the next run, beside what other runs keep", async (t) => {
  const state = folder(t);
  const [one, other] = [await openWayMemory({ state }), await openWayMemory({ state })];
  one?.remember("office", "keepalive");
  other?.remember("home", "websocket");
  other?.rememberIdle?.("office", 10_000);
  const next = await openWayMemory({ state });
  assert.deepEqual([next?.recall("office"), next?.recall("home")], ["keepalive", "websocket"]);
  assert.deepEqual([next?.recallIdle?.("office"), next?.recallIdle?.("home")], [10_000, undefined]);
  assert.deepEqual(readdirSync(state), ["ways.json"]);
  assert.equal(statSync(join(state, "ways.json")).mode & 0o777, 0o600);
});

test("a file that cannot be read or written is ignored", async (t) => {
  const state = folder(t);
  writeFileSync(join(state, "ways.json"), "{");
  const damaged = await openWayMemory({ state });
  damaged?.remember("office", "keepalive");
  assert.equal(damaged?.recall("office"), "keepalive");
  rmSync(join(state, "ways.json"));
  mkdirSync(join(state, "ways.json", "in the way"), { recursive: true });
  damaged?.remember("office", "polling");
  assert.equal(damaged?.recall("office"), undefined);
  assert.deepEqual(readdirSync(state), ["ways.json"]);
});

test("without a state folder nothing is kept", async () => {
  assert.equal(await openWayMemory({ env: {} }), undefined);
});
