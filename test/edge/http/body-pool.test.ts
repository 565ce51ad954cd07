/** Memory for bodies: what senders may have of it, and that all of it comes back. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ANYBODY, NOBODY } from "../../../src/auth/principal.ts";
import { BodyPool, type HeldBody, senderOfBodies } from "../../../src/edge/http/body-pool.ts";
import { APPEND_OCTETS, BODIES_OCTETS, SHORT_BODY } from "../../../src/edge/http/limits.ts";

const MIB = 1024 * 1024;

/** A body of a sender, which has so many bytes. */
function held(pool: BodyPool, sender: string, octets: number): HeldBody {
  const body = pool.begin(sender);
  assert.ok(body.hold(octets), `${sender} may have ${octets}`);
  return body;
}

describe("the memory for bodies", () => {
  it("has room for the longest body, with a length or without one", () => {
    for (const octets of [APPEND_OCTETS, APPEND_OCTETS + 1]) held(new BodyPool(BODIES_OCTETS), "alice", octets);
  });

  it("leaves to others what one sender may not have", () => {
    const pool = new BodyPool(32 * MIB);
    for (let n = 0; n < 16; n += 1) pool.begin("mallory").hold(MIB);
    assert.equal(pool.begin("mallory").hold(MIB), false);
    held(pool, "bob", 4 * MIB);
    held(pool, "carol", MIB);
  });

  it("takes short bodies of everybody while long ones fill it, also of those whose are long", () => {
    const pool = new BodyPool(32 * MIB);
    const senders = Array.from({ length: 64 }, (_, n) => `sender ${n}`);
    for (const sender of senders) while (pool.begin(sender).hold(MIB / 2));
    assert.equal(pool.begin("new").hold(MIB), false);
    for (const sender of [...senders, "new"]) held(pool, sender, SHORT_BODY);
  });

  it("bounds the short bodies of one sender, and not those of another", () => {
    const pool = new BodyPool(32 * MIB);
    let count = 0;
    while (pool.begin("mallory").hold(SHORT_BODY)) count += 1;
    assert.equal(count * SHORT_BODY, 16 * MIB);
    held(pool, "bob", SHORT_BODY);
  });

  it("leaves room beside all senders of a group, and in the group beside one of them", () => {
    const pool = new BodyPool(32 * MIB);
    while (pool.begin("inbox 0", "inboxes").hold(MIB));
    const another = pool.begin("inbox 1", "inboxes");
    assert.ok(another.hold(6 * MIB));
    for (let n = 2; n < 100; n += 1) while (pool.begin(`inbox ${n}`, "inboxes").hold(SHORT_BODY + 1));
    assert.ok(pool.held > 20 * MIB);
    held(pool, "bob", 4 * MIB);
    held(pool, "carol", MIB);
  });

  it("bounds the short bodies of a group", () => {
    const pool = new BodyPool(32 * MIB);
    for (let n = 0; n < 100; n += 1) while (pool.begin(`inbox ${n}`, "inboxes").hold(SHORT_BODY));
    assert.equal(pool.heldByShort, 24 * MIB);
    held(pool, "bob", SHORT_BODY);
    held(pool, "inbox 0 of another", SHORT_BODY);
  });

  it("is given back once, and a body that is over takes none again", () => {
    const pool = new BodyPool(32 * MIB);
    const body = held(pool, "alice", 4 * MIB);
    body.release();
    body.release();
    assert.deepEqual([pool.held, pool.heldByShort], [0, 0]);
    assert.equal(body.hold(1), false);
    assert.deepEqual([pool.held, pool.heldByShort], [0, 0]);
  });

  it("is what all bodies hold, never more than there is, and nothing when they are over", () => {
    const step = fc.record({
      sender: fc.constantFrom("a", "b", "c"),
      group: fc.constantFrom("g", "h", undefined),
      at: fc.nat(20),
      octets: fc.oneof(fc.nat(2 * SHORT_BODY), fc.nat(2 * MIB)),
      ends: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const pool = new BodyPool(8 * MIB);
        const bodies = new Map<string, { readonly body: HeldBody; octets: number }>();
        for (const { sender, group, at, octets, ends } of steps) {
          const key = `${sender}${at}`;
          const one = bodies.get(key) ?? { body: pool.begin(sender, group), octets: 0 };
          bodies.set(key, one);
          if (ends) {
            one.body.release();
            bodies.delete(key);
          } else if (one.body.hold(octets)) one.octets = octets;
          const all = [...bodies.values()].map((body) => body.octets);
          const sum = (some: number[]) => some.reduce((a, b) => a + b, 0);
          assert.equal(pool.held, sum(all.filter((size) => size > SHORT_BODY)));
          assert.equal(pool.heldByShort, sum(all.filter((size) => size <= SHORT_BODY)));
          assert.ok(pool.held <= 8 * MIB);
        }
        for (const { body } of bodies.values()) body.release();
        assert.deepEqual([pool.held, pool.heldByShort], [0, 0]);
        // As much as a new one: nothing of a group is left either.
        const [fresh, again] = [new BodyPool(8 * MIB), pool].map((one) => {
          let count = 0;
          while (["a", "b", "c"].some((sender) => one.begin(sender, "g").hold(MIB / 2))) count += 1;
          return count;
        });
        assert.equal(again, fresh);
      }),
    );
  });

  it("counts for a subject with all its tokens, for a token without one, and for a network where there are none", () => {
    const token = { ...ANYBODY, key: "key" };
    assert.equal(
      senderOfBodies({ ...token, id: "1", subject: "alice" }, "192.0.2.1"),
      senderOfBodies({ ...token, id: "2", subject: "alice" }, "192.0.2.2"),
    );
    const senders = [
      senderOfBodies({ ...token, id: "1", subject: "alice" }, "192.0.2.1"),
      senderOfBodies({ ...token, id: "alice" }, "192.0.2.1"),
      senderOfBodies(ANYBODY, "192.0.2.1"),
      senderOfBodies(ANYBODY, "192.0.2.2"),
      senderOfBodies(NOBODY, "192.0.2.1"),
    ];
    assert.equal(new Set(senders).size, senders.length);
  });
});
