/** The data structures in which a device keeps its messages and recipients. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { REMEMBERED_RECIPIENTS } from "../../src/device/limits.ts";
import { Recipients } from "../../src/device/recipients.ts";
import { Queue } from "../../src/lib/queue.ts";
import { REMEMBERED_OF_SOURCE, RecentSet } from "../../src/lib/recent-set.ts";

test("a queue behaves as an array", () => {
  const step = fc.record({
    do: fc.constantFrom("push", "push", "shift", "shift", "putBack", "clear"),
    count: fc.integer({ min: 1, max: 1500 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const queue = new Queue<{ readonly n: number }>();
      let plain: { readonly n: number }[] = [];
      let n = 0;
      for (const step of steps) {
        const items = Array.from({ length: step.count }, () => ({ n: n++ }));
        if (step.do === "push") {
          for (const item of items) queue.push(item);
          plain.push(...items);
        } else if (step.do === "putBack") {
          queue.putBack(items);
          plain.unshift(...items);
        } else if (step.do === "clear") {
          queue.clear();
          plain = [];
        } else {
          for (const _ of items) assert.equal(queue.shift(), plain.shift());
        }
        assert.equal(queue.first, plain[0]);
        assert.deepEqual([...queue], plain);
      }
    }),
    { numRuns: 100 },
  );
});

const ID = "x".repeat(60);

test("a set of recent ids remembers the last ids of a source, each once, within its memory limit", () => {
  const remembered = new RecentSet();
  const count = 2 * Math.ceil(REMEMBERED_OF_SOURCE / 64);
  for (let n = 0; n < count; n += 1) remembered.add("alice", `${ID}${n}`);
  for (let n = 0; n < count; n += 1) remembered.add("alice", `${ID}${count - 1}`);
  assert.ok(remembered.has("alice", `${ID}${count - 1}`));
  assert.ok(remembered.has("alice", `${ID}${count - 10_000}`));
  assert.ok(!remembered.has("alice", `${ID}0`));
  assert.ok(!remembered.has("bob", `${ID}${count - 1}`));
});

test("a busy source does not evict the ids of other sources", () => {
  const remembered = new RecentSet();
  remembered.add("alice", "1");
  for (let n = 0; n < 10; n += 1) {
    for (let i = 0; i < 40_000; i += 1) remembered.add(`mallory-${n}`, `${ID}${i}`);
  }
  assert.ok(remembered.has("alice", "1"));
  assert.ok(remembered.has("mallory-9", `${ID}39999`));
});

test("the number of sources is bounded, and the most recent ones are remembered", () => {
  const remembered = new RecentSet();
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < 400_000; n += 1) remembered.add(`source-${n}`, `${ID}${n}`);
  assert.ok(remembered.has("source-399999", `${ID}399999`));
  assert.ok(!remembered.has("source-0", `${ID}0`));
  assert.ok(process.memoryUsage().heapUsed - before < 300 * 1024 * 1024);
});

test("a recipient that was forgotten leads to the same session by name and resource", () => {
  const recipients = new Recipients("@alice/laptop", "relay.example.com");
  const bob = recipients.destination("bob/pc", "message");
  assert.equal(recipients.destination("bob/pc", "message"), bob);
  const others = [
    recipients.destination("bob/pc", "file"),
    recipients.destination("bob", "message"),
    recipients.destination("bob/pc@other.example.com", "message"),
  ];
  assert.equal(new Set([bob, ...others].map(({ key }) => key)).size, 4);
  // Another name for the same recipient.
  assert.equal(recipients.destination("bob/pc@relay.example.com:2492", "message").key, bob.key);
  for (let n = 0; n < REMEMBERED_RECIPIENTS; n += 1) recipients.destination(`other-${n}`, `resource-${n % 7}`);
  const again = recipients.destination("bob/pc", "message");
  assert.notEqual(again, bob);
  assert.equal(again.key, bob.key);
});

test("generated ids are unique, count per recipient, and end with the sender's address", () => {
  const recipients = new Recipients("@alice/laptop", "relay.example.com");
  const ids = ["bob/pc", "bob/phone"].flatMap((to) => {
    const destination = recipients.destination(to, "message");
    return Array.from({ length: 3 }, destination.newId);
  });
  for (const [at, id] of ids.entries()) assert.match(id, new RegExp(`^[\\w-]{16}-${(at % 3) + 1}@alice/laptop$`));
  const another = new Recipients("@alice/laptop", "relay.example.com");
  const more = Array.from({ length: 3 }, another.destination("bob/pc", "message").newId);
  assert.equal(new Set([...ids, ...more]).size, 9);
});
