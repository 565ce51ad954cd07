/** A recipient that the relay suspends is held without affecting others, across connections and full mailboxes. */
import assert from "node:assert/strict";
import { syncBuiltinESMExports } from "node:module";
import { describe, type TestContext, test } from "node:test";
import { startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import type { Device, DeviceOptions } from "../../src/device/index.ts";
import { CloseReasonId, ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { FLIGHT } from "../../src/store-and-forward/sender-share.ts";
import { pattern, soon } from "../support/watch.ts";
import { deviceFor, failure, type Link, ScriptedRelay, take } from "./support.ts";

/** A device and its reports on held recipients. */
async function started(t: TestContext, options: Partial<DeviceOptions> = {}) {
  const relay = await ScriptedRelay.start(t);
  const told: string[] = [];
  const device = await deviceFor(t, relay, "alice/laptop", {
    onHeld: (to, resource) => {
      told.push(`held ${to} ${resource}`);
      relay.watch.changed();
    },
    onReleased: (to) => {
      told.push(`released ${to}`);
      relay.watch.changed();
    },
    ...options,
  });
  return { relay, device, told, link: await relay.link(0) };
}

/** Suspends an identity's session once a message has arrived on it. */
function suspendAt(link: Link, name: string): { session: number | undefined } {
  const found: { session: number | undefined } = { session: undefined };
  const before = link.onEvent;
  link.onEvent = (event) => {
    before(event);
    if (event.type === "open" && event.identityURL === `grooveIdentity://${name}`) found.session = event.sessionId;
    if (event.type === "endMessage" && event.sessionId === found.session) {
      link.engine.setAvailability(event.sessionId, "notReady");
    }
  };
  return found;
}

/** Waits until a device has nothing more to send: it has answered the latest request. */
async function quiet(link: Link): Promise<void> {
  for (let still = 0, before = -1; still < 3; still = before === link.socket.bytesRead ? still + 1 : 0) {
    before = link.socket.bytesRead;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const textsOf = (link: Link) => link.messages.map(({ body }) => body.toString());

describe("a held recipient", () => {
  test("is reported once, does not block other recipients, and gets its messages in order on release", async (t) => {
    const { device, told, link } = await started(t);
    const held = suspendAt(link, "slow");
    const first = device.send("slow", "0");
    await soon(first, "the first message");
    assert.deepEqual(told, [], "nothing is queued yet");
    const sent = Array.from({ length: 5 }, (_, n) => device.send("slow", `${n + 1}`));
    await soon(device.send("bob", "for bob"), "the other recipient");
    await link.until(() => told.length > 0, "the device to tell");
    assert.deepEqual(told, ["held slow message"]);
    await quiet(link);
    assert.deepEqual(textsOf(link), ["0", "for bob"]);
    assert.ok(held.session !== undefined);
    link.onEvent = () => undefined;
    link.engine.setAvailability(held.session, "ready");
    link.flush();
    await soon(Promise.all(sent), "what was held");
    assert.deepEqual(told, ["held slow message", "released slow"]);
    assert.deepEqual(textsOf(link), ["0", "for bob", "1", "2", "3", "4", "5"]);
  });

  test("is probed with one message on a new connection; the rest follow once it is acknowledged", async (t) => {
    const { relay, device, told, link } = await started(t);
    suspendAt(link, "slow");
    await soon(device.send("slow", "0"), "the first message");
    const sent = Array.from({ length: 5 }, (_, n) => device.send("slow", `${n + 1}`));
    await link.until(() => told.length > 0, "the device to tell");
    relay.onLink = (next) => void suspendAt(next, "slow");
    link.engine.close(ConnectCloseReasonId.Resting);
    link.flush();
    const second = await relay.link(1);
    await second.taken(1);
    await quiet(second);
    assert.deepEqual(textsOf(second), ["1"], "it is suspended again");
    relay.onLink = () => undefined;
    // This relay is slow: nothing follows before the acknowledgement.
    relay.script.acknowledge = false;
    second.engine.close(ConnectCloseReasonId.Resting);
    second.flush();
    const third = await relay.link(2);
    const [tried] = await third.taken(1);
    await quiet(third);
    assert.deepEqual(textsOf(third), ["2"]);
    assert.deepEqual(told, ["held slow message"]);
    relay.script.acknowledge = true;
    assert.ok(tried);
    third.complete(tried);
    await soon(Promise.all(sent), "what was held");
    assert.deepEqual(textsOf(third), ["2", "3", "4", "5"]);
    assert.deepEqual(told, ["held slow message", "released slow"]);
  });

  test("does not fail its messages on a full mailbox, unlike a recipient that was not suspended", async (t) => {
    const { device, told, link } = await started(t);
    const held = suspendAt(link, "slow");
    await soon(device.send("slow", "0"), "the first message");
    const sent = device.send("slow", "1");
    sent.catch(() => undefined);
    await link.until(() => told.length > 0, "the device to tell");
    // It crosses a message that is on its way.
    link.script.acknowledge = false;
    link.onEvent = () => undefined;
    assert.ok(held.session !== undefined);
    link.engine.setAvailability(held.session, "ready");
    link.flush();
    await link.taken(2);
    link.engine.closeSession(held.session, CloseReasonId.QuotaWouldBeExceeded);
    link.flush();
    await quiet(link);
    assert.equal(link.messages.length, 2, "it is not sent again at once");
    const other = device.send("carol", "1");
    other.catch(() => undefined);
    const [, , tooMany] = await link.taken(3);
    link.engine.closeSession(tooMany?.sessionId ?? 0, CloseReasonId.QuotaWouldBeExceeded);
    link.flush();
    await assert.rejects(other, failure("QuotaWouldBeExceeded"));
    await device.close();
    await assert.rejects(sent, failure("Closed"), "it has waited");
  });
});

/**
 * Stops the clock of all timers; the returned function advances it, in milliseconds. Helpers that wait no longer give up:
 * the test needs a timeout.
 */
function driveTime(t: TestContext): (milliseconds: number) => void {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  // Also replaces the timers that modules have imported by name.
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.timers.reset();
    syncBuiltinESMExports();
  });
  return (milliseconds) => t.mock.timers.tick(milliseconds);
}

describe("a held recipient without room for a single message", () => {
  for (const moment of ["when its session is opened", "when the message has come"]) {
    test(`is retried after 5 s, then after longer pauses, at most a minute; refused ${moment}`, {
      timeout: 300_000,
    }, async (t) => {
      const { device, told, link } = await started(t);
      const held = suspendAt(link, "slow");
      await soon(device.send("slow", "0"), "the first message");
      const sent = ["1", "2", "3"].map((text) => device.send("slow", text));
      await link.until(() => told.length > 0, "the device to tell");
      const pass = driveTime(t);
      link.script.acknowledge = false;
      let hasRoom = false;
      let tries = 0;
      link.onEvent = (event) => {
        if (event.type === "open" && event.identityURL === "grooveIdentity://slow") held.session = event.sessionId;
        const isSlow = "sessionId" in event && event.sessionId === held.session;
        if (event.type === "endMessage" && (hasRoom || !isSlow)) link.engine.complete(event.message);
        if (!isSlow || hasRoom) return;
        // A session that is already open is closed at its first message.
        const refuses = event.type === "endMessage" || (event.type === "open" && moment.includes("opened"));
        if (!refuses || link.engine.session(event.sessionId) === undefined) return;
        tries += 1;
        link.engine.closeSession(event.sessionId, CloseReasonId.QuotaWouldBeExceeded);
      };
      link.engine.setAvailability(held.session ?? 0, "ready");
      link.flush();
      /** Resolves when both sides have processed what was sent before. */
      const bothHeard = () => soon(device.send("bob", ""), "a message to somebody else");
      const triedAfter = async (seconds: number) => {
        const before = tries;
        await bothHeard();
        pass(seconds * 1000 - 1);
        await bothHeard();
        assert.equal(tries, before, `it was retried before ${seconds} s`);
        pass(1);
        await link.until(() => tries > before, `a retry after ${seconds} s`);
      };
      await link.until(() => tries === 1, "the first refusal");
      for (const seconds of [5, 10, 20, 40, 60, 60]) await triedAfter(seconds);
      hasRoom = true;
      await bothHeard();
      pass(60_000);
      await soon(Promise.all(sent), "what was held");
      assert.deepEqual(
        textsOf(link)
          .filter((text) => text !== "")
          .slice(-3),
        ["1", "2", "3"],
      );
      assert.equal(tries, 7);
      // The next refusal starts with the first pause again.
      hasRoom = false;
      const last = device.send("slow", "4");
      last.catch(() => undefined);
      await link.until(() => tries === 8, "another refusal");
      await triedAfter(5);
      await device.close();
      await assert.rejects(last, failure("Closed"));
    });
  }
});

describe("a recipient held while a LongLived connection is used up", () => {
  /** Nothing follows a message of this length before its acknowledgement, so the others wait when a suspension arrives. */
  const LIMIT = FLIGHT.octets;
  /** What a connection carries each way: the default multiple of the limit. Four loads use it up. */
  const CONTENT = 4 * LIMIT;
  const LOADS = 4;
  const LOAD = Math.floor((LIMIT * 5) / 6);

  /** Each sends data in one direction. */
  const loads: Record<string, (relay: ScriptedRelay, device: Device, n: number) => Promise<unknown>> = {
    async "by what is sent"(_, device, n) {
      await device.send("bob", pattern(LOAD, n));
    },
    async "by what is received"(relay, device, n) {
      const link = await relay.link(relay.links.length - 1);
      const deviceURL = "grooveDevice://alice/laptop";
      const session = await link.open({ resourceURL: "message", identityURL: "grooveIdentity://alice", deviceURL });
      for (let part = 0; part < LOADS; part += 1) {
        const body = pattern(LOAD, LOADS * n + part);
        link.send(session, body, `${n}.${part}@bob`);
        assert.deepEqual((await take(device, 1))[0]?.body, body);
      }
      await relay.link(relay.links.indexOf(link) + 1);
    },
  };
  for (const [side, load] of Object.entries(loads)) {
    test(`${side}: gets its messages once and in order, including one that was partly sent`, {
      timeout: 300_000,
    }, async (t) => {
      const relay = await ScriptedRelay.start(t);
      const edge = await startLocalEdge({ port: 0, relayAllow: [`127.0.0.1:${relay.port}`], dev: "private open" });
      t.after(() => edge.close());
      let isFull = true;
      // On each connection, its session is suspended in the middle of the first message.
      const slow = new Map<Link, number>();
      relay.onLink = (link) => {
        let isSuspended = false;
        link.onEvent = (event) => {
          if (event.type === "open" && event.identityURL === "grooveIdentity://slow") slow.set(link, event.sessionId);
          if (event.type !== "data" || event.sessionId !== slow.get(link) || !isFull || isSuspended) return;
          isSuspended = true;
          link.engine.setAvailability(event.sessionId, "notReady");
        };
      };
      const told: string[] = [];
      const device = await deviceFor(t, relay, "alice/laptop", {
        edge: edge.url,
        transport: "longlived",
        messageLimit: LIMIT,
        contentLength: CONTENT,
        onHeld: (to) => told.push(`held ${to}`),
        onReleased: (to) => told.push(`released ${to}`),
      });
      const bodies = [pattern(LIMIT, 1), ...["1", "2", "3"].map((text) => Buffer.from(text))];
      const sent = bodies.map((body) => device.send("slow", body));
      for (let n = 0; relay.links.length < 4; n += 1) await soon(load(relay, device, n), `load ${n}`);
      isFull = false;
      for (const [link, session] of slow) {
        if (link.engine.session(session) === undefined) continue;
        link.engine.setAvailability(session, "ready");
        link.flush();
      }
      await soon(Promise.all(sent), "what was held");
      const came = relay.links.flatMap(({ messages }) => messages);
      const toSlow = came.filter(({ addressing }) => addressing.identityURL === "grooveIdentity://slow");
      assert.deepEqual(
        toSlow.map(({ body }) => body),
        bodies.map((body) => Buffer.from(body)),
      );
      assert.deepEqual(told, ["held slow", "released slow"]);
      assert.ok(slow.size >= 2, `it was tried on ${slow.size} connections`);
    });
  }
});

describe("a withdrawn message", () => {
  test("that is still queued is not sent, and frees its place in the outbox", async (t) => {
    const { device, told, link } = await started(t);
    const held = suspendAt(link, "slow");
    await soon(device.send("slow", "0"), "the first message");
    const abort = new AbortController();
    const kept = device.send("slow", "kept");
    const gone = Array.from({ length: 40 }, () => device.send("slow", "gone", { signal: abort.signal }));
    const last = device.send("slow", "last");
    await link.until(() => told.length > 0, "the device to tell");
    abort.abort();
    for (const one of gone) await assert.rejects(one, failure("Aborted"));
    await assert.rejects(device.send("slow", "never", { signal: abort.signal }), failure("Aborted"));
    link.onEvent = () => undefined;
    link.engine.setAvailability(held.session ?? 0, "ready");
    link.flush();
    await soon(Promise.all([kept, last]), "the others");
    assert.deepEqual(textsOf(link), ["0", "kept", "last"]);
  });

  test("that is already on its way is still delivered, even across a lost connection", async (t) => {
    const { relay, device, link } = await started(t);
    relay.script.acknowledge = false;
    const abort = new AbortController();
    const sent = device.send("bob", "on its way", { signal: abort.signal });
    await link.taken(1);
    abort.abort();
    relay.script.acknowledge = true;
    link.socket.destroy();
    await soon(sent, "the message");
    const again = await relay.link(1);
    assert.deepEqual(textsOf(again), ["on its way"]);
  });

  test("that was the only one queued ends the hold", async (t) => {
    const { device, told, link } = await started(t);
    suspendAt(link, "slow");
    await soon(device.send("slow", "0"), "the first message");
    const abort = new AbortController();
    const gone = device.send("slow", "gone", { signal: abort.signal });
    await link.until(() => told.length > 0, "the device to tell");
    abort.abort();
    await assert.rejects(gone, failure("Aborted"));
    assert.deepEqual(told, ["held slow message", "released slow"]);
  });
});
