/** What a Tunnel holds in memory for one fanout message, and how it handles mailboxes that refuse or fail. */
import assert from "node:assert/strict";
import { describe, it, mock } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { EndpointContext } from "../../../src/edge/endpoint/endpoint-context.ts";
import { type Charges, InboundMessages } from "../../../src/edge/endpoint/inbound-messages.ts";
import { BATCH_OCTETS, CALL_OCTETS, CALLS_AT_ONCE, WOKEN_MAILBOXES } from "../../../src/edge/endpoint/limits.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import { VOLATILE_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { Appended, Refusal } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { type MessageBatch, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { type Connection, SessionStatusId } from "../../../src/sstp/index.ts";

const MIB = 1024 * 1024;
const FIELDS = { userRef: "1@a", track: false, acknowledgeImmediately: true, doNotDeliverIfOffline: false };

/**
 * An intake between an engine that records calls and mailboxes that answer after a delay.
 *
 * @param copies called to pay for copies
 * @param wake called to pay for mailboxes used for the first time
 */
function started(
  answer: (peer: string, bundle: MessageBatch) => Refusal[] = () => [],
  copies: Charges["copies"] = () => undefined,
  wake: Charges["wake"] = () => undefined,
) {
  const calls: { peer: string; bodies: number[] }[] = [];
  const completed: number[] = [];
  const statuses: { statusId: number; indexes: readonly number[] }[] = [];
  let under = 0;
  const seen = { most: 0, closed: false };
  /** The batches of all calls, as they were before the calls copied them. */
  const carried: Uint8Array[] = [];
  const append = async (peer: string, bundle: MessageBatch) => {
    under += bundle.octets.length;
    seen.most = Math.max(seen.most, under);
    for (let n = 0; n < 3; n += 1) await turn();
    under -= bundle.octets.length;
    calls.push({ peer, bodies: unpack(bundle).map(({ body }) => body.length) });
    return { refusals: answer(peer, bundle) };
  };
  const session = {};
  const engine = {
    closed: undefined,
    complete: (message: number) => completed.push(message),
    session: () => session,
    noop: () => undefined,
    sessionStatus: (_: number, statusId: number, indexes: readonly number[]) => statuses.push({ statusId, indexes }),
    close: () => {
      seen.closed = true;
    },
  } as unknown as Connection;
  const host = {
    mailbox: (peer: string) => ({
      append(bundle: MessageBatch) {
        carried.push(bundle.octets);
        // Calls copy what they carry.
        return append(peer, structuredClone(bundle));
      },
    }),
    waitUntil: () => undefined,
    messageLimit: MESSAGE_LIMIT,
  } as unknown as EndpointContext;
  return {
    intake: new InboundMessages(host, engine, () => undefined, { copies, wake }),
    calls,
    completed,
    statuses,
    seen,
    carried,
  };
}

function targets(count: number) {
  return Array.from({ length: count }, (_, n) => ({
    identityURL: `grooveIdentity://p${n}`,
    deviceURL: `grooveDevice://p${n}/pc`,
    relayURL: "",
  }));
}

function give(intake: InboundMessages, octets: number, message: number): void {
  intake.begin(1, FIELDS);
  intake.data(1, new Uint8Array(octets));
  intake.end(1, message);
  intake.flush();
}

async function settled(intake: InboundMessages): Promise<void> {
  for (let n = 0; n < 10_000 && !intake.quiet; n += 1) await turn();
  assert.ok(intake.quiet);
}

describe("the intake of messages", () => {
  it("sends a large fanout a few copies at a time, and acknowledges it once all mailboxes have it", async () => {
    const { intake, calls, completed, seen } = started();
    intake.open(1, "grooveDevice://a/pc", "message", targets(40), true);
    give(intake, 4 * MIB, 7);
    assert.equal(intake.octets, 4 * MIB);
    await settled(intake);
    assert.equal(new Set(calls.map(({ peer }) => peer)).size, 40);
    assert.ok(calls.every(({ bodies }) => bodies.length === 1 && bodies[0] === 4 * MIB));
    assert.ok(seen.most <= CALL_OCTETS + 5 * MIB, `${seen.most} octets were in flight`);
    assert.ok(seen.most > 5 * MIB, "several at once");
    assert.deepEqual([completed, intake.octets], [[7], 0]);
  });

  it("frees the memory of a message while its mailbox is called", async () => {
    const { intake, carried } = started();
    intake.open(1, "grooveDevice://a/pc", "message", targets(1), false);
    const before = process.memoryUsage().arrayBuffers;
    give(intake, 16 * MIB, 1);
    assert.deepEqual(
      carried.map(({ length }) => length),
      [0],
    );
    const held = process.memoryUsage().arrayBuffers - before;
    // The copy that the call has made. The engine's bytes here are the test's, and are collected at some time.
    assert.ok(held < 33 * MIB, `${held} bytes are held`);
    await settled(intake);
    assert.equal(intake.octets, 0);
  });

  it("keeps that bound when every mailbox is still busy with a small message", async () => {
    const { intake, calls, completed, seen } = started();
    intake.open(1, "grooveDevice://a/pc", "message", targets(CALLS_AT_ONCE), true);
    give(intake, 1, 1);
    give(intake, 4 * MIB, 2);
    await settled(intake);
    assert.deepEqual(
      calls.filter(({ peer }) => peer === `grooveDevice://p${CALLS_AT_ONCE - 1}/pc`).map(({ bodies }) => bodies),
      [[1], [4 * MIB]],
    );
    assert.ok(seen.most <= CALL_OCTETS + 5 * MIB, `${seen.most} octets were in flight`);
    assert.deepEqual([completed, intake.octets], [[1, 2], 0]);
  });

  it("batches messages that arrive while a mailbox is busy into one call, in order", async () => {
    const { intake, calls, completed } = started();
    intake.open(1, "grooveDevice://a/pc", "message", targets(1), false);
    for (let n = 1; n <= 5; n += 1) give(intake, n, n);
    await settled(intake);
    assert.deepEqual(
      calls.map(({ bodies }) => bodies),
      [[1], [2, 3, 4, 5]],
    );
    assert.deepEqual(completed, [1, 2, 3, 4, 5]);
  });

  it("limits the size of a call by its envelopes too", async () => {
    const octets: number[] = [];
    const { intake, completed } = started((_, bundle) => {
      octets.push(bundle.octets.length + JSON.stringify(bundle.envelopes).length);
      return [];
    });
    const entries = Array.from({ length: 2000 }, (_, n) => ({
      identityURL: `grooveIdentity://user${n}`,
      deviceURL: "",
      relayURL: "grooveDNS://relay",
    }));
    for (let session = 1; session <= 300; session += 1) {
      intake.open(session, "grooveDevice://a/pc", "message", entries, true);
      intake.begin(session, { ...FIELDS, userRef: `${session}@a` });
      intake.end(session, session);
    }
    intake.flush();
    await settled(intake);
    assert.equal(completed.length, 300);
    assert.ok(Math.max(...octets) <= BATCH_OCTETS + 1000, `${Math.max(...octets)} octets in a call`);
  });

  it("sends one copy to a mailbox named several times, and reports a refusal for each entry", async () => {
    const { intake, calls, completed, statuses } = started((peer) =>
      peer.includes("p1") ? [{ at: 0, outcome: "locked" }] : [],
    );
    const [one, two] = targets(2);
    assert.ok(one && two);
    intake.open(
      1,
      "grooveDevice://a/pc",
      "message",
      [one, two, one, { ...one, identityURL: "grooveIdentity://x" }, two],
      true,
    );
    give(intake, 1000, 1);
    await settled(intake);
    assert.deepEqual(
      calls.map(({ peer, bodies }) => [peer, bodies]),
      [
        ["grooveDevice://p0/pc", [1000]],
        ["grooveDevice://p1/pc", [1000]],
      ],
    );
    assert.deepEqual(statuses, [{ statusId: SessionStatusId.LockedOut, indexes: [1, 4] }]);
    assert.deepEqual(completed, [1]);
  });

  it("reports refused recipients of a fanout to the sender, and still acknowledges it", async () => {
    const { intake, completed, statuses } = started((peer) =>
      peer.includes("p1") ? [{ at: 0, outcome: "quota" }] : peer.includes("p2") ? [{ at: 0, outcome: "locked" }] : [],
    );
    intake.open(1, "grooveDevice://a/pc", "message", targets(4), true);
    give(intake, 10, 3);
    await settled(intake);
    assert.deepEqual(
      statuses.map(({ indexes }) => indexes),
      [[1], [2]],
    );
    assert.deepEqual(completed, [3]);
  });

  it("ends the connection when a mailbox fails during a call, so that the sender resends", async () => {
    const { intake, completed, seen } = started(() => {
      throw new Error("the object was reset");
    });
    intake.open(1, "grooveDevice://a/pc", "message", targets(1), false);
    give(intake, 10, 3);
    await settled(intake);
    assert.equal(seen.closed, true);
    assert.deepEqual(completed, []);
  });
});

describe("mailboxes new to a device", () => {
  it("are woken one at a time, each once the previous one is paid for, and charged once", async () => {
    const paid: (() => void)[] = [];
    const wake = () => new Promise<void>((resolve) => paid.push(resolve));
    const { intake, calls, completed } = started(undefined, undefined, wake);
    intake.open(1, "grooveDevice://a/pc", "message", targets(3), true);
    give(intake, 10, 7);
    for (let woken = 1; woken <= 3; woken += 1) {
      for (let n = 0; n < 20; n += 1) await turn();
      assert.deepEqual([calls.length, paid.length], [woken, woken]);
      paid.at(-1)?.();
    }
    give(intake, 10, 8);
    await settled(intake);
    assert.deepEqual([calls.length, paid.length, completed], [6, 3, [7, 8]]);
  });

  it("do not delay messages for mailboxes that are awake", async () => {
    const wake = () => new Promise<void>(() => undefined);
    const { intake, calls } = started(undefined, undefined, wake);
    intake.open(1, "grooveDevice://a/pc", "message", targets(1), false);
    intake.open(2, "grooveDevice://a/pc", "message", targets(3), true);
    give(intake, 10, 1);
    intake.begin(2, FIELDS);
    intake.data(2, new Uint8Array(10));
    intake.end(2, 2);
    give(intake, 20, 3);
    for (let n = 0; n < 20; n += 1) await turn();
    assert.deepEqual(new Set(calls.map(({ peer }) => peer)), new Set(["grooveDevice://p0/pc"]));
    assert.deepEqual(
      calls.flatMap(({ bodies }) => bodies),
      [10, 10, 20],
    );
  });

  it("are woken in turn for each sender behind a relay, and in order per sender", async () => {
    const paid: (() => void)[] = [];
    const wake = () => new Promise<void>((resolve) => paid.push(resolve));
    const { intake, calls } = started(undefined, undefined, wake);
    intake.introduce("grooveDNS://relay.example.com", true, "relay");
    const all = targets(40);
    intake.open(1, "grooveDNS://relay.example.com", "message", all.slice(0, 30), true);
    intake.open(2, "grooveDNS://relay.example.com", "message", all.slice(30, 35), true);
    intake.open(3, "grooveDNS://relay.example.com", "message", all.slice(35), true);
    for (const [sessionId, userRef] of [
      [1, "1@alice/pc"],
      [2, "1@alice/phone"],
      [3, "1@bob/pc"],
    ] as const) {
      intake.begin(sessionId, { ...FIELDS, userRef });
      intake.data(sessionId, new Uint8Array(10));
      intake.end(sessionId, sessionId);
    }
    intake.flush();
    for (let woken = 1; woken <= 10; woken += 1) {
      for (let n = 0; n < 20; n += 1) await turn();
      paid.at(-1)?.();
    }
    for (let n = 0; n < 20; n += 1) await turn();
    const order = calls.map(({ peer }) => Number(/p(\d+)/.exec(peer)?.[1]));
    assert.deepEqual(order.slice(0, 10), [0, 35, 1, 36, 2, 37, 3, 38, 4, 39]);
  });

  it("may outnumber those that are remembered", async () => {
    let woken = 0;
    const { intake, completed } = started(undefined, undefined, () => {
      woken += 1;
      return undefined;
    });
    intake.open(1, "grooveDevice://a/pc", "message", targets(WOKEN_MAILBOXES + 10), true);
    for (let message = 1; message <= 2; message += 1) {
      give(intake, 1, message);
      await settled(intake);
    }
    assert.deepEqual(completed, [1, 2]);
    assert.ok(woken > WOKEN_MAILBOXES + 10, `${woken}`);
  });
});

describe("a fanout message", () => {
  it("is paid for by copy before any copy is stored, and the next waits its turn", async () => {
    const asked: number[][] = [];
    const paid: (() => void)[] = [];
    const { intake, calls, completed } = started(undefined, (octets, messages) => {
      asked.push([octets, messages]);
      return new Promise((resolve) => paid.push(resolve));
    });
    intake.open(1, "grooveDevice://a/pc", "message", targets(40), true);
    for (const message of [7, 8]) give(intake, 1000, message);
    for (let n = 0; n < 20; n += 1) await turn();
    assert.deepEqual([asked, calls.length, intake.quiet], [[[39_000, 39]], 0, false]);
    paid[0]?.();
    for (let n = 0; n < 20; n += 1) await turn();
    assert.deepEqual([calls.length, completed, asked.length], [40, [7], 2]);
    paid[1]?.();
    await settled(intake);
    assert.deepEqual([calls.length, completed], [80, [7, 8]]);
  });

  it("that is large is paid for and stored copy by copy", async () => {
    const paid: (() => void)[] = [];
    const { intake, calls, completed } = started(undefined, () => new Promise((resolve) => paid.push(resolve)));
    intake.open(1, "grooveDevice://a/pc", "message", targets(4), true);
    give(intake, MIB, 7);
    for (let copies = 1; copies < 4; copies += 1) {
      for (let n = 0; n < 20; n += 1) await turn();
      assert.deepEqual([calls.length, paid.length], [copies, copies]);
      paid.at(-1)?.();
    }
    await settled(intake);
    assert.deepEqual([calls.length, completed], [4, [7]]);
  });

  it("does not delay a message to a single recipient", async () => {
    const { intake, calls } = started(undefined, () => new Promise(() => undefined));
    intake.open(1, "grooveDevice://a/pc", "message", targets(40), true);
    intake.open(2, "grooveDevice://a/pc", "message", targets(1), false);
    give(intake, 1000, 7);
    intake.begin(2, FIELDS);
    intake.end(2, 8);
    intake.flush();
    for (let n = 0; n < 20; n += 1) await turn();
    assert.equal(calls.length, 1);
  });

  it("is not stored if its connection ends before it is paid for", async () => {
    const paid: (() => void)[] = [];
    const { intake, calls } = started(undefined, () => new Promise((resolve) => paid.push(resolve)));
    intake.open(1, "grooveDevice://a/pc", "message", targets(2), true);
    give(intake, 1000, 7);
    intake.abandon();
    paid[0]?.();
    for (let n = 0; n < 20; n += 1) await turn();
    assert.equal(calls.length, 0);
  });
});

describe("messages with flag D", () => {
  /** Mailboxes that store at once, but do not report on messages with flag D until told to. */
  function hung(t: { after(run: () => void): void }) {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.after(() => mock.timers.reset());
    const calls: string[] = [];
    const completed: number[] = [];
    const statuses: (readonly number[])[] = [];
    const answers: ((refusals: Refusal[]) => void)[] = [];
    const engine = {
      closed: undefined,
      complete: (message: number) => completed.push(message),
      session: () => open,
      noop: () => undefined,
      sessionStatus: (_: number, statusId: number, indexes: readonly number[]) => statuses.push([statusId, ...indexes]),
    } as unknown as Connection;
    const open = {};
    const mailbox = {
      append: async () => {
        calls.push("append");
        return { refusals: [] };
      },
      pass: () => {
        calls.push("pass");
        return new Promise((resolve) => answers.push(resolve));
      },
    };
    const host = {
      mailbox: () => mailbox,
      waitUntil: () => undefined,
      messageLimit: MESSAGE_LIMIT,
    } as unknown as EndpointContext;
    const intake = new InboundMessages(host, engine, () => undefined, {
      copies: () => undefined,
      wake: () => undefined,
    });
    const send = (sessionId: number, message: number, doNotDeliverIfOffline: boolean) => {
      intake.begin(sessionId, { ...FIELDS, doNotDeliverIfOffline });
      intake.end(sessionId, message);
      intake.flush();
    };
    const pass = async (milliseconds: number) => {
      mock.timers.tick(milliseconds);
      for (let n = 0; n < 100; n += 1) await Promise.resolve();
    };
    return { intake, calls, completed, statuses, answers, send, pass };
  }

  it("do not wait for stored ones of the same session, nor the other way round", async (t) => {
    const { intake, calls, completed, answers, send, pass } = hung(t);
    intake.open(1, "grooveDevice://a/pc", "message", targets(1), false);
    for (let n = 1; n <= 4; n += 1) send(1, n, n % 2 === 0);
    await pass(0);
    assert.deepEqual(calls, ["append", "pass", "append"]);
    assert.deepEqual(completed, [1], "acknowledged in order of arrival");
    answers[0]?.([]);
    await pass(0);
    answers[1]?.([]);
    await pass(0);
    assert.deepEqual(completed, [1, 2, 3, 4]);
  });

  it("delay acknowledgements by at most 5 s, however many are sent to a hung peer", async (t) => {
    const { intake, completed, statuses, send, pass } = hung(t);
    const [local = { identityURL: "", deviceURL: "", relayURL: "" }] = targets(1);
    intake.open(1, "grooveDevice://a/pc", "message", [local], false);
    intake.open(3, "grooveDevice://a/pc", "message", [{ ...local, relayURL: "grooveDNS://relay" }], true);
    const at = new Map<number, number>();
    for (let message = 1; message <= 90; message += 1) {
      at.set(message, Date.now());
      send(message % 3 === 0 ? 3 : 1, message, message % 3 !== 1);
      await pass(250);
      for (const [came, when] of at) if (Date.now() - when > 5000) assert.ok(completed.includes(came), `${came}`);
    }
    assert.deepEqual(new Set(statuses.map(String)), new Set([[SessionStatusId.HostNotReachable, 0].join()]));
    assert.ok(VOLATILE_TIMEOUT < 5000);
  });
});

describe("the sessions of a relay that vouches", () => {
  const RELAY = "grooveDNS://relay.example.com";
  const PEER = "grooveDevice://p0/pc";

  /** An intake for a relay, whose mailbox answers when it is told to. */
  function relayed() {
    const states = new Map<number, string>();
    const sessions = new Map<number, object>();
    const answers: ((appended: Appended) => void)[] = [];
    const engine = {
      closed: undefined,
      complete: () => undefined,
      session: (id: number) => sessions.get(id),
      setAvailability: (id: number, state: string) => states.set(id, state),
    } as unknown as Connection;
    const host = {
      mailbox: () => ({ append: () => new Promise<Appended>((resolve) => answers.push(resolve)) }),
      waitUntil: () => undefined,
      messageLimit: MESSAGE_LIMIT,
      name: RELAY,
    } as unknown as EndpointContext;
    const charges = { copies: () => undefined, wake: () => undefined };
    const intake = new InboundMessages(host, engine, () => undefined, charges);
    intake.introduce(RELAY, true, "relay");
    const open = (id: number, resource = "message") => {
      sessions.set(id, {});
      states.set(id, "ready");
      intake.open(id, RELAY, resource, targets(1), false);
    };
    const send = (id: number, who: string) => {
      intake.begin(id, { ...FIELDS, userRef: `${id}@${who}` });
      intake.end(id, id);
      intake.flush();
    };
    const answer = async (appended: Appended) => {
      answers.shift()?.(appended);
      for (let n = 0; n < 5; n += 1) await turn();
    };
    return { intake, states, open, send, answer };
  }

  it("are all suspended when it has used up its share, also later ones, and all resumed", async () => {
    const { intake, states, open, send, answer } = relayed();
    for (const id of [1, 2]) open(id);
    open(3, "stream");
    send(1, "alice");
    await answer({ refusals: [], suspend: 1, suspended: [RELAY] });
    open(4);
    const all = () => [1, 2, 3, 4].map((id) => states.get(id));
    assert.deepEqual(all(), ["notReady", "notReady", "ready", "notReady"]);
    intake.room(PEER, 2, `${RELAY} alice`);
    assert.equal(states.get(2), "notReady", "that is room for another");
    intake.room(PEER, 2, RELAY);
    assert.deepEqual(all(), ["ready", "ready", "ready", "ready"]);
    open(5);
    assert.equal(states.get(5), "ready");
  });

  it("are suspended although another of its senders got room during the call", async () => {
    const { intake, states, open, send, answer } = relayed();
    for (const id of [1, 2]) open(id);
    send(1, "alice");
    intake.room(PEER, 7, `${RELAY} bob`);
    await answer({ refusals: [], suspend: 7, suspended: [`${RELAY} alice`] });
    assert.deepEqual([states.get(1), states.get(2)], ["notReady", "ready"]);
    send(2, "carol");
    intake.room(PEER, 8, `${RELAY} carol`);
    await answer({ refusals: [], suspend: 8, suspended: [`${RELAY} carol`] });
    assert.equal(states.get(2), "ready", "its own room came during the call, after what was stored");
  });
});
