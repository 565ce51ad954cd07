/** What the mailboxes of an isolate know of the accounts of senders. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AMPLE_OCTETS, LEAST_PIECE } from "../../../src/edge/admission/limits.ts";
import { KnownAccounts } from "../../../src/edge/mailbox/known-accounts.ts";
import { KNOWN_TIME, SETTLE_PAUSE } from "../../../src/edge/mailbox/limits.ts";

const AMPLE = { isAmple: true, isSpent: false };
const SPENT = { isAmple: false, isSpent: true };
const MAILBOXES = AMPLE_OCTETS / LEAST_PIECE;

describe("an ample account", () => {
  it("is asked when as many mailboxes have stored something as it has left, however often it says that it is ample", () => {
    const accounts = new KnownAccounts();
    let stored = 0;
    for (let now = 0; now < SETTLE_PAUSE; now += 1) {
      accounts.heard("alice", AMPLE, now);
      if (!accounts.isAmple("alice", now)) continue;
      accounts.storedUnasked("alice", now);
      stored += 1;
    }
    assert.equal(stored, MAILBOXES);
    // Those mailboxes have reserved by now.
    accounts.heard("alice", AMPLE, 2 * SETTLE_PAUSE);
    assert.ok(accounts.isAmple("alice", 2 * SETTLE_PAUSE));
  });

  it("counts the mailboxes that have not reserved yet", () => {
    const accounts = new KnownAccounts();
    const half = (now: number) => {
      accounts.heard("alice", AMPLE, now);
      for (let one = 0; one < MAILBOXES / 2; one += 1) accounts.storedUnasked("alice", now);
    };
    half(0);
    half(SETTLE_PAUSE);
    assert.ok(!accounts.isAmple("alice", SETTLE_PAUSE));
    accounts.heard("alice", AMPLE, 2 * SETTLE_PAUSE);
    assert.ok(accounts.isAmple("alice", 2 * SETTLE_PAUSE));
  });

  it("of a relay is one, however many senders it makes up", () => {
    const accounts = new KnownAccounts();
    const relay = "grooveDNS://relay.example.com";
    let stored = 0;
    for (let n = 0; n < 2 * MAILBOXES; n += 1) {
      const sender = `${relay} made-up-${n}`;
      accounts.heard(sender, AMPLE, 0);
      if (!accounts.isAmple(sender, 0)) continue;
      accounts.storedUnasked(sender, 0);
      stored += 1;
    }
    assert.equal(stored, MAILBOXES);
    accounts.heard("alice", AMPLE, 0);
    assert.ok(accounts.isAmple("alice", 0));
  });

  it("is no longer so when it refuses", () => {
    const accounts = new KnownAccounts();
    accounts.heard("alice", AMPLE, 0);
    accounts.refused("alice");
    assert.ok(!accounts.isAmple("alice", 1));
  });
});

it("a spent account stays so when it refuses", () => {
  const accounts = new KnownAccounts();
  accounts.heard("alice", SPENT, 0);
  accounts.refused("alice");
  assert.ok(accounts.isSpent("alice", 1));
});

it("what an account has said counts for ten seconds, and not while the clock is behind", () => {
  const accounts = new KnownAccounts();
  accounts.heard("alice", AMPLE, KNOWN_TIME);
  const known = [KNOWN_TIME - 1, KNOWN_TIME, 2 * KNOWN_TIME - 1, 2 * KNOWN_TIME].map((now) =>
    accounts.has("alice", now),
  );
  assert.deepEqual(known, [false, true, true, false]);
});
