/** A recipient that the relay suspends is held without affecting others, across connections and full mailboxes. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { DeviceOptions } from "../../src/device/index.ts";
import { CloseReasonId, ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { soon } from "../support/watch.ts";
import { deviceFor, failure, type Link, ScriptedRelay } from "./support.ts";

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
