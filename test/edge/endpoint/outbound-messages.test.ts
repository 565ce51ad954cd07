/** What is sent to a device on which session, and what its mailbox is told, including after loss of memory. */
import assert from "node:assert/strict";
import { afterEach, describe, it, mock, type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import {
  LINK_STREAMS_HELD,
  MESSAGE_COST,
  OPEN_SESSIONS,
  REFUSED_TIME,
  SESSION_OUTPUT,
  STALLED_TIME,
  STREAM_BATCH,
  STREAM_HELD,
  STREAM_UNACKNOWLEDGED,
  STREAM_WAITING,
  SUSPENDED_MESSAGES,
  SUSPENDED_OCTETS,
  VOLATILE_OCTETS,
} from "../../../src/edge/endpoint/limits.ts";
import { OutboundMessages } from "../../../src/edge/endpoint/outbound-messages.ts";
import { LATER } from "../../../src/edge/mailbox/limits.ts";
import { HAND_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { DeliveryReport } from "../../../src/edge/rpc/delivery-report.ts";
import { NO_NUMBERS, type Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Range } from "../../../src/lib/ranges.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  type Connection,
  DATA_HEADER_OCTETS,
  MAX_DATA_OCTETS,
  OUTPUT_BLOCK_OCTETS,
} from "../../../src/sstp/index.ts";
import { Output } from "../../../src/sstp/output-buffer.ts";

const PEER = "grooveDevice://bob/pc";

interface Sent {
  readonly session: number;
  readonly resource: string;
  readonly id: string;
}

/** An outlet that nobody else takes over. */
function outletOf(host: EndpointContext, engine: object): OutboundMessages {
  const outlet: OutboundMessages = new OutboundMessages(
    host,
    engine as Connection,
    undefined,
    () => outlet.fill(),
    () => assert.fail("nobody else consumes it"),
  );
  return outlet;
}

/**
 * An outlet between an engine driven by the test and a mailbox that answers when the test lets it.
 *
 * @param calls of the mailbox that are not answered as usual
 * @param close called when the outlet ends the connection
 */
async function started(
  calls: Partial<Record<"attach" | "ready" | "acknowledge", () => Promise<never>>> = {},
  close: (reasonId: number) => void = () => assert.fail("the connection goes on"),
) {
  const sent: Sent[] = [];
  const bodies: string[] = [];
  const told: DeliveryReport[] = [];
  const opened = new Map<number, string>();
  const closed: number[] = [];
  const urgent: boolean[] = [];
  const numbers = new Map<number, number[]>();
  const ids = new Map<number, string>();
  let answers: (() => void)[] | undefined;
  let position = 0;
  let gone: readonly Range[] = [];
  const engine = {
    state: "established",
    closed: undefined,
    pendingOctets: 0,
    open({ resourceURL }: { resourceURL: string }) {
      const session = opened.size * 2 + 1;
      opened.set(session, resourceURL);
      numbers.set(session, []);
      return session;
    },
    session: (session: number) => opened.get(session),
    closeSession: (session: number) => closed.push(session),
    beginMessage(
      session: number,
      { userRef, acknowledgeImmediately }: { userRef: string } & { acknowledgeImmediately: boolean },
    ) {
      urgent.push(acknowledgeImmediately);
      sent.push({ session, resource: opened.get(session) ?? "", id: userRef.split("@")[0] ?? "" });
    },
    data: (_: number, octets: Uint8Array) => bodies.push(Buffer.from(octets).toString("hex")),
    endMessage(session: number) {
      const number = ids.size + 1;
      ids.set(number, sent.findLast((one) => one.session === session)?.id ?? "");
      numbers.get(session)?.push(number);
      return number;
    },
    close,
  };
  const mailbox = {
    attach: async () => ({ generation: 1 }),
    ready: async () => true,
    async acknowledge(_: number, report: DeliveryReport) {
      told.push(report);
      const waiting = answers;
      if (waiting !== undefined) await new Promise<void>((resolve) => waiting.push(resolve));
      return { position, gone };
    },
    ...calls,
  };
  const host = { name: "tunnel", mailbox: () => mailbox, waitUntil: () => undefined } as unknown as EndpointContext;
  const outlet = outletOf(host, engine);
  const ours = await outlet.consume(PEER);
  assert(ours || "attach" in calls || "ready" in calls);
  return {
    outlet,
    /** Whether it has the mailbox. */
    ours,
    engine,
    told,
    bodies,
    opened,
    closed,
    /** Of each message, whether the device should acknowledge it at once. */
    urgent,
    /** Ids of the sent messages, in order. */
    get sent() {
      return sent.map(({ id }) => id);
    },
    /** The mailbox delivers consecutive messages: one for each resource, with its number as id. */
    deliver(from: number, resources: readonly string[], { size = 3, at = 0 } = {}) {
      const mails = resources.map((resourceURL, n) => ({
        envelope: { source: "grooveDevice://a/pc", resourceURL, identityURL: "", deviceURL: PEER },
        fields: { userRef: `${from + n}`, track: false },
        body: new Uint8Array(size).fill(1),
      }));
      const bundle = pack(mails);
      assert.equal(outlet.deliver(PEER, 1, [{ first: from, bundle }], at), "taken");
      outlet.fill();
      return bundle.octets;
    },
    /** Another device streams a message to this one. */
    stream(id: number, size: number, generation = 1) {
      const envelope = { source: "grooveDevice://a/pc", resourceURL: "stream", identityURL: "", deviceURL: PEER };
      const mail = { envelope, fields: { userRef: `${id}`, track: false }, body: new Uint8Array(size) };
      return outlet.stream(PEER, generation, pack([mail]));
    },
    /** The latest session for a resource. */
    sessionOf(resource: string): number {
      const session = [...opened].findLast(([, other]) => other === resource)?.[0];
      assert.ok(session !== undefined, `a session for ${resource} was opened`);
      return session;
    },
    ready(resource: string) {
      outlet.sessionState(this.sessionOf(resource), "ready");
      outlet.fill();
    },
    suspend(resource: string) {
      outlet.sessionState(this.sessionOf(resource), "suspended");
    },
    /** The device acknowledges messages by their ids. */
    acknowledge(...done: readonly number[]) {
      const found = done.map((id) => [...ids].findLast(([, other]) => other === `${id}`)?.[0] ?? 0);
      for (const [, list] of numbers)
        for (const number of found) if (list.includes(number)) list.splice(list.indexOf(number), 1);
      outlet.acknowledged(found);
      outlet.fill();
    },
    /** The device refuses or closes a session, with everything unacknowledged on it. */
    lose(resource: string, reasonId?: number) {
      const session = this.sessionOf(resource);
      outlet.sessionLost(session, numbers.get(session) ?? [], reasonId);
      numbers.delete(session);
      outlet.fill();
    },
    async settle() {
      for (let n = 0; n < 20; n += 1) await turn();
      outlet.fill();
    },
    /** Everything up to this number has left the mailbox. */
    moved(to: number) {
      position = to;
    },
    /** These messages have left the mailbox. */
    withdrawn(ranges: readonly Range[]) {
      gone = ranges;
    },
    /** From now on the mailbox does not answer. */
    hold() {
      answers = [];
    },
    answer() {
      const waiting = answers ?? [];
      answers = undefined;
      for (const resolve of waiting) resolve();
    },
  };
}

const some = (count: number, resource = "message") => Array.from({ length: count }, () => resource);

it("a message that came alone leaves nothing in memory once it is sent", async () => {
  const one = await started();
  const alone = one.deliver(1, some(1), { size: 1000 });
  const together = one.deliver(2, some(2));
  assert.notEqual(alone.length, 0);
  one.ready("message");
  one.outlet.fill();
  assert.deepEqual(one.sent, ["1", "2", "3"]);
  assert.equal(alone.length, 0);
  assert.notEqual(together.length, 0);
});

describe("a mailbox that fails is logged, and its device comes again:", () => {
  /** What an outlet does that has a mailbox of which a call fails. */
  async function failing(t: TestContext, call: "attach" | "ready" | "acknowledge") {
    const log = t.mock.method(console, "error", () => undefined);
    const ends: number[] = [];
    const one = await started({ [call]: () => Promise.reject(new Error("the mailbox broke")) }, (id) => ends.push(id));
    return Object.assign(one, {
      ends,
      logged: () => log.mock.calls.map(({ arguments: [line] }) => JSON.parse(String(line))),
    });
  }

  for (const call of ["attach", "ready"] as const) {
    it(`its ${call}`, async (t) => {
      const { ours, ends, logged } = await failing(t, call);
      assert.deepEqual([ours, ends], [false, [ConnectCloseReasonId.Resting]]);
      const [{ reason, message }, ...more] = logged();
      assert.deepEqual([reason, more], ["InternalError", []]);
      assert.match(message, /the mailbox broke/);
    });
  }

  it("its acknowledge", async (t) => {
    const one = await failing(t, "acknowledge");
    one.deliver(1, some(1));
    one.ready("message");
    one.acknowledge(1);
    await one.settle();
    assert.deepEqual(one.ends, [ConnectCloseReasonId.Resting]);
    assert.deepEqual(
      one.logged().map(({ reason }) => reason),
      ["InternalError"],
    );
  });
});

describe("a mailbox", () => {
  it("is told which messages are done, in any order", async () => {
    const one = await started();
    one.deliver(1, some(5));
    one.ready("message");
    one.acknowledge(2, 3, 5);
    await one.settle();
    assert.deepEqual(one.told, [
      {
        done: [
          [2, 3],
          [5, 5],
        ],
      },
    ]);
  });

  it("is told again after it lost its memory, and nothing is resent", async () => {
    const one = await started();
    one.deliver(1, some(5));
    one.ready("message");
    one.acknowledge(1, 2, 3);
    await one.settle();
    one.deliver(2, some(4));
    await one.settle();
    one.acknowledge(4, 5);
    await one.settle();
    assert.deepEqual(one.told, [{ done: [[1, 3]] }, { done: [[2, 3]] }, { done: [[4, 5]] }]);
    assert.deepEqual(one.sent, ["1", "2", "3", "4", "5"]);
  });

  it("is told again if it lost its memory during a later call", async () => {
    const one = await started();
    one.deliver(1, some(5));
    one.ready("message");
    one.acknowledge(1, 2, 3);
    await one.settle();
    one.hold();
    one.acknowledge(4);
    await one.settle();
    one.deliver(1, some(5));
    one.answer();
    await one.settle();
    one.acknowledge(5);
    await one.settle();
    assert.deepEqual(one.told, [{ done: [[1, 3]] }, { done: [[4, 4]] }, { done: [[1, 4]] }, { done: [[5, 5]] }]);
  });

  it("is not told of redelivered messages that were never acknowledged", async () => {
    const one = await started();
    one.deliver(1, some(5));
    one.ready("message");
    one.deliver(1, some(5));
    await one.settle();
    assert.deepEqual(one.told, []);
    assert.equal(one.sent.length, 5);
  });

  it("is told again what was set aside when it redelivers it", async () => {
    const one = await started();
    one.deliver(1, ["chess", "message"]);
    one.ready("message");
    one.lose("chess");
    await one.settle();
    one.deliver(1, ["chess"]);
    await one.settle();
    assert.deepEqual(
      one.told.map(({ aside }) => aside),
      [[[1, 1]], [[1, 1]]],
    );
    assert.deepEqual(one.sent, ["2"]);
  });
});

describe("a resource the device refuses", () => {
  it("stays refused for this connection, and the rest is delivered", async () => {
    const one = await started();
    one.deliver(1, ["chess", "message", "chess"]);
    one.lose("chess");
    one.ready("message");
    one.deliver(4, ["chess", "message"]);
    await one.settle();
    assert.deepEqual(one.sent, ["2", "5"]);
    const [first, second] = one.told;
    assert.deepEqual(first?.declined ?? second?.declined, [
      [1, 1],
      [3, 4],
    ]);
    assert.equal([...one.opened.values()].filter((resource) => resource === "chess").length, 1);
  });

  for (const [name, reasonId] of Object.entries({ ...CloseReasonId, OpenResponse: undefined })) {
    if (name === "QuotaWouldBeExceeded") continue;
    it(`midway, by ${name}, loses nothing and does not affect other sessions`, async () => {
      const one = await started();
      one.deliver(1, ["chess", "chess", "message"]);
      one.ready("chess");
      one.acknowledge(1);
      one.lose("chess", reasonId);
      one.ready("message");
      await one.settle();
      assert.deepEqual(one.sent, ["1", "2", "3"]);
      const declined = one.told.some((report) => report.declined !== undefined);
      const again = one.told.some((report) => report.again !== undefined);
      assert.notEqual(declined, again, "it is either refused or retried");
      if (!again) return;
      one.deliver(2, ["chess"]);
      one.ready("chess");
      assert.deepEqual(one.sent, ["1", "2", "3", "2"]);
    });
  }
});

describe("a suspended session", () => {
  it("does not block others", async () => {
    const one = await started();
    one.deliver(1, ["slow", "message", "slow", "message"]);
    one.suspend("slow");
    one.ready("message");
    assert.deepEqual(one.sent, ["2", "4"]);
    one.ready("slow");
    assert.deepEqual(one.sent, ["2", "4", "1", "3"]);
  });

  for (const [what, count, size] of [
    ["100 MiB", 100, 1024 * 1024],
    ["50,000 messages", 50_000, 3],
  ] as const) {
    it(`delays no other of a connection with as many as it may have while ${what} for it pass`, async () => {
      const one = await started();
      const others = Array.from({ length: OPEN_SESSIONS - 1 }, (_, n) => `app-${n}`);
      one.deliver(1, ["slow", ...others]);
      one.suspend("slow");
      for (const other of others) one.ready(other);
      let next = OPEN_SESSIONS + 1;
      const expected = others.map((_, n) => `${n + 2}`);
      assert.deepEqual(one.sent, expected);
      one.acknowledge(...others.map((_, n) => n + 2));
      // One for each of the others behind every hundredth part of what is for the suspended one.
      for (let round = 0; round < 100; round += 1) {
        const slow = some(count / 100, "slow");
        one.deliver(next, slow, { size });
        next += slow.length;
        one.deliver(next, others);
        expected.push(...others.map((_, n) => `${next + n}`));
        assert.deepEqual(one.sent, expected, `round ${round}`);
        one.acknowledge(...others.map((_, n) => next + n));
        next += others.length;
      }
      await one.settle();
      const aside = one.told.flatMap((report) => report.aside ?? []);
      const keptHere = count + 1 - aside.reduce((sum, [from, to]) => sum + to - from + 1, 0);
      assert.ok(
        keptHere === 1 || (keptHere <= SUSPENDED_MESSAGES && keptHere * size <= SUSPENDED_OCTETS),
        `${keptHere} are kept here`,
      );
    });
  }

  it("does not block others in the middle of a long message, which takes no room in the window", async () => {
    const one = await started();
    one.deliver(1, ["slow"]);
    one.ready("slow");
    // The engine is full as soon as the long message starts.
    Object.defineProperty(one.engine, "pendingOctets", {
      get: () => (one.sent.length === 2 ? 1_000_000 : 0),
      configurable: true,
    });
    one.deliver(2, ["slow"], { size: 4_000_000 });
    one.suspend("slow");
    Object.defineProperty(one.engine, "pendingOctets", { value: 0 });
    one.deliver(3, ["message"]);
    one.ready("message");
    await one.settle();
    assert.deepEqual(one.sent, ["1", "2", "3"]);
    assert.deepEqual(one.told, [{ aside: [[2, 2]] }]);
    one.ready("slow");
    one.acknowledge(2);
    await one.settle();
    assert.deepEqual(one.told.at(-1), { done: [[2, 2]] });
  });

  it("keeps at most its share here: the rest waits in the mailbox and is delivered in order", async () => {
    const one = await started();
    const size = SUSPENDED_OCTETS / 4;
    one.deliver(1, some(10, "slow"), { size });
    one.suspend("slow");
    await one.settle();
    assert.deepEqual(one.told, [{ aside: [[4, 10]] }]);
    one.deliver(11, ["slow", "message"]);
    one.ready("message");
    assert.deepEqual(one.sent, ["12"]);
    one.ready("slow");
    await one.settle();
    assert.deepEqual(one.sent, ["12", "1", "2", "3"]);
    assert.deepEqual(one.told.at(-1)?.again, [[4, 11]]);
    // A later message must not pass those that were requested again.
    one.deliver(13, ["slow"]);
    one.deliver(4, some(8, "slow"));
    await one.settle();
    assert.deepEqual(one.told.at(-1)?.again, [[13, 13]]);
    one.deliver(13, ["slow"]);
    assert.deepEqual(one.sent.slice(4), ["4", "5", "6", "7", "8", "9", "10", "11", "13"]);
  });

  it("keeps a bounded number of small messages here", async () => {
    const one = await started();
    one.deliver(1, some(SUSPENDED_MESSAGES + 5, "slow"));
    await one.settle();
    assert.deepEqual(one.told[0]?.aside, [[SUSPENDED_MESSAGES + 1, SUSPENDED_MESSAGES + 5]]);
  });

  it("does not keep its object awake", async () => {
    const one = await started();
    one.deliver(1, ["slow", "slow"]);
    one.suspend("slow");
    assert.equal(one.outlet.quiet, false);
    one.outlet.settle();
    await one.settle();
    assert.equal(one.outlet.quiet, true);
    assert.deepEqual(one.told, [{ aside: [[1, 2]] }]);
    one.ready("slow");
    await one.settle();
    assert.deepEqual(one.told.at(-1), { again: [[1, 2]] });
  });

  it("does not wait for messages that their sender has withdrawn", async () => {
    const one = await started();
    one.deliver(1, some(4, "slow"));
    one.suspend("slow");
    one.outlet.settle();
    await one.settle();
    one.withdrawn([[1, 2]]);
    one.ready("slow");
    // It arrives before the mailbox has reported what is gone.
    one.deliver(3, some(2, "slow"));
    await one.settle();
    one.deliver(3, some(2, "slow"));
    await one.settle();
    assert.deepEqual(one.sent, ["3", "4"]);
  });

  it("does not wait for messages that have left the mailbox", async () => {
    const one = await started();
    one.deliver(1, ["slow", "slow"]);
    one.suspend("slow");
    one.outlet.settle();
    await one.settle();
    one.moved(2);
    one.ready("slow");
    await one.settle();
    one.deliver(3, ["slow"], { at: 2 });
    assert.deepEqual(one.sent, ["3"]);
  });
});

describe("destinations beyond the session limit", () => {
  it("wait in the mailbox until a session is idle, each in order", async () => {
    const one = await started();
    const names = Array.from({ length: OPEN_SESSIONS }, (_, n) => `r${n}`);
    one.deliver(1, [...names, "late", "later", "late"]);
    await one.settle();
    const last = OPEN_SESSIONS;
    assert.equal(one.opened.size, OPEN_SESSIONS);
    assert.deepEqual(one.told, [{ aside: [[last + 1, last + 3]] }]);
    one.ready("r0");
    await one.settle();
    // An acknowledgement that arrives after the Close of its session would be ignored.
    assert.deepEqual(one.told.length, 1);
    one.acknowledge(1);
    await one.settle();
    assert.deepEqual(one.told.at(-1), { done: [[1, 1]], again: [[last + 1, last + 3]] });
    one.deliver(last + 4, ["late"]);
    one.deliver(last + 1, ["late", "later", "late"]);
    await one.settle();
    assert.deepEqual(one.closed, [1]);
    one.deliver(last + 4, ["late"]);
    one.ready("late");
    assert.deepEqual(one.sent, ["1", `${last + 1}`, `${last + 3}`, `${last + 4}`]);
    one.acknowledge(last + 1, last + 3, last + 4);
    await one.settle();
    // The session that is now idle makes room for the other.
    assert.deepEqual(one.told.at(-1)?.again, [[last + 2, last + 2]]);
    one.deliver(last + 2, ["later"]);
    one.ready("later");
    assert.equal(one.sent.at(-1), `${last + 2}`);
  });
});

describe("a message the device refuses for its size", () => {
  it("is deferred alone, and later ones are sent", async () => {
    const one = await started();
    one.deliver(1, some(3));
    one.ready("message");
    one.lose("message", CloseReasonId.QuotaWouldBeExceeded);
    await one.settle();
    // It is unknown which message was refused: they are redelivered, one at a time.
    assert.deepEqual(one.told, [{ again: [[1, 3]] }]);
    one.deliver(1, some(3));
    one.ready("message");
    assert.deepEqual(one.sent.slice(3), ["1"]);
    one.acknowledge(1);
    assert.deepEqual(one.sent.slice(3), ["1", "2"]);
    one.lose("message", CloseReasonId.QuotaWouldBeExceeded);
    one.ready("message");
    assert.deepEqual(one.sent.slice(3), ["1", "2", "3"]);
    one.acknowledge(3);
    await one.settle();
    const all = one.told.slice(1);
    assert.deepEqual(
      all.flatMap(({ refused = [] }) => refused),
      [2],
    );
    assert.deepEqual(
      all.flatMap(({ later = [] }) => later),
      [[2, 2]],
    );
  });

  it("is not identified while a message with flag D is also outstanding", async () => {
    const one = await started();
    one.deliver(1, some(1));
    one.ready("message");
    one.deliver(0, some(1));
    one.lose("message", CloseReasonId.QuotaWouldBeExceeded);
    await one.settle();
    assert.deepEqual(one.told, [{ again: [[1, 1]] }]);
  });

  it("is retried when its mailbox redelivers it", async () => {
    const one = await started();
    one.deliver(1, some(1));
    one.ready("message");
    for (let tries = 0; tries < 2; tries += 1) {
      one.lose("message", CloseReasonId.QuotaWouldBeExceeded);
      await one.settle();
      one.deliver(1, some(1));
      one.ready("message");
    }
    assert.deepEqual(one.sent, ["1", "1", "1"]);
    assert.deepEqual(
      one.told.map(({ refused }) => refused),
      [[1], [1]],
    );
  });
});

describe("messages with flag D", () => {
  it("that came together do not keep the memory that they came in", async () => {
    const one = await started();
    const came = one.deliver(0, some(3));
    assert.equal(came.length, 0);
    one.ready("message");
    assert.deepEqual(one.bodies, ["010101", "010101", "010101"]);
  });

  it("are sent from the memory that they came in when they came alone", async () => {
    const one = await started();
    const came = one.deliver(0, some(1));
    assert.ok(came.length > 0);
    one.ready("message");
    assert.deepEqual(one.bodies, ["010101"]);
  });
});

describe("a session that is closed repeatedly", () => {
  it("is reopened a few times, then not for a while", async (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    const one = await started();
    one.deliver(1, ["odd", "message"]);
    for (let times = 0; times < 10; times += 1) {
      one.lose("odd", CloseReasonId.NoReason);
      await one.settle();
      one.deliver(1, ["odd"]);
    }
    const opens = () => [...one.opened.values()].filter((resource) => resource === "odd").length;
    assert.equal(opens(), 3);
    await one.settle();
    assert.deepEqual(one.told.at(-1), { later: [[1, 1]] });
    one.ready("message");
    assert.deepEqual(one.sent, ["2"]);
    t.mock.timers.tick(LATER);
    one.deliver(1, ["odd"]);
    one.ready("odd");
    assert.deepEqual(one.sent, ["2", "1"]);
  });
});

describe("a piece of a long message", () => {
  it("fills one block of output, and leaves nothing for another", () => {
    const output = new Output();
    output.data(2, new Uint8Array(SESSION_OUTPUT));
    const blocks = output.take();
    assert.equal(blocks.length, 1);
    assert.ok((blocks[0]?.length ?? 0) > OUTPUT_BLOCK_OCTETS - MAX_DATA_OCTETS - DATA_HEADER_OCTETS);
  });
});

describe("what another device streams to this one", () => {
  const BATCH = STREAM_HELD / 2 - MESSAGE_COST;

  afterEach(() => mock.timers.reset());

  /** A device with two batches here, and a third that waits at its sender. */
  async function full() {
    const box = await started();
    assert.deepEqual([await box.stream(1, BATCH), await box.stream(2, BATCH)], ["taken", "taken"]);
    let answer: Taken | undefined;
    void Promise.resolve(box.stream(3, BATCH)).then((taken) => {
      answer = taken;
    });
    await box.settle();
    assert.deepEqual([answer, box.outlet.quiet], [undefined, false]);
    return { box, answer: () => answer };
  }

  it("waits at its sender while two batches are here", async () => {
    const { box, answer } = await full();
    box.ready("stream");
    await box.settle();
    assert.equal(answer(), "taken");
    assert.deepEqual(box.sent, ["1", "2", "3"]);
    box.acknowledge(1, 2, 3);
    assert.ok(box.outlet.quiet, "the object may hibernate");
  });

  it("is dropped if there is no room in time", async () => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const { box, answer } = await full();
    mock.timers.tick(HAND_TIMEOUT);
    await box.settle();
    assert.deepEqual(answer(), { dropped: 1 });
  });

  it("learns immediately that the connection is gone", async () => {
    const { box, answer } = await full();
    box.outlet.abandon();
    await box.settle();
    assert.equal(answer(), "gone");
    assert.equal(await box.stream(4, 1), "gone");
  });

  it("is turned away when many others wait already", async () => {
    const { box } = await full();
    const others = Array.from({ length: STREAM_WAITING }, (_, n) => box.stream(10 + n, BATCH));
    assert.deepEqual(await others.at(-1), { dropped: 1 });
    box.outlet.abandon();
    assert.ok((await Promise.all(others)).includes("gone"));
  });

  it("goes on without acknowledgements, which may wait behind what the device streams itself", async () => {
    const box = await started();
    await box.stream(0, 10);
    box.ready("stream");
    for (let id = 1; id <= 40; id += 1) {
      assert.equal(await box.stream(id, BATCH), "taken");
      box.outlet.fill();
    }
    await box.settle();
    assert.equal(box.sent.length, 41);
    assert.ok(box.outlet.quiet);
    assert.deepEqual(box.outlet.snapshot().sent, [], "and nothing is saved of them");
  });

  it("waits for acknowledgements if there are too many messages without", async () => {
    const box = await started();
    await box.stream(0, 1);
    box.ready("stream");
    for (let id = 1; id <= STREAM_UNACKNOWLEDGED; id += 1) {
      await box.stream(id, 1);
      box.outlet.fill();
    }
    assert.equal(box.sent.length, STREAM_UNACKNOWLEDGED);
    box.acknowledge(0);
    assert.equal(box.sent.length, STREAM_UNACKNOWLEDGED + 1);
  });

  it("is acknowledged at the device's leisure, unless too much of it is not or the transport does not slow the edge down", async () => {
    const box = await started();
    const asked = async (id: number) => {
      await box.stream(id, 1);
      box.outlet.fill();
      return box.urgent.at(-1);
    };
    await box.stream(0, 1);
    box.ready("stream");
    for (let id = 1; id < STREAM_UNACKNOWLEDGED / 4; id += 1) assert.equal(await asked(id), false);
    assert.equal(await asked(STREAM_UNACKNOWLEDGED / 4), true);
    box.acknowledge(...Array.from({ length: STREAM_UNACKNOWLEDGED / 4 + 1 }, (_, id) => id));
    assert.equal(await asked(9998), false);
    box.outlet.paced = false;
    assert.equal(await asked(9999), true);
    box.deliver(1, ["message"]);
    box.ready("message");
    assert.equal(box.urgent.at(-1), true, "a mailbox waits for its messages");
  });

  it("waits for acknowledgements where the transport does not slow the edge down", async () => {
    const box = await started();
    box.outlet.paced = false;
    await box.stream(0, 1);
    box.ready("stream");
    for (let id = 1; id <= 8; id += 1) {
      await box.stream(id, BATCH / 2);
      box.outlet.fill();
    }
    const { length } = box.sent;
    assert.ok(length >= 8 && length <= 9, `${length}`);
    for (let id = 9; id <= 10; id += 1) await box.stream(id, BATCH / 2);
    box.outlet.fill();
    assert.equal(box.sent.length, 8 + 1);
    box.acknowledge(0, 1, 2, 3, 4, 5, 6, 7, 8);
    assert.equal(box.sent.length, 11);
  });

  it("leaves the room of other messages with flag D alone", async () => {
    const { box } = await full();
    const envelope = { source: "grooveDevice://a/pc", resourceURL: "other", identityURL: "", deviceURL: PEER };
    const mail = {
      envelope,
      fields: { userRef: "5", track: false },
      body: new Uint8Array(VOLATILE_OCTETS / 2 - MESSAGE_COST),
    };
    assert.equal(box.outlet.deliver(PEER, 1, [{ first: NO_NUMBERS, bundle: pack([mail]) }]), "taken");
  });
});

describe("what devices stream to those behind a relay", () => {
  const RELAY = "grooveDNS://relay.example.com";
  const BATCH = STREAM_BATCH - MESSAGE_COST;

  /** A link whose engine counts what it is given, by destination. */
  async function linked() {
    const sessions = new Map<number, string>();
    const sent = new Map<string, number>();
    let messages = 0;
    const engine = {
      state: "established",
      closed: undefined,
      pendingOctets: 0,
      openFanout({ entries }: { entries: readonly { deviceURL: string; relayURL: string }[] }) {
        assert.equal(entries[0]?.relayURL, RELAY);
        sessions.set(sessions.size + 1, entries[0]?.deviceURL ?? "");
        return sessions.size;
      },
      session: (session: number) => sessions.get(session),
      closeSession: () => undefined,
      beginMessage: () => undefined,
      data: (session: number, { length }: Uint8Array) => {
        const to = sessions.get(session) ?? "";
        sent.set(to, (sent.get(to) ?? 0) + length);
      },
      endMessage: () => {
        messages += 1;
        return messages;
      },
    };
    const mailbox = { attach: async () => ({ generation: 1 }), ready: async () => true };
    const host = { name: RELAY, mailbox: () => mailbox, waitUntil: () => undefined } as unknown as EndpointContext;
    // As it is after the relay has connected to the edge: its mailbox tells that it is one.
    const outlet = outletOf(host, engine);
    assert.equal(await outlet.consume(RELAY), true);
    const settle = async () => {
      for (let n = 0; n < 20; n += 1) await Promise.resolve();
      outlet.fill();
    };
    const sessionOf = (to: string) => {
      const session = [...sessions].findLast(([, device]) => device === `grooveDevice://${to}`)?.[0];
      assert.ok(session !== undefined);
      return session;
    };
    return {
      outlet,
      settle,
      sent: (to: string) => sent.get(`grooveDevice://${to}`) ?? 0,
      /** Streams a message to a device. */
      async stream(to: string, size = BATCH): Promise<Taken> {
        const entries = [{ identityURL: "grooveIdentity://x", deviceURL: `grooveDevice://${to}` }];
        const envelope = {
          source: "grooveDevice://a/pc",
          resourceURL: "stream",
          identityURL: "",
          deviceURL: "",
          entries,
        };
        return outlet.stream(
          RELAY,
          1,
          pack([{ envelope, fields: { userRef: "1", track: false }, body: new Uint8Array(size) }]),
        );
      },
      state(to: string, state: "ready" | "suspended") {
        outlet.sessionState(sessionOf(to), state);
        outlet.fill();
      },
      lockedOut: (to: string) => outlet.nobodyLeft(sessionOf(to), true),
    };
  }

  const isTaken = async (link: Awaited<ReturnType<typeof linked>>, streaming: Promise<Taken>) => {
    let taken: Taken | undefined;
    void streaming.then((answer) => {
      taken = answer;
    });
    await link.settle();
    return taken === "taken";
  };

  afterEach(() => mock.timers.reset());

  it("waits for its own destination only", async () => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const link = await linked();
    await link.stream("slow", 1);
    link.state("slow", "suspended");
    await link.stream("quick", 1);
    link.state("quick", "ready");
    assert.equal(await isTaken(link, link.stream("slow", BATCH / 2)), true);
    const waiting = link.stream("slow");
    assert.equal(await isTaken(link, waiting), false);
    for (let n = 1; n <= 100; n += 1) assert.equal(await isTaken(link, link.stream("quick")), true);
    assert.deepEqual([link.sent("quick"), link.sent("slow")], [100 * BATCH + 1, 0]);
    link.state("slow", "ready");
    await link.settle();
    assert.deepEqual([await waiting, link.sent("slow")], ["taken", BATCH + BATCH / 2 + 1]);
  });

  it("leaves room for others, and for new ones, however many destinations are suspended", async () => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const link = await linked();
    await link.stream("quick", 1);
    link.state("quick", "ready");
    let here = 0;
    for (let n = 0; n < 200; n += 1) {
      if (!(await isTaken(link, link.stream(`slow${n}`)))) break;
      link.state(`slow${n}`, "suspended");
      here += STREAM_BATCH;
    }
    assert.ok(here <= (LINK_STREAMS_HELD * 3) / 4 && here > LINK_STREAMS_HELD / 2, `${here} bytes`);
    assert.equal(await isTaken(link, link.stream("quick")), true);
    // What has waited for too long makes room.
    mock.timers.tick(STALLED_TIME + 1);
    assert.equal(await isTaken(link, link.stream("new")), true);
  });

  it("is refused by name for a while after its destination has refused it", async () => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const link = await linked();
    await link.stream("bob", 1);
    link.state("bob", "ready");
    link.lockedOut("bob");
    assert.deepEqual(await link.stream("bob", 1), { dropped: 1, refused: "locked" });
    assert.equal(await isTaken(link, link.stream("carol", 1)), true);
    mock.timers.tick(REFUSED_TIME);
    assert.equal(await isTaken(link, link.stream("bob", 1)), true);
  });

  it("is dropped in time if its destination stays suspended, which costs the others nothing", async () => {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const link = await linked();
    await link.stream("slow", BATCH);
    link.state("slow", "suspended");
    const waiting = link.stream("slow");
    await link.settle();
    mock.timers.tick(HAND_TIMEOUT);
    assert.deepEqual(await waiting, { dropped: 1 });
  });
});
