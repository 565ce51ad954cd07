/** The Worker's gate, with a clock driven by the tests. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  CONTACTS,
  CONTACTS_PATIENCE,
  CONTACTS_RATE,
  CROWDED_TIME,
  MACHINE_RETRY,
  MISSES,
  MISSES_RATE,
  TOKEN_CONTACTS,
  TOKEN_CONTACTS_RATE,
  TURNED_PAUSE,
  TURNED_WAITING,
} from "../../../src/edge/admission/limits.ts";
import { Gate, type Turned } from "../../../src/edge/admission/source-gate.ts";
import type { Reason } from "../../../src/edge/reasons.ts";
import { reportDisk, reportFiles } from "../report-machine.ts";

type Answer = "lives" | Reason | Turned;

function started() {
  const slept: number[] = [];
  const clock = {
    time: 1_000_000,
    now: () => clock.time,
    sleep: async (milliseconds: number) => {
      slept.push(milliseconds);
    },
  };
  const gate = new Gate(clock);
  let calls = 0;
  const ask = (source: string, guid: string, answer: Answer = "lives") =>
    gate.ask<Answer>(
      source,
      guid,
      async () => {
        calls += 1;
        return answer;
      },
      {
        reasonOf: (said) => (said === "lives" || typeof said === "object" ? undefined : said),
        turn: (turned) => turned,
      },
    );
  return { gate, clock, slept, ask, calls: () => calls };
}

describe("the source gate", () => {
  it("admits known virtual connections at once, however many requests they make", async () => {
    const { ask, slept, calls } = started();
    for (let n = 0; n < 10_000; n += 1) assert.equal(await ask("a", "guid"), "lives");
    assert.deepEqual([slept.length, calls()], [0, 10_000]);
  });

  it("refuses new connections while the machine lacks files or a disk, and not those that it knows", async () => {
    const { ask, calls } = started();
    assert.equal(await ask("a", "known"), "lives");
    for (const [lack, give, reason] of [
      [() => reportFiles("short"), () => reportFiles("enough"), "TooManyOpenFiles"],
      [() => reportDisk("failing"), () => reportDisk("free"), "StorageFailed"],
    ] as const) {
      await lack();
      assert.deepEqual(await ask("a", reason), { reason, retryAfter: MACHINE_RETRY });
      assert.equal(await ask("a", "known"), "lives");
      await give();
      assert.equal(await ask("a", reason), "lives");
    }
    assert.equal(calls(), 5);
  });

  it("paces new connections of a source, refuses those whose turn is too far off, and admits other sources", async () => {
    const { ask, slept, calls } = started();
    const most = CONTACTS + (CONTACTS_RATE * CONTACTS_PATIENCE) / 1000;
    const answers: Answer[] = [];
    for (let n = 0; n < most + 100; n += 1) answers.push(await ask("a", `guid ${n}`));
    assert.equal(calls(), most);
    const turns = slept.length - 100;
    assert.equal(turns, most - CONTACTS);
    assert.ok(slept.slice(0, turns).every((pause) => pause <= CONTACTS_PATIENCE));
    assert.ok(slept.slice(turns).every((pause) => pause === TURNED_PAUSE));
    assert.deepEqual(answers.at(-1), { reason: "TooManyHalfOpen", retryAfter: 11 });
    assert.equal(await ask("b", "from elsewhere"), "lives");
    assert.equal(await ask("", "from nowhere"), "lives");
    assert.equal(slept.length, turns + 100, "neither has waited");
  });

  it("paces many tokens together, faster than a source, and other sources do not wait for them", async () => {
    const { ask, slept, calls, clock } = started();
    for (let n = 0; n < TOKEN_CONTACTS; n += 1) assert.equal(await ask(`token:${n}`, `guid ${n}`), "lives");
    assert.deepEqual(slept, []);
    await ask("token:next", "next");
    assert.deepEqual(slept, [1000 / TOKEN_CONTACTS_RATE]);
    assert.equal(await ask("192.0.2.1", "without a token"), "lives");
    assert.equal(slept.length, 1);
    const most = (TOKEN_CONTACTS_RATE * CONTACTS_PATIENCE) / 1000;
    for (let n = 1; n < most; n += 1) await ask(`token:more ${n}`, `more ${n}`);
    const before = calls();
    const late = await ask("token:late", "late");
    assert.deepEqual([late, calls()], [{ reason: "TooManyHalfOpen", retryAfter: 11 }, before]);
    clock.time += 1000;
    assert.equal(await ask("token:late", "late"), "lives");
  });

  it("delays refused requests, up to a limit per source", async () => {
    const { ask, slept, clock } = started();
    await ask("a", "guid", "TooManyHalfOpen");
    for (let n = 0; n < TURNED_WAITING + 50; n += 1) assert.notEqual(await ask("a", `new ${n}`), "lives");
    assert.deepEqual(new Set(slept), new Set([TURNED_PAUSE]));
    assert.equal(slept.length, TURNED_WAITING);
    clock.time += TURNED_PAUSE;
    await ask("a", "later");
    assert.equal(slept.length, TURNED_WAITING + 1);
    assert.equal(await ask("b", "from elsewhere"), "lives");
  });

  it("gives both requests of a virtual connection one turn", async () => {
    const { ask, slept, calls, clock } = started();
    for (let n = 0; n < CONTACTS; n += 1) await ask("a", `guid ${n}`);
    const [get, post] = [ask("a", "pair"), ask("a", "pair")];
    assert.deepEqual([await get, await post], ["lives", "lives"]);
    assert.deepEqual(slept, [1000 / CONTACTS_RATE, 1000 / CONTACTS_RATE]);
    await ask("a", "next");
    assert.equal(slept.at(-1), 2000 / CONTACTS_RATE, "the pair has taken one turn");
    assert.equal(calls(), CONTACTS + 3);
    clock.time += 1000 / CONTACTS_RATE;
    await ask("a", "pair");
    assert.equal(slept.length, 3, "it is known by now, and does not wait");
  });

  it("refuses both requests when the source becomes crowded meanwhile, and forgets them", async () => {
    const { ask, calls, clock } = started();
    for (let n = 0; n < CONTACTS - 1; n += 1) await ask("a", `guid ${n}`);
    const crowding = ask("a", "crowding", "TooManyHalfOpen");
    const turn = Promise.withResolvers<void>();
    clock.sleep = () => turn.promise;
    const pair = [ask("a", "pair"), ask("a", "pair")];
    assert.equal(await crowding, "TooManyHalfOpen");
    turn.resolve();
    for (const answer of await Promise.all(pair)) {
      assert.deepEqual(answer, { reason: "TooManyHalfOpen", retryAfter: CROWDED_TIME / 1000 });
    }
    assert.equal(calls(), CONTACTS);
    clock.time += CROWDED_TIME;
    assert.equal(await ask("a", "pair"), "lives");
  });

  it("delays and refuses nobody for longer because the clock was set back", async () => {
    const { ask, slept, clock } = started();
    await ask("a", "guid");
    await ask("b", "crowding", "TooManyHalfOpen");
    clock.time -= 3600_000;
    assert.equal(await ask("a", "guid"), "lives");
    assert.equal(await ask("b", "another"), "lives");
    assert.deepEqual(slept, []);
  });

  it("refuses look-ups of a source that misses too often, and none for its half-open virtual connections", async () => {
    const { gate, ask, clock, slept } = started();
    await ask("a", "guid", "TooManyHalfOpen");
    for (let n = 0; n < MISSES; n += 1) assert.equal(await gate.look("a"), undefined);
    assert.deepEqual(await gate.look("a"), { reason: "TooManyLookups", retryAfter: 1 });
    assert.deepEqual(slept, [TURNED_PAUSE]);
    assert.equal(await gate.look("b"), undefined);
    gate.found("a");
    assert.equal(await gate.look("a"), undefined);
    clock.time += 1000 / MISSES_RATE;
    assert.equal(await gate.look("a"), undefined);
  });

  it("refuses a source that guesses too often", async () => {
    const { ask, calls, clock } = started();
    for (let n = 0; n < MISSES; n += 1)
      assert.equal(await ask("a", `guess ${n}`, "UnknownConnection"), "UnknownConnection");
    assert.deepEqual(await ask("a", "one more", "UnknownConnection"), { reason: "TooManyMisses", retryAfter: 1 });
    assert.equal(calls(), MISSES);
    assert.equal(await ask("b", "from elsewhere"), "lives");
    clock.time += 1000 / MISSES_RATE;
    assert.equal(await ask("a", "later"), "lives");
  });

  it("counts concurrent guesses", async () => {
    const { ask, clock } = started();
    for (let n = 1; n < MISSES; n += 1) await ask("a", `guess ${n}`, "UnknownConnection");
    const last = await Promise.all(
      Array.from({ length: CONTACTS }, (_, n) => ask("a", `last ${n}`, "UnknownConnection")),
    );
    assert.ok(last.every((answer) => answer === "UnknownConnection"));
    clock.time += 1000 / MISSES_RATE;
    assert.notEqual(await ask("a", "one more"), "lives");
    clock.time += (CONTACTS * 1000) / MISSES_RATE;
    assert.equal(await ask("a", "one more"), "lives");
  });

  it("asks again about a closed connection, and does not count it as a guess", async () => {
    const { ask, calls, clock } = started();
    assert.equal(await ask("a", "guid"), "lives");
    for (let n = 0; n < 10 * MISSES; n += 1) {
      clock.time += 1000 / CONTACTS_RATE;
      assert.equal(await ask("a", `ended ${n}`, "ConnectionClosed"), "ConnectionClosed");
    }
    assert.equal(calls(), 1 + 10 * MISSES);
    assert.equal(await ask("a", "guid"), "lives");
  });

  it("refuses a crowded source for a while without asking", async () => {
    const { ask, calls, clock } = started();
    await ask("a", "old");
    assert.equal(await ask("a", "new", "TooManyHalfOpen"), "TooManyHalfOpen");
    assert.deepEqual(await ask("a", "newer"), { reason: "TooManyHalfOpen", retryAfter: CROWDED_TIME / 1000 });
    assert.equal(await ask("a", "old"), "lives", "a live connection continues");
    assert.equal(calls(), 3);
    clock.time += CROWDED_TIME;
    assert.equal(await ask("a", "newer"), "lives");
  });
});
