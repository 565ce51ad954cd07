/** A sender that has used up its share of a queue is suspended, and resumes when half of it is free. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { CloseReasonId } from "../../src/sstp/index.ts";
import { deviceFor, take } from "../device/support.ts";
import { eventually, soon } from "../support/watch.ts";
import { destination, Peer, relayFor, waiting } from "./support.ts";

const texts = (count: number) => Array.from({ length: count }, (_, n) => `${n}`);

/** A relay that stores at most 50 messages of one sender, and a device that has sent 50 of 80. */
async function started(t: TestContext, to = "bob/pc") {
  const relay = await relayFor(t, { quota: { octets: 4_000_000, messages: 100 } });
  const held = new Set<string>();
  const alice = await deviceFor(t, relay, "alice/laptop", {
    onHeld: (recipient) => held.add(recipient),
    onReleased: (recipient) => held.delete(recipient),
  });
  for (const text of texts(50)) await alice.send(to, text);
  const rest = Promise.all(
    texts(80)
      .slice(50)
      .map((text) => alice.send(to, text)),
  );
  rest.catch(() => undefined);
  await eventually(() => held.has(to), "the recipient to be held");
  return { relay, alice, held, rest };
}

describe("a sender that has used up its share", () => {
  test("waits while others continue, and resumes in order when half is free", async (t) => {
    const { relay, alice, held, rest } = await started(t);
    assert.equal(waiting(relay, "bob/pc").messages, 50);
    await soon(alice.send("carol/pc", "another"), "a message for somebody else");
    const dora = await deviceFor(t, relay, "dora/pc");
    await soon(dora.send("bob/pc", "by somebody else"), "a message by somebody else");
    const bob = await deviceFor(t, relay, "bob/pc");
    const came = (await take(bob, 81)).map((message) => message.text());
    assert.deepEqual(
      came.filter((text) => text !== "by somebody else"),
      texts(80),
    );
    await soon(rest, "the acknowledgements");
    assert.deepEqual([...held], []);
    assert.equal(relay.status().dropped.QuotaWouldBeExceeded, 0);
  });

  test("can send a small message on a new session", async (t) => {
    const { relay, alice } = await started(t);
    await soon(alice.send("bob/pc", "cancel", { resource: "file-cancel" }), "the message");
    assert.equal(waiting(relay, "bob/pc").messages, 51);
  });

  test("is forgotten when it disconnects", async (t) => {
    const { relay, alice, rest } = await started(t);
    await alice.close();
    await assert.rejects(rest);
    const bob = await deviceFor(t, relay, "bob/pc");
    assert.equal((await take(bob, 50)).length, 50);
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "room");
  });

  test("and ignores its suspension is refused beyond the reserve", async (t) => {
    const relay = await relayFor(t, { quota: { octets: 4_000_000, messages: 100 } });
    const mallory = await Peer.connect(relay, { address: "mallory/pc" });
    t.after(() => mallory.drop());
    const session = await mallory.open("bob/pc");
    // All at once: the sender does not read the relay's answers meanwhile.
    for (const text of texts(100)) mallory.send(session, text);
    const closed = await mallory.event("sessionClosed");
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    assert.equal(waiting(relay, "bob/pc").messages, 80);
    const states = mallory.events.flatMap((event) => (event.type === "sessionState" ? [event.state] : []));
    assert.deepEqual(states, ["ready", "suspended"], "it was suspended before it was refused");
  });

  test("has no reserve for fanout messages, which are not suspended", async (t) => {
    const relay = await relayFor(t, { quota: { octets: 4_000_000, messages: 100 } });
    const mallory = await Peer.connect(relay, { address: "mallory/pc" });
    t.after(() => mallory.drop());
    const entries = ["bob/pc", "carol"].map((to) => ({ ...destination(to), relayURL: "" }));
    const session = mallory.engine.openFanout({ resourceURL: "message", entries });
    mallory.flush();
    await mallory.ready(session);
    await mallory.untilAcknowledged(...texts(50).map((text) => mallory.send(session, text)));
    mallory.send(session, "one too many");
    await mallory.event("sessionStatus");
    for (const to of ["bob/pc", "carol"]) assert.equal(waiting(relay, to).messages, 50);
    const states = mallory.events.flatMap((event) => (event.type === "sessionState" ? [event.state] : []));
    assert.deepEqual(states, ["ready"]);
  });
});

test("a device that reads receives many times the quota, and nothing is refused", { timeout: 300_000 }, async (t) => {
  const relay = await relayFor(t, { quota: { octets: 16 * 1024 ** 2, messages: 1000 } });
  const alice = await deviceFor(t, relay, "alice/laptop");
  const bob = await deviceFor(t, relay, "bob/pc");
  const count = 64;
  const sent = Promise.all(
    Array.from({ length: count }, (_, n) => alice.send("bob/pc", new Uint8Array(1024 ** 2).fill(n))),
  );
  for (let n = 0; n < count; n += 1) {
    const [message] = await take(bob, 1);
    assert.ok(message?.body.length === 1024 ** 2 && message.body.every((octet) => octet === n), `message ${n}`);
  }
  await soon(sent, "the acknowledgements");
  assert.equal(relay.status().dropped.QuotaWouldBeExceeded, 0);
});
