/** Two relays prove to each other that they share a secret; replay, reflection and modification fail. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  AcceptorProof,
  DiallerProof,
  type Ends,
  type LinkSecrets,
  newLinkSecret,
  readLinkSecrets,
} from "../../src/auth/relay-proof.ts";

const EDGE = "grooveDNS://edge.example.com";
const RELAY = "grooveDNS://relay.example.com";
const ENDS: Ends = { dialler: EDGE, acceptor: RELAY };
const SECRET = crypto.getRandomValues(new Uint8Array(32));
const OTHER = crypto.getRandomValues(new Uint8Array(32));
const text = (octets: Uint8Array | undefined) => Buffer.from(octets ?? []).toString("latin1");

/** A dialler and an acceptor after hello and challenge. */
async function begun(secrets = { dialler: [SECRET], acceptor: [SECRET] }, ends = { dialler: ENDS, acceptor: ENDS }) {
  const dialler = await DiallerProof.begin(secrets.dialler, ends.dialler);
  const acceptor = await AcceptorProof.begin(secrets.acceptor, ends.acceptor, dialler.hello);
  return { dialler, acceptor };
}

describe("the proof between relays", () => {
  it("succeeds with the same secret on both sides", async () => {
    const { dialler, acceptor } = await begun();
    const proof = await dialler.answer(acceptor?.challenge ?? new Uint8Array());
    assert.equal(await acceptor?.verify(proof ?? new Uint8Array()), true);
  });

  it("succeeds while a secret is rotated, whichever side gets the new one first", async () => {
    for (const secrets of [
      { dialler: [SECRET], acceptor: [OTHER, SECRET] },
      { dialler: [SECRET, OTHER], acceptor: [OTHER] },
      { dialler: [OTHER, SECRET], acceptor: [SECRET, OTHER] },
    ]) {
      const { dialler, acceptor } = await begun(secrets);
      const proof = await dialler.answer(acceptor?.challenge ?? new Uint8Array());
      assert.equal(await acceptor?.verify(proof ?? new Uint8Array()), true);
    }
  });

  it("fails with a different secret", async () => {
    const { acceptor } = await begun({ dialler: [SECRET], acceptor: [OTHER] });
    assert.equal(acceptor, undefined);
  });

  it("fails when either side expects another name", async () => {
    for (const wrong of [
      { dialler: "grooveDNS://mallory.example.com", acceptor: RELAY },
      { dialler: EDGE, acceptor: "grooveDNS://mallory.example.com" },
    ]) {
      const { dialler, acceptor } = await begun(undefined, { dialler: ENDS, acceptor: wrong });
      assert.equal(await dialler.answer(acceptor?.challenge ?? new Uint8Array()), undefined);
    }
  });

  it("fails when a side's own proof is sent back to it", async () => {
    const { dialler, acceptor } = await begun();
    const [, , , , stolen] = text(acceptor?.challenge).split(" ");
    assert.equal(await acceptor?.verify(Buffer.from(`grooveway-link-1 proof ${stolen}`)), false);
    // A second connection to the dialler itself, whose answer the attacker would reuse on the first.
    const back = await AcceptorProof.begin([SECRET], { dialler: RELAY, acceptor: EDGE }, dialler.hello);
    assert.equal(await dialler.answer(back?.challenge ?? new Uint8Array()), undefined);
  });

  it("fails when it is replayed on another connection", async () => {
    const first = await begun();
    const proof = await first.dialler.answer(first.acceptor?.challenge ?? new Uint8Array());
    const second = await begun();
    assert.equal(await second.acceptor?.verify(proof ?? new Uint8Array()), false);
    assert.equal(await second.dialler.answer(first.acceptor?.challenge ?? new Uint8Array()), undefined);
    const again = await AcceptorProof.begin([SECRET], ENDS, first.dialler.hello);
    assert.equal(await again?.verify(proof ?? new Uint8Array()), false);
  });

  it("allows one attempt per connection", async () => {
    const { dialler, acceptor } = await begun();
    const proof = (await dialler.answer(acceptor?.challenge ?? new Uint8Array())) ?? new Uint8Array();
    const wrong = proof.slice();
    wrong[wrong.length - 1] = wrong.at(-1) === 65 ? 69 : 65;
    assert.equal(await acceptor?.verify(wrong), false);
    assert.equal(await acceptor?.verify(proof), false);
  });

  it("fails when any byte of the exchange is changed", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("hello", "challenge", "proof" as const),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        async (which, place, change) => {
          const changed = (octets: Uint8Array) => {
            const copy = octets.slice();
            const at = place % copy.length;
            copy[at] = (copy[at] ?? 0) ^ change;
            return copy;
          };
          const dialler = await DiallerProof.begin([SECRET], ENDS);
          const hello = which === "hello" ? changed(dialler.hello) : dialler.hello;
          const acceptor = await AcceptorProof.begin([SECRET], ENDS, hello);
          if (acceptor === undefined) return;
          const challenge = which === "challenge" ? changed(acceptor.challenge) : acceptor.challenge;
          const proof = await dialler.answer(challenge);
          if (which !== "proof") assert.equal(proof, undefined);
          else assert.equal(await acceptor.verify(changed(proof ?? new Uint8Array(1))), false);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("rejects arbitrary bytes without throwing", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (octets) => {
        const { dialler, acceptor } = await begun();
        assert.equal(await dialler.answer(octets), undefined);
        assert.equal(await acceptor?.verify(octets), false);
        assert.equal(await AcceptorProof.begin([SECRET], ENDS, octets), undefined);
      }),
    );
  });

  it("does not reveal the secret", async () => {
    const { dialler, acceptor } = await begun();
    const proof = await dialler.answer(acceptor?.challenge ?? new Uint8Array());
    const sent = [dialler.hello, acceptor?.challenge, proof].map(text).join(" ");
    assert.equal(sent.includes(Buffer.from(SECRET).toString("base64url").slice(0, 8)), false);
  });
});

describe("LINK_SECRETS", () => {
  const secretsOf = (read: ReturnType<typeof readLinkSecrets>): LinkSecrets => {
    assert.ok(read.ok, JSON.stringify(read));
    return read.value;
  };

  it("maps relay names to secrets and exceptions, in any case, with or without the SSTP port", () => {
    const [one, two] = [newLinkSecret(), newLinkSecret()];
    const all = secretsOf(
      readLinkSecrets(
        `Relay.Example.com=${one}, relay.example.com:2492=${two}=\n# old\nold.example.com:443=none # yes`,
      ),
    );
    assert.deepEqual([...all.keys()], ["grooveDNS://relay.example.com", "grooveDNS://old.example.com:443"]);
    assert.deepEqual(all.get("grooveDNS://old.example.com:443"), { type: "none" });
    const trust = all.get("grooveDNS://relay.example.com");
    assert.equal(trust?.type === "secrets" && trust.secrets.length, 2);
    assert.equal(secretsOf(readLinkSecrets("")).size, 0);
  });

  for (const [what, written] of Object.entries({
    "a short secret": "relay.example.com=c2hvcnQ",
    "a secret that is not base64url": `relay.example.com=${"!".repeat(43)}`,
    "a secret without a name": newLinkSecret(),
    "a malformed name": `re lay.exa_mple.com..=${newLinkSecret()}`,
    "a secret and none": `a.example.com=${newLinkSecret()} a.example.com=none`,
    "none and a secret": `a.example.com=none a.example.com=${newLinkSecret()}`,
    "five secrets": Array.from({ length: 5 }, () => `a.example.com=${newLinkSecret()}`).join(" "),
  })) {
    it(`rejects ${what} without revealing a secret`, () => {
      const read = readLinkSecrets(written);
      assert.ok(!read.ok);
      const value = written.slice(written.lastIndexOf("=") + 1);
      assert.equal(JSON.stringify(read).includes(value) && value !== "none", false);
    });
  }

  it("never throws, and never accepts a secret shorter than 32 octets", () => {
    const piece = fc.oneof(
      fc.string(),
      fc.constantFrom("=", ",", "#", "\n", " ", "none", "a.example.com", "[::1]:9", newLinkSecret()),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const read = readLinkSecrets(pieces.join(""));
        if (!read.ok) return;
        for (const trust of read.value.values()) {
          if (trust.type === "secrets") assert.ok(trust.secrets.every(({ length }) => length >= 32 && length <= 64));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
