/** A bounded number of things at a time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Semaphore } from "../../src/lib/semaphore.ts";

/** Names of those who have been served, as they are. */
function served() {
  const names: string[] = [];
  const note = (name: string, taken: Promise<void>) =>
    taken.then(
      () => void names.push(name),
      (error) => void names.push(`${name}: ${error.message}`),
    );
  const look = async () => {
    await new Promise(setImmediate);
    return names.splice(0);
  };
  return { note, look };
}

test("takers wait for room, in the order in which they came", async () => {
  const { note, look } = served();
  const semaphore = new Semaphore(10);
  void note("a", semaphore.take(6));
  void note("b", semaphore.take(5));
  void note("c", semaphore.take(1));
  assert.deepEqual(await look(), ["a"], "c does not overtake b");
  semaphore.give(1);
  assert.deepEqual(await look(), ["b"]);
  semaphore.give(5);
  assert.deepEqual(await look(), ["c"]);
});

test("who asks for more than there are gets all", async () => {
  const { note, look } = served();
  const semaphore = new Semaphore(10);
  void note("a", semaphore.take(100));
  void note("b", semaphore.take());
  assert.deepEqual(await look(), ["a"]);
  semaphore.give(100);
  assert.deepEqual(await look(), ["b"]);
});

test("after the end nobody is served, and those who wait are told", async () => {
  const { note, look } = served();
  const semaphore = new Semaphore(1);
  void note("a", semaphore.take());
  void note("b", semaphore.take());
  semaphore.close(new Error("over"));
  void note("c", semaphore.take());
  semaphore.give();
  assert.deepEqual(await look(), ["a", "b: over", "c: over"]);
});
