/** A bounded number of permits. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Semaphore } from "../../src/lib/semaphore.ts";

/** Names in the order they were served. */
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

test("waiters are served in order as permits are returned", async () => {
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

test("a request for more than the total takes everything", async () => {
  const { note, look } = served();
  const semaphore = new Semaphore(10);
  void note("a", semaphore.take(100));
  void note("b", semaphore.take());
  assert.deepEqual(await look(), ["a"]);
  semaphore.give(100);
  assert.deepEqual(await look(), ["b"]);
});

test("after the end nobody is served, and waiters are told", async () => {
  const { note, look } = served();
  const semaphore = new Semaphore(1);
  void note("a", semaphore.take());
  void note("b", semaphore.take());
  semaphore.close(new Error("over"));
  void note("c", semaphore.take());
  semaphore.give();
  assert.deepEqual(await look(), ["a", "b: over", "c: over"]);
});
