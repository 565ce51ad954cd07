/** Pauses and timeouts: what comes in time, what is late, and what is left behind. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { endOfTurn, promptly, sleep, within } from "../../../src/lib/runtime/timeout.ts";

/** How a promise stands after the microtasks that are due. */
async function standing(promise: Promise<unknown>): Promise<string> {
  let found = "pending";
  promise.then(
    (value) => {
      found = `resolved ${JSON.stringify(value)}`;
    },
    (error: Error) => {
      found = `rejected ${error.message}`;
    },
  );
  for (let n = 0; n < 10; n += 1) await Promise.resolve();
  return found;
}

const never = new Promise<never>(() => undefined);

describe("a time limit", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
  afterEach(() => mock.timers.reset());

  it("gives what comes in time", async () => {
    assert.deepEqual(await within(10, Promise.resolve("here")), { value: "here" });
    assert.equal(await promptly(10, Promise.resolve("here")), "here");
    await assert.rejects(within(10, Promise.reject(new Error("broken"))), /broken/);
  });

  it("gives up what is late", async () => {
    const [late, prompt] = [within(10, never), promptly(10, never)];
    mock.timers.tick(9);
    assert.equal(await standing(late), "pending");
    mock.timers.tick(1);
    assert.equal(await standing(late), "resolved undefined");
    assert.equal(await standing(prompt), "rejected no answer within 10 ms");
  });
});

describe("a pause", () => {
  it("ends in its time", async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    const pause = sleep(10, new AbortController().signal);
    mock.timers.tick(9);
    assert.equal(await standing(pause), "pending");
    mock.timers.tick(1);
    assert.match(await standing(pause), /^resolved/);
    mock.timers.reset();
  });

  it("ends when its signal aborts, and leaves no timer behind", async (t) => {
    const long = 1_000_000;
    const begun = t.mock.method(globalThis, "setTimeout");
    const ended = t.mock.method(globalThis, "clearTimeout");
    /** Timers that were begun and not ended. */
    const timers = () => {
      const over = ended.mock.calls.map(({ arguments: [timer] }) => timer);
      return begun.mock.calls.filter(({ result }) => !over.includes(result));
    };
    const cut = new AbortController();
    const pause = sleep(long, cut.signal);
    assert.equal(timers().length, 1);
    cut.abort();
    await pause;
    await sleep(long, cut.signal);
    assert.equal(timers().length, 0);
  });

  it("to the end of the turn lets everything of this turn happen", async () => {
    const order: string[] = [];
    const ended = endOfTurn().then(() => order.push("end"));
    queueMicrotask(() => void Promise.resolve().then(() => order.push("turn")));
    await ended;
    assert.deepEqual(order, ["turn", "end"]);
  });
});
