/** How long `send` waits for a recipient or a connection. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { StallWatch } from "../../../src/cli/files/stall-watch.ts";

/** A watch of 60 s that reports after 2 s, and what it has reported. */
function watchOf(context: TestContext, wait = 60_000) {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const said: string[] = [];
  const watch = new StallWatch({
    wait,
    silence: 2000,
    onWaiting: (reason) => said.push(`waiting for ${reason}`),
    onGoingOn: () => said.push("going on"),
    onGivenUp: (reason) => said.push(`given up on ${reason}`),
  });
  return { watch, said, tick: (seconds: number) => context.mock.timers.tick(seconds * 1000) };
}

test("a stalled recipient is waited for, reported, and given up", (context) => {
  const { watch, said, tick } = watchOf(context);
  tick(100);
  watch.held();
  tick(1.9);
  assert.deepEqual(said, []);
  tick(0.1);
  assert.deepEqual(said, ["waiting for recipient"]);
  tick(57.9);
  assert.deepEqual(said, ["waiting for recipient"]);
  tick(0.1);
  assert.deepEqual(said, ["waiting for recipient", "given up on recipient"]);
  tick(1000);
  assert.equal(said.length, 2, "once");
});

test("a recipient that makes room now and then is waited for", (context) => {
  const { watch, said, tick } = watchOf(context);
  for (let round = 0; round < 10; round += 1) {
    watch.held();
    tick(50);
    watch.released();
    tick(100);
  }
  assert.deepEqual(said.slice(0, 3), ["waiting for recipient", "going on", "waiting for recipient"]);
  assert.equal(said.length, 20);
});

test("a message taken by the relay from a held sender restarts the wait", (context) => {
  const { watch, said, tick } = watchOf(context);
  watch.held();
  tick(59);
  watch.progress();
  tick(59);
  assert.ok(!said.includes("given up on recipient"));
  tick(1);
  assert.ok(said.includes("given up on recipient"));
});

test("a lost connection is waited for until the next message gets through", (context) => {
  const { watch, said, tick } = watchOf(context);
  watch.lost();
  tick(10);
  watch.lost();
  tick(10);
  watch.progress();
  tick(1000);
  assert.deepEqual(said, ["waiting for connection", "going on"]);
  watch.lost();
  tick(60);
  assert.deepEqual(said.slice(2), ["waiting for connection", "given up on connection"]);
});

test("a short stall is not reported", (context) => {
  const { watch, said, tick } = watchOf(context);
  watch.held();
  tick(1);
  watch.released();
  tick(100);
  assert.deepEqual(said, []);
});

test("a wait of zero gives up at once", (context) => {
  const { watch, said, tick } = watchOf(context, 0);
  watch.held();
  tick(0);
  assert.deepEqual(said, ["given up on recipient"]);
});

test("a stopped watch does nothing", (context) => {
  const { watch, said, tick } = watchOf(context);
  watch.held();
  watch.stop();
  tick(1000);
  assert.deepEqual(said, []);
});
