/** What a device refuses, suspends or leaves unanswered delays nothing else, and stays in the relay within limits. */
import assert from "node:assert/strict";
import { describe, mock, type TestContext, test } from "node:test";
import fc from "fast-check";
import type { Relay } from "../../src/relay/index.ts";
import {
  LATER,
  OPEN_SESSIONS,
  REFUSED_FOR,
  SENDER_PAGE,
  SESSION_FAILURES,
  SESSION_REFUSALS,
} from "../../src/relay/limits.ts";
import { CloseReasonId, type ConnectionEvent } from "../../src/sstp/index.ts";
import { eventually, pattern } from "../support/watch.ts";
import { Peer, type PeerOptions, relayFor, texts, waiting } from "./support.ts";

type Open = Extract<ConnectionEvent, { type: "open" }>;

async function setting(t: TestContext) {
  const relay = await relayFor(t);
  async function peer(address: string, more: Partial<PeerOptions> = {}): Promise<Peer> {
    const connected = await Peer.connect(relay, { address, ...more });
    t.after(() => connected.drop());
    return connected;
  }
  const alice = await peer("alice/laptop");
  const sessions = new Map<string, number>();
  /** Sends to bob's pc; resolves when the relay has the message. */
  async function send(resource: string, ...bodies: (string | Uint8Array)[]): Promise<void> {
    const session = sessions.get(resource) ?? (await alice.open("bob/pc", resource));
    sessions.set(resource, session);
    await alice.untilAcknowledged(...bodies.map((body) => alice.send(session, body)));
  }
  /** The same with flag D. */
  async function flagged(resource: string, body: Uint8Array): Promise<void> {
    const session = sessions.get(resource) ?? (await alice.open("bob/pc", resource));
    await alice.untilAcknowledged(alice.send(session, body, { doNotDeliverIfOffline: true }));
  }
  return { relay, peer, send, flagged };
}

/** Answers each session by its resource; unnamed resources are accepted. */
function answer(peer: Peer, answers: Record<string, "fault" | "notReady" | "none">): void {
  peer.onEvent = (event) => {
    if (event.type !== "open") return;
    const how = answers[event.resourceURL] ?? "ready";
    if (how !== "none") peer.engine.setAvailability(event.sessionId, how);
  };
}

function opens(peer: Peer, resource: string): Open[] {
  return peer.events.filter((event): event is Open => event.type === "open" && event.resourceURL === resource);
}

/** A device without an account, which answers as `answers` says. */
async function device(
  peer: (address: string, more: Partial<PeerOptions>) => Promise<Peer>,
  answers: Parameters<typeof answer>[1],
  more: Partial<PeerOptions> = {},
): Promise<Peer> {
  const bob = await peer("bob/pc", { accept: false, attach: false, ...more });
  for (const event of bob.events) {
    if (event.type === "open")
      bob.engine.setAvailability(event.sessionId, answers[event.resourceURL] === "fault" ? "fault" : "ready");
  }
  answer(bob, answers);
  bob.flush();
  return bob;
}

describe("a session that is not ready", () => {
  for (const how of ["notReady", "none"] as const) {
    test(`delays only its own messages (${how})`, async (t) => {
      const { relay, peer, send } = await setting(t);
      const bob = await device(peer, { slow: how });
      const count = SENDER_PAGE * 2 + 10;
      const slow = Array.from({ length: count }, (_, n) => `slow ${n}`);
      await send("slow", ...slow.slice(0, count - 1));
      await send("quick", "one", "two");
      await send("slow", ...slow.slice(count - 1));
      await send("quick", "three");
      assert.deepEqual(texts(await bob.received(3)), ["one", "two", "three"]);
      await eventually(() => waiting(relay, "bob/pc").messages === count, "those that were received to go");
      bob.engine.setAvailability(opens(bob, "slow")[0]?.sessionId ?? 0, "ready");
      bob.flush();
      assert.deepEqual(texts(await bob.received(3 + count)).slice(3), slow);
      await eventually(() => waiting(relay, "bob/pc").messages === 0, "all to go");
    });
  }

  test("that is suspended in the middle of a long message leaves the window to others", async (t) => {
    const { peer, send } = await setting(t);
    const bob = await device(peer, {});
    const long = pattern(8_000_000, 7);
    bob.onEvent = (event) => {
      if (event.type === "open") bob.engine.setAvailability(event.sessionId, "ready");
      if (event.type === "data" && event.sessionId === opens(bob, "long")[0]?.sessionId && !suspended) {
        suspended = true;
        bob.engine.setAvailability(event.sessionId, "notReady");
      }
    };
    let suspended = false;
    await send("long", long);
    await bob.watch.until(() => suspended, "a part of it");
    await send("quick", ...Array.from({ length: 30 }, (_, n) => pattern(100_000, n)));
    await bob.received(30);
    assert.ok(bob.messages.every(({ addressing }) => addressing.resourceURL === "quick"));
    bob.engine.setAvailability(opens(bob, "long")[0]?.sessionId ?? 0, "ready");
    bob.flush();
    assert.ok((await bob.received(31))[30]?.body.equals(long));
  });
});

describe("a device that refuses a resource", () => {
  test("gets everything else; refused messages wait for another device, and each is counted once", async (t) => {
    const { relay, peer, send } = await setting(t);
    await send("calendar", "a", "b");
    await send("mail", "one");
    const refused = () => relay.status().dropped.ResourceRefused;
    for (let turn = 0; turn < 2; turn += 1) {
      const bob = await peer("bob/pc", { accept: false, attach: false });
      answer(bob, { calendar: "fault" });
      for (const { sessionId } of opens(bob, "calendar")) bob.engine.setAvailability(sessionId, "fault");
      for (const { sessionId } of opens(bob, "mail")) bob.engine.setAvailability(sessionId, "ready");
      bob.flush();
      await send("calendar", `c${turn}`);
      await send("mail", `two${turn}`);
      assert.deepEqual(texts(await bob.received(turn === 0 ? 2 : 1)), turn === 0 ? ["one", "two0"] : ["two1"]);
      await eventually(() => refused() === 3 + turn, "those that are refused to be counted");
      await eventually(() => waiting(relay, "bob/pc").messages === 3 + turn, "the rest to go");
      assert.equal(opens(bob, "calendar").length, 1);
      assert.equal(bob.ended, false);
      bob.drop();
    }
    const willing = await peer("bob/pc", { attach: false });
    assert.deepEqual(texts(await willing.received(4)), ["a", "b", "c0", "c1"]);
    assert.equal(refused(), 4);
  });

  test("may refuse more than a window of messages, even by closing a session it had accepted", async (t) => {
    const { relay, peer, send } = await setting(t);
    await send("calendar", ...Array.from({ length: 30 }, (_, n) => pattern(100_000, n)));
    const bob = await peer("bob/pc", { attach: false, acknowledge: false });
    await bob.received(1);
    bob.engine.closeSession(opens(bob, "calendar")[0]?.sessionId ?? 0, CloseReasonId.UserAuthenticationFailed);
    bob.flush();
    await send("mail", "one");
    await bob.watch.until(() => texts(bob.messages).includes("one"), "the mail");
    await eventually(() => relay.status().dropped.ResourceRefused === 30, "all to be counted");
    assert.equal(waiting(relay, "bob/pc").messages, 31);
  });
});

describe("a message that its device refuses for its size", () => {
  /** Refuses bodies over 1000 octets by closing their session, after it has received what came with them. */
  async function small(peer: (address: string, more: Partial<PeerOptions>) => Promise<Peer>, bound = 1000) {
    const bob = await peer("bob/pc", { attach: false, acknowledge: false });
    let refusals = 0;
    let done = 0;
    const act = () => {
      for (; done < bob.messages.length; done += 1) {
        const message = bob.messages[done];
        if (message === undefined || bob.engine.session(message.sessionId) === undefined) continue;
        // It does not react to a message before it has the following ones.
        const later = bob.messages.slice(done).filter(({ sessionId }) => sessionId === message.sessionId);
        if (later.every(({ body }) => body.length <= bound)) bob.engine.complete(message.number);
        else {
          refusals += 1;
          bob.engine.closeSession(message.sessionId, CloseReasonId.QuotaWouldBeExceeded);
        }
      }
      bob.flush();
    };
    bob.socket.on("data", act);
    act();
    const taken = () => texts(bob.messages.filter(({ body }) => body.length <= bound));
    return { bob, taken, refusals: () => refusals };
  }

  /** Only the clock is mocked: sockets run in real time. */
  function clock(t: TestContext) {
    mock.timers.enable({ apis: ["Date"], now: Date.now() });
    t.after(() => mock.timers.reset());
    return (by: number) => mock.timers.setTime(Date.now() + by);
  }

  async function dropped(relay: Relay, count: number): Promise<void> {
    await eventually(() => relay.status().dropped.RefusedByPeer === count, `${count} to be dropped`);
  }

  test("is dropped after an hour of refusals; the connection stays, and other messages are delivered meanwhile", async (t) => {
    const pass = clock(t);
    const { relay, peer, send } = await setting(t);
    await send("mail", "before", pattern(50_000, 1), "behind", "and more");
    const { bob, taken, refusals } = await small(peer);
    await eventually(() => waiting(relay, "bob/pc").messages === 1, "all but that one to go");
    assert.deepEqual([...new Set(taken())], ["before", "behind", "and more"]);
    await send("mail", "new");
    await eventually(() => taken().includes("new"), "the next");
    await bob.settled();
    for (let passed = 0; passed < REFUSED_FOR; passed += LATER) {
      assert.equal(relay.status().dropped.RefusedByPeer, 0);
      assert.equal(waiting(relay, "bob/pc").messages, 1);
      const before = refusals();
      pass(LATER);
      await bob.settled();
      await eventually(() => refusals() === before + 1, "the next refusal");
      await bob.settled();
    }
    await dropped(relay, 1);
    assert.deepEqual(waiting(relay, "bob/pc"), { octets: 0, messages: 0 });
    assert.equal(bob.ended, false);
    await send("mail", "last");
    await eventually(() => taken().includes("last"), "the last");
  });

  test("keeps its hour across reconnects, and is delivered to a device that accepts it", async (t) => {
    const pass = clock(t);
    const { relay, peer, send } = await setting(t);
    await send("mail", pattern(50_000, 1));
    const first = await small(peer);
    await eventually(() => first.refusals() === 1, "a refusal");
    await first.bob.settled();
    first.bob.drop();
    pass(REFUSED_FOR - 1);
    const second = await small(peer);
    await eventually(() => second.refusals() === 1, "another");
    await second.bob.settled();
    assert.equal(relay.status().dropped.RefusedByPeer, 0);
    second.bob.drop();
    const bob = await peer("bob/pc", { attach: false });
    assert.equal((await bob.received(1))[0]?.body.length, 50_000);
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "it to go");
    assert.equal(relay.status().dropped.RefusedByPeer, 0);
  });

  test("is identified exactly: among short and long messages only those that are too long are dropped", async (t) => {
    const pass = clock(t);
    const { relay, peer, send } = await setting(t);
    // Length alone does not decide: this device refuses 1001 octets of mail, but accepts them as a picture.
    await send("pictures", pattern(80_000, 2));
    const bodies = Array.from({ length: 40 }, (_, n) => (n % 11 === 5 ? pattern(1001 + n, n) : `${n}`));
    await send("mail", ...bodies);
    const bob = await peer("bob/pc", { attach: false, acknowledge: false });
    const taken: string[] = [];
    let done = 0;
    const act = () => {
      for (; done < bob.messages.length; done += 1) {
        const message = bob.messages[done];
        if (message === undefined || bob.engine.session(message.sessionId) === undefined) continue;
        const rest = bob.messages.slice(done).filter(({ sessionId }) => sessionId === message.sessionId);
        const refuses = message.addressing.resourceURL === "mail" && rest.some(({ body }) => body.length > 1000);
        if (refuses) bob.engine.closeSession(message.sessionId, CloseReasonId.QuotaWouldBeExceeded);
        else {
          bob.engine.complete(message.number);
          taken.push(message.body.length > 1000 ? "picture" : message.body.toString());
        }
      }
      bob.flush();
    };
    bob.socket.on("data", act);
    act();
    const short = bodies.filter((body) => typeof body === "string");
    await eventually(() => taken.length === short.length + 1, "all that are short, and the picture");
    assert.deepEqual(
      taken.filter((text) => text !== "picture"),
      short,
    );
    const long = bodies.length - short.length;
    await eventually(() => waiting(relay, "bob/pc").messages === long, "the others to stay");
    for (let passed = 0; passed < REFUSED_FOR + LATER; passed += LATER) {
      pass(LATER);
      for (let n = 0; n < long + 2; n += 1) await bob.settled();
    }
    await dropped(relay, long);
    assert.equal(waiting(relay, "bob/pc").messages, 0);
  });

  test("is not identified if either a stored message or one with flag D could be meant", async (t) => {
    const { relay, peer, send, flagged } = await setting(t);
    const bob = await device(peer, {}, { acknowledge: false });
    await send("mail", "stored");
    await flagged("mail", pattern(5000, 1));
    await bob.received(2);
    bob.engine.closeSession(opens(bob, "mail")[0]?.sessionId ?? 0, CloseReasonId.QuotaWouldBeExceeded);
    bob.flush();
    // It is redelivered at once: it was not the refused one.
    const [, , again] = await bob.received(3);
    assert.equal(again?.body.toString(), "stored");
    if (again !== undefined) bob.complete(again);
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "it to go");
  });

  test("or a session that keeps failing causes a limited number of sessions until a delay has passed", async (t) => {
    const pass = clock(t);
    const { relay, peer, send } = await setting(t);
    await send("mail", ...Array.from({ length: 30 }, (_, n) => pattern(2000, n)));
    const { bob } = await small(peer);
    const count = () => opens(bob, "mail").length;
    await eventually(() => count() === SESSION_REFUSALS + 1, "the sessions");
    for (let n = 0; n < 3; n += 1) await bob.settled();
    assert.equal(count(), SESSION_REFUSALS + 1);
    await send("chat", "one");
    await eventually(() => texts(bob.messages).includes("one"), "the chat");
    pass(LATER);
    await bob.settled();
    await eventually(() => count() > SESSION_REFUSALS + 1, "another");
    assert.equal(waiting(relay, "bob/pc").messages, 30);

    const closing = await peer("bob/pc", { attach: false, accept: false });
    closing.onEvent = (event) => {
      if (event.type === "open") closing.engine.closeSession(event.sessionId, CloseReasonId.NoReason);
    };
    for (const { sessionId } of opens(closing, "mail")) closing.engine.closeSession(sessionId, CloseReasonId.NoReason);
    closing.flush();
    await eventually(() => opens(closing, "mail").length === SESSION_FAILURES, "the sessions");
    answer(closing, {});
    for (let n = 0; n < 3; n += 1) await closing.settled();
    assert.equal(opens(closing, "mail").length, SESSION_FAILURES);
    pass(LATER);
    assert.equal((await closing.received(30)).length, 30);
  });
});

test("every message arrives in order and none remains, whatever a device accepts, suspends, closes and refuses", async (t) => {
  const { relay, peer, send } = await setting(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat({ max: OPEN_SESSIONS + 40 }), { minLength: 1, maxLength: 400, size: "max" }),
      fc.infiniteStream(fc.constantFrom("go", "go", "go", "suspend", "tidy", "tidy", "quota")),
      async (resources, fates) => {
        const sent = new Map<string, string[]>();
        for (const [n, resource] of resources.entries()) {
          const name = `r${resource}`;
          sent.set(name, [...(sent.get(name) ?? []), `${n}`]);
        }
        await Promise.all([...sent].map(([name, bodies]) => send(name, ...bodies)));
        const bob = await peer("bob/pc", { accept: false, attach: false, acknowledge: false });
        const got = new Map<string, string[]>();
        const answered = new Set<number>();
        const suspended: number[] = [];
        let done = 0;
        let wild = 60;
        const act = () => {
          for (const event of bob.events) {
            if (event.type !== "open" || answered.has(event.sessionId)) continue;
            answered.add(event.sessionId);
            if (bob.engine.session(event.sessionId) !== undefined) bob.engine.setAvailability(event.sessionId, "ready");
          }
          for (; done < bob.messages.length; done += 1) {
            const message = bob.messages[done];
            if (message === undefined || bob.engine.session(message.sessionId) === undefined) continue;
            wild -= 1;
            const fate = wild > 0 ? (fates.next().value ?? "go") : "go";
            if (fate === "quota") {
              // Too many at once: one at a time it is accepted.
              const rest = bob.messages.slice(done).filter(({ sessionId }) => sessionId === message.sessionId);
              if (rest.length > 1) {
                bob.engine.closeSession(message.sessionId, CloseReasonId.QuotaWouldBeExceeded);
                continue;
              }
            }
            bob.engine.complete(message.number);
            const name = message.addressing.resourceURL;
            got.set(name, [...(got.get(name) ?? []), message.body.toString()]);
            const last = bob.messages.slice(done + 1).every(({ sessionId }) => sessionId !== message.sessionId);
            if (fate === "suspend") {
              bob.engine.setAvailability(message.sessionId, "notReady");
              suspended.push(message.sessionId);
            } else if (fate === "tidy" && last) {
              bob.engine.closeSession(message.sessionId, CloseReasonId.Idle);
            }
          }
          if (suspended.length > 2 || wild <= 0) {
            for (const id of suspended.splice(0)) {
              if (bob.engine.session(id) !== undefined) bob.engine.setAvailability(id, "ready");
            }
          }
          bob.flush();
        };
        bob.socket.on("data", act);
        act();
        const all = () => [...got.values()].reduce((sum, { length }) => sum + length, 0);
        await eventually(() => {
          if (suspended.length > 0) {
            for (const id of suspended.splice(0)) {
              if (bob.engine.session(id) !== undefined) bob.engine.setAvailability(id, "ready");
            }
            bob.flush();
          }
          return all() >= resources.length;
        }, "all messages");
        assert.deepEqual(got, new Map([...got.keys()].map((name) => [name, sent.get(name) ?? []])));
        await eventually(() => waiting(relay, "bob/pc").messages === 0, "all to go");
        bob.drop();
        await eventually(() => relay.status().connections === 1, "the connection to go");
      },
    ),
    { numRuns: 15 },
  );
});
