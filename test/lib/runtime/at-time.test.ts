import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { atTime } from "../../../src/lib/runtime/timeout.ts";
import { listen } from "../../support/sockets.ts";

test("a process that was kept from running reads what has arrived before it judges", async (t) => {
  const accepted = Promise.withResolvers<Socket>();
  const server = await listen(accepted.resolve);
  t.after(() => server.close());
  const client = connect(server.port, "127.0.0.1");
  const far = await accepted.promise;
  const seen: string[] = [];
  client.on("data", () => seen.push("data"));
  await once(client, "connect");
  const judged = Promise.withResolvers<void>();
  atTime(performance.now() + 1, () => {
    seen.push("judged");
    judged.resolve();
  });
  far.write("alive");
  // Long enough to count as kept from running.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
  await judged.promise;
  assert.deepEqual(seen, ["data", "judged"]);
  client.destroy();
});

test("a time that has passed is now", async () => {
  const judged = Promise.withResolvers<void>();
  atTime(performance.now() - 5, judged.resolve);
  await judged.promise;
});
