/** Batches of streams on a WebSocket between two objects. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import fc from "fast-check";
import { BatchSocket, type TakeBatch } from "../../../src/edge/rpc/batch-socket.ts";
import { SIGN_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../../../src/edge/rpc/message-batch.ts";
import type { Envelope } from "../../../src/store-and-forward/envelope.ts";

interface Place {
  readonly peer: string;
  readonly generation: number;
}

const BOB: Place = { peer: "grooveDevice://bob/pc", generation: 7 };

function envelope(deviceURL: string): Envelope {
  return { source: "grooveDevice://alice/pc", resourceURL: "stream", identityURL: "grooveIdentity://bob", deviceURL };
}

const TO_BOB = envelope(BOB.peer);

function batchOf(...octets: number[]): MessageBatch {
  return { envelopes: [TO_BOB], octets: new Uint8Array(octets) };
}

/** More than may be on its way without an answer. */
const LONG: MessageBatch = { envelopes: [TO_BOB], octets: new Uint8Array(40_000).fill(5) };

async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

type TakeSoon<To> = (to: To, batch: MessageBatch) => Promise<Taken>;

/** Two ends, and what was sent from one to the other. */
function pair(take: TakeSoon<Place> | { now: TakeBatch<Place> }, takeBack?: TakeSoon<string>) {
  const sent: (string | Uint8Array)[] = [];
  const answers: string[] = [];
  /** Whether what `near` sends is lost, and how often it has found the other end silent. */
  const isCut = { value: false };
  const silent = { count: 0 };
  const carried = (data: string | Uint8Array) =>
    typeof data === "string" ? data : (data.slice().buffer as ArrayBuffer);
  const near: BatchSocket<Place, string> = new BatchSocket(
    {
      send: (data) => {
        sent.push(data);
        if (!isCut.value) void far.hear(carried(data));
      },
    },
    () => {
      silent.count += 1;
    },
    takeBack,
  );
  const far: BatchSocket<string, Place> = new BatchSocket(
    {
      send: (data) => {
        if (typeof data === "string") answers.push(data);
        void near.hear(carried(data));
      },
    },
    () => undefined,
    typeof take === "function" ? take : take.now,
  );
  return { near, far, sent, answers, isCut, silent };
}

describe("batches on a WebSocket", () => {
  beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 }));
  afterEach(() => mock.timers.reset());

  it("arrive with their place and their envelopes, and are answered if they are long", async () => {
    const came: unknown[] = [];
    const { near } = pair(async (to, { envelopes, octets }) => {
      came.push({ to, envelopes, octets: [...octets] });
      return { dropped: 2, refused: "locked" };
    });
    assert.deepEqual(await near.pass(BOB, LONG), { dropped: 2, refused: "locked" });
    assert.deepEqual(came, [{ to: BOB, envelopes: [TO_BOB], octets: [...LONG.octets] }]);
  });

  it("cost no answer if they are short and taken, as keystrokes are", async () => {
    const { near, answers } = pair(async () => "taken");
    for (let key = 0; key < 50; key += 1) assert.equal(await near.pass(BOB, batchOf(key)), "taken");
    assert.equal(answers.length, 0);
  });

  it("are taken without a promise when there is room", async () => {
    const came: number[] = [];
    const now = (_: Place, { octets }: MessageBatch): Taken => {
      came.push(octets[0] ?? 0);
      return "taken";
    };
    const { near, far, sent } = pair({ now });
    near.passNow(BOB, batchOf(1));
    assert.deepEqual(came, [1]);
    const [message] = sent;
    assert.ok(message instanceof Uint8Array);
    assert.equal(far.hear(message.slice().buffer as ArrayBuffer), undefined);
  });

  it("go at once if they are short, until many are on their way", async () => {
    const { near, sent } = pair(async () => "taken");
    assert.equal(near.passNow(BOB, LONG), false);
    const short = { envelopes: [TO_BOB], octets: new Uint8Array(1000) };
    while (near.passNow(BOB, short)) assert.ok(sent.length < 40);
    assert.ok(sent.length > 20, `${sent.length} at once`);
    await near.pass(BOB, short);
    assert.equal(near.passNow(BOB, short), true);
  });

  it("do not go at once when the WebSocket has ended, or an earlier one was not taken", async () => {
    const { near } = pair(async () => "gone");
    assert.equal(near.passNow(BOB, batchOf(1)), true);
    await turns();
    assert.equal(near.passNow(BOB, batchOf(2)), false);
    assert.equal(await near.pass(BOB, batchOf(2)), "gone");
    near.lost();
    assert.equal(near.passNow(BOB, batchOf(3)), false);
  });

  it("are answered before many short ones are on their way", async () => {
    const { near, answers } = pair(async () => "taken");
    const short = { envelopes: [TO_BOB], octets: new Uint8Array(1000) };
    for (let count = 0; count < 100; count += 1) await near.pass(BOB, short);
    assert.ok(answers.length >= 3, `${answers.length} answers to 100,000 bytes`);
  });

  it("that are short and not taken are told with the next, which is not sent", async () => {
    const came: number[] = [];
    const { near } = pair(async (_, { octets }) => {
      came.push(octets[0] ?? 0);
      return came.length === 1 ? "gone" : "taken";
    });
    assert.equal(await near.pass(BOB, batchOf(1)), "taken");
    await turns();
    assert.equal(await near.pass(BOB, batchOf(2)), "gone");
    assert.equal(await near.pass(BOB, batchOf(3)), "taken");
    assert.deepEqual(came, [1, 3]);
  });

  it("are taken one after the other, however long one waits for room", async () => {
    const order: string[] = [];
    const waiting: (() => void)[] = [];
    const { near } = pair(async (_, { octets }) => {
      order.push(`begin ${octets[0]}`);
      await new Promise<void>((resolve) => waiting.push(resolve));
      order.push(`end ${octets[0]}`);
      return "taken";
    });
    for (const key of [1, 2, 3]) await near.pass(BOB, batchOf(key));
    for (let at = 0; at < 3; at += 1) {
      await turns();
      waiting[at]?.();
    }
    await turns();
    assert.deepEqual(order, ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
  });

  it("get their own answers", async () => {
    const answers: ((taken: Taken) => void)[] = [];
    const { near } = pair(() => new Promise((resolve) => answers.push(resolve)));
    const passing = [near.pass(BOB, LONG), near.pass(BOB, LONG)];
    await turns();
    answers[0]?.("taken");
    await turns();
    answers[1]?.("gone");
    assert.deepEqual(await Promise.all(passing), ["taken", "gone"]);
  });

  it("go both ways", async () => {
    const { near, far } = pair(
      async () => "taken",
      async (to) => (to === "alice" ? "taken" : "gone"),
    );
    assert.deepEqual(await Promise.all([near.pass(BOB, batchOf(1)), far.pass("alice", batchOf(2))]), [
      "taken",
      "taken",
    ]);
  });

  it("have no answer when the WebSocket ends, and later ones are not sent", async () => {
    const { near, sent } = pair(() => new Promise(() => undefined));
    const passing = near.pass(BOB, LONG);
    near.lost();
    assert.equal(await passing, undefined);
    assert.equal(await near.pass(BOB, batchOf(2)), undefined);
    assert.equal(sent.length, 1);
  });

  it("have no answer when nothing can be sent", async () => {
    const near = new BatchSocket<Place>(
      {
        send: () => {
          throw new TypeError("the WebSocket is closed");
        },
      },
      () => undefined,
    );
    assert.equal(await near.pass(BOB, batchOf(1)), undefined);
    assert.ok(near.isOver);
  });

  it("are lost for two seconds at most on a WebSocket that breaks without a word", async () => {
    const { near, isCut, silent } = pair(async () => "taken");
    await near.pass(BOB, batchOf(1));
    isCut.value = true;
    for (let tenth = 1; tenth < 20; tenth += 1) {
      mock.timers.tick(SIGN_TIMEOUT / 10);
      assert.equal(await near.pass(BOB, batchOf(2)), "taken");
    }
    mock.timers.tick(SIGN_TIMEOUT / 10);
    assert.equal(await near.pass(BOB, batchOf(3)), undefined);
    assert.deepEqual([near.isOver, silent.count], [true, 1]);
  });

  it("have no answer when the WebSocket has broken without a word", async () => {
    const { near, isCut } = pair(async () => "taken");
    isCut.value = true;
    const passing = near.pass(BOB, LONG);
    for (const time of [SIGN_TIMEOUT, SIGN_TIMEOUT]) mock.timers.tick(time);
    assert.equal(await passing, undefined);
  });

  it("may wait for room while the other end gives a sign of life", async () => {
    const room = Promise.withResolvers<Taken>();
    const { near, silent } = pair(() => room.promise);
    const passing = near.pass(BOB, LONG);
    for (let second = 0; second < 4; second += 1) {
      mock.timers.tick(SIGN_TIMEOUT);
      await turns();
      await near.pass(BOB, batchOf(second));
    }
    room.resolve("taken");
    assert.equal(await passing, "taken");
    assert.equal(silent.count, 0);
  });

  it("cost a question each second, and none when nothing is sent", async () => {
    const { near, sent } = pair(async () => "taken");
    for (let tenth = 0; tenth < 30; tenth += 1) {
      await near.pass(BOB, batchOf(tenth));
      mock.timers.tick(SIGN_TIMEOUT / 10);
    }
    const asked = () => sent.filter((data) => typeof data === "string").length;
    assert.equal(asked(), 3);
    for (let second = 0; second < 10; second += 1) {
      mock.timers.tick(SIGN_TIMEOUT);
      await turns();
    }
    assert.equal(asked(), 3);
  });

  it("ask once more where the object was starved, and may not have heard the answer", async () => {
    const { near, isCut, sent, silent } = pair(async () => "taken");
    isCut.value = true;
    await near.pass(BOB, batchOf(1));
    mock.timers.tick(SIGN_TIMEOUT);
    // The timer is late: the clock has gone on without it.
    mock.timers.setTime(Date.now() + 10 * SIGN_TIMEOUT);
    mock.timers.tick(1);
    const asked = sent.filter((data) => typeof data === "string").length;
    assert.deepEqual([asked, near.isOver], [2, false]);
    mock.timers.tick(SIGN_TIMEOUT);
    assert.deepEqual([near.isOver, silent.count], [true, 1]);
  });

  it("ignores an answer that is not due", async () => {
    const { near } = pair(async () => "taken");
    await near.hear('9 "taken"');
    assert.equal(await near.pass(BOB, batchOf(1)), "taken");
  });

  it("arrive as they were sent, whichever places and envelopes alternate", async () => {
    const places: readonly Place[] = [BOB, { ...BOB }, { ...BOB, generation: 8 }];
    const envelopes: readonly Envelope[] = [TO_BOB, envelope(""), envelope("grooveDevice://zoë/büro")];
    const one = fc.record(
      {
        to: fc.constantFrom(...places),
        envelopes: fc.subarray([...envelopes], { minLength: 1 }),
        octets: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(LONG.octets)),
      },
      { noNullPrototype: true },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(one, { maxLength: 20 }), async (all) => {
        const came: unknown[] = [];
        const { near } = pair(async (to, batch) => {
          came.push({ to, envelopes: batch.envelopes, octets: batch.octets.slice() });
          return "taken";
        });
        for (const { to, ...batch } of all) assert.equal(await near.pass(to, batch), "taken");
        assert.deepEqual(came, all);
      }),
    );
  });
});
