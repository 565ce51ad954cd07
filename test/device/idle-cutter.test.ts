/** A proxy that cuts idle connections after 10 s, on a clock that runs twenty times as fast. */
import "../support/fast-clock.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import type { WayMemory } from "../../src/device/index.ts";
import { KEEP_ALIVE } from "../../src/device/limits.ts";
import { eventually } from "../support/watch.ts";
import { Edges } from "./edges-support.ts";
import type { Link } from "./support.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

const CUT_AFTER = 10_000;

/** Cuts a connection once nothing has passed for 10 s. */
function cutWhenIdle({ socket }: Link): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const used = () => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.destroy(), CUT_AFTER);
  };
  used();
  socket.on("data", used);
  socket.on("close", () => clearTimeout(timer));
}

class Memory implements WayMemory {
  idle: number | undefined;

  recall(): undefined {
    return undefined;
  }

  remember(): void {}

  recallIdle(): number | undefined {
    return this.idle;
  }

  rememberIdle(_: string, milliseconds: number): void {
    this.idle = milliseconds;
  }
}

test("keeps a device from being idle as soon as it is known, also by its next run", async (t) => {
  const edges = await Edges.start(t, 1);
  const relay = edges.relay(0);
  relay.onLink = cutWhenIdle;
  const ways = new Memory();
  const device = await edges.device("alice/pc", { ways });
  await eventually(() => ways.idle !== undefined, "the discovery", PATIENCE);
  assert.ok(ways.idle !== undefined && Math.abs(ways.idle - CUT_AFTER) < CUT_AFTER / 2, `${ways.idle} ms`);
  assert.ok(edges.opened.length >= 2, "one cut may be an accident");
  const cuts = relay.links.length;
  const standing = await relay.watch.until(() => relay.links[cuts], "a connection", PATIENCE);
  const since = performance.now();
  await eventually(() => performance.now() > since + 2 * KEEP_ALIVE, "twice the usual interval", PATIENCE);
  assert.equal(standing.ended, false);
  await device.close();
  await edges.device("bob/pc", { ways });
  assert.equal(edges.opened.at(-1)?.idleLimit, ways.idle);
});
