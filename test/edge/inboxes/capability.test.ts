/** Capabilities of inboxes: only what this edge has issued is one. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { it } from "node:test";
import fc from "fast-check";
import {
  hashOf,
  isCapability,
  issueCapability,
  locatorOf,
  readCapability,
} from "../../../src/edge/inboxes/capability.ts";

const key = randomBytes(32);
const peer = "grooveIdentity://bob";
const random = randomBytes(16);

it("says which object has the inbox, and has the hash of its random bytes", async () => {
  const locator = await locatorOf(key, peer);
  const text = await issueCapability(key, locator, random);
  assert.ok(isCapability(text));
  assert.deepEqual(await readCapability(key, text), { locator, hash: await hashOf(random) });
});

it("of another edge, or changed in any character, is none", async () => {
  const text = await issueCapability(key, await locatorOf(key, peer), random);
  assert.equal(await readCapability(randomBytes(32), text), undefined);
  for (let at = 0; at < text.length; at += 1) {
    const changed = `${text.slice(0, at)}${text[at] === "A" ? "B" : "A"}${text.slice(at + 1)}`;
    assert.equal(await readCapability(key, changed), undefined, String(at));
  }
});

it("cannot be guessed, whatever the text", async () => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^[A-Za-z0-9_-]{64}$/),
    fc.stringMatching(/^[A-Za-z0-9_-]{60,68}$/),
  );
  await fc.assert(
    fc.asyncProperty(text, async (guess) => {
      assert.equal(await readCapability(key, guess), undefined);
    }),
  );
});

it("tells nobody without the key whose inbox it is for", async () => {
  assert.notEqual(await locatorOf(key, peer), await locatorOf(randomBytes(32), peer));
  assert.notEqual(await locatorOf(key, peer), await locatorOf(key, "grooveIdentity://bo"));
});
