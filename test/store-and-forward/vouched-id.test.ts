/** Ids written by the relay role: no sender can impersonate another, and resent messages are recognized. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { addressOf, deviceURL, encode, MAX_NAME_OCTETS, recipientOf, VERSION_1_6 } from "../../src/sstp/index.ts";
import { identityIn, LONGEST_ID, StoredIds, senderIn, Voucher } from "../../src/store-and-forward/vouched-id.ts";

const ALICE = "grooveDevice://alice/pc";
const MALLORY = "grooveDevice://mallory/x";
const RELAY = "grooveDNS://relay.example.com";

const ascii = (maxLength: number) =>
  fc.string({ unit: fc.integer({ min: 1, max: 0x7f }).map((c) => String.fromCharCode(c)), maxLength });
/** Ids that look like those written by relays, and others. */
const userRef = fc.oneof(
  ascii(400),
  fc
    .array(
      fc.constantFrom(
        "@",
        "%",
        "%40",
        "%25",
        "%n",
        "%h",
        "%s",
        "a",
        "-1",
        "@alice/pc",
        "@mallory/x",
        "@relay.example.com",
      ),
      {
        maxLength: 8,
      },
    )
    .map((parts) => parts.join("")),
);
const source = fc.oneof(
  fc.constantFrom(
    ALICE,
    MALLORY,
    RELAY,
    "device2",
    ":device2",
    "urn:uuid:1",
    "grooveDynamics://p;CanTelURL=a%20b",
    "GrooveDevice://alice/pc",
  ),
  ascii(700).filter((text) => text !== ""),
);

/** The source stated by an id: the address, and the relay behind it. */
function sourceIn(id: string): string {
  const at = id.indexOf("@");
  assert.ok(at > 0, `${id} states no source`);
  return id.slice(at + 1);
}

describe("an id written by a relay", () => {
  const cases: [what: string, from: string, relay: boolean, userRef: string, id: string][] = [
    ["of a device of ours stays as it is", ALICE, false, "first-12@alice/pc", "first-12@alice/pc"],
    ["gets the address of its source", ALICE, false, "first-12", "first-12@alice/pc"],
    ["does not name somebody else", MALLORY, false, "invoice-17@alice/pc", "invoice-17%40alice/pc@mallory/x"],
    [
      "does not name a relay",
      MALLORY,
      false,
      "1@alice/pc@relay.example.com",
      "1%40alice/pc%40relay.example.com@mallory/x",
    ],
    ["is not that of the relay's own making", MALLORY, false, "%n1-1", "%25n1-1@mallory/x"],
    ["has something before the address", ALICE, false, "@alice/pc", "%40alice/pc@alice/pc"],
    ["names a foreign device by its URL", "grooveDynamics://p;a=1", false, "7", "7@grooveDynamics%3A%2F%2Fp%3Ba%3D1"],
    ["names a bare name by what is no identity", "device2", false, "7", "7@%3Adevice2"],
    ["names the relay of a relay that vouches", RELAY, true, "1@alice/pc", "1@alice/pc@relay.example.com"],
    ["keeps what that relay has encoded", RELAY, true, "%n1-1@alice/pc", "%n1-1@alice/pc@relay.example.com"],
    [
      "names the relay alone when it does not vouch",
      RELAY,
      false,
      "1@alice/pc",
      "1%40alice/pc@grooveDNS%3A%2F%2Frelay.example.com",
    ],
    [
      "names the relay alone when it speaks for another",
      RELAY,
      true,
      "1@alice/pc@other.example.com",
      "1%40alice/pc%40other.example.com@grooveDNS%3A%2F%2Frelay.example.com",
    ],
    ["does not believe a device that it vouches", MALLORY, true, "1@alice/pc", "1%40alice/pc@mallory/x"],
  ];
  for (const [what, from, relay, given, expected] of cases) {
    it(what, () => assert.equal(new Voucher(from, relay).id(given), expected));
  }

  it("always states its source, whatever its sender wrote", () => {
    fc.assert(
      fc.property(source, userRef, (from, text) => {
        const said = sourceIn(new Voucher(from, false).id(text));
        if (from.length <= 512) assert.equal(said, addressOf(from));
        else assert.match(said, /^![\w-]{43}$/);
      }),
    );
  });

  it("states the relay whatever the relay claims about its devices", () => {
    fc.assert(
      fc.property(userRef, (text) => {
        const said = sourceIn(new Voucher(RELAY, true).id(text));
        assert.ok(said === addressOf(RELAY) || /^[^@]+@relay\.example\.com$/.test(said), said);
      }),
    );
  });

  it("is equal for equal input, and differs for input that differs in more than its own address", () => {
    const bare = (text: string, own: string) =>
      text.length > own.length && text.endsWith(own) ? text.slice(0, -own.length) : text;
    fc.assert(
      fc.property(source, userRef, userRef, (from, one, other) => {
        fc.pre(one !== "" && other !== "");
        const own = from.length <= 512 ? `@${addressOf(from)}` : "@";
        const first = new Voucher(from, false);
        const again = new Voucher(from, false);
        assert.equal(first.id(one), again.id(one));
        assert.equal(first.id(one) === again.id(other), bare(one, own) === bare(other, own));
      }),
    );
  });

  it("never equals that of another source", () => {
    fc.assert(
      fc.property(source, source, userRef, userRef, (one, other, text, more) => {
        fc.pre(one !== other);
        assert.notEqual(new Voucher(one, false).id(text), new Voucher(other, false).id(more));
      }),
    );
  });

  it("is unique for each message without an id, and cannot be forged by a sender", () => {
    fc.assert(
      fc.property(source, userRef, (from, text) => {
        const voucher = new Voucher(from, false);
        const ids = [voucher.id(""), voucher.id(""), new Voucher(from, false).id("")];
        assert.equal(new Set(ids).size, 3);
        if (text !== "") assert.ok(!ids.includes(voucher.id(text)));
        for (const id of ids) assert.ok(!ids.includes(voucher.id(id)));
      }),
    );
  });

  it("replaces a unique part that is too long by a hash, and always fits a Message", () => {
    const long = "x".repeat(LONGEST_ID);
    const id = new Voucher(ALICE, false).id(long);
    assert.match(id, /^%h[\w-]{43}@alice\/pc$/);
    assert.equal(new Voucher(ALICE, false).id(`${long}@alice/pc`), id);
    assert.notEqual(new Voucher(ALICE, false).id(`${long}y`), id);
    const far = `grooveDNS://${"a.".repeat(126)}b:65535`;
    const own = { identity: "i".repeat(MAX_NAME_OCTETS), device: "d".repeat(MAX_NAME_OCTETS) };
    const foreign = ascii(600).filter((text) => text !== "");
    fc.assert(
      fc.property(fc.oneof(foreign, fc.constant(deviceURL(own))), ascii(2000), (from, text) => {
        const here = new Voucher(from, false).id(text);
        const there = new Voucher(far, true).id(here);
        for (const userRef of [here, there, new Voucher(far, true).id(text)]) {
          const streamSize = [0n, 0n, 0n] as const;
          encode(
            { command: "Message", sessionId: 1, messageCount: 1, flags: 0, userRef, ephemeral: 1, streamSize },
            VERSION_1_6,
          );
        }
      }),
    );
  });
});

describe("the sender", () => {
  it("is parsed from an id exactly as it was written", () => {
    fc.assert(
      fc.property(source, userRef, (from, text) => {
        fc.pre(from !== RELAY && from.length <= 512 && !from.startsWith("grooveDNS"));
        const id = new Voucher(from, false).id(text);
        assert.deepEqual(senderIn(id), { address: addressOf(from), vouched: true });
        const further = senderIn(new Voucher(RELAY, true).id(id));
        assert.deepEqual(further, { address: `${addressOf(from)}@relay.example.com`, vouched: true });
      }),
    );
  });

  it("at a relay that does not vouch for its devices is the claimed device at that relay", () => {
    const sender = (text: string) => senderIn(new Voucher(RELAY, false).id(text));
    assert.deepEqual(sender("1@alice/pc"), { address: "alice/pc@relay.example.com", vouched: false });
    assert.deepEqual(sender("1@alice/pc@other"), { address: "other@relay.example.com", vouched: false });
    for (const text of ["", "1", "1@", "x".repeat(300)])
      assert.deepEqual(sender(text), { address: "", vouched: false });
    fc.assert(fc.property(userRef, (text) => assert.equal(sender(text).vouched, false)));
  });
});

describe("the identity charged as the sender", () => {
  it("is that of the sending device, at its relay", () => {
    assert.equal(identityIn("1@alice/pc"), "alice");
    assert.equal(identityIn("2@alice/phone"), "alice");
    assert.equal(identityIn("1@alice"), "alice");
    assert.equal(identityIn("1@alice/pc@relay.example.com"), "alice@relay.example.com");
    assert.equal(identityIn("1@alice@relay.example.com"), "alice@relay.example.com");
    assert.notEqual(identityIn("1@alice/pc@other.example.com"), "alice@relay.example.com");
  });

  it("is the relay itself when it does not vouch for its devices", () => {
    const first = identityIn(new Voucher(RELAY, false).id("1@alice/pc"));
    fc.assert(fc.property(userRef, (text) => assert.equal(identityIn(new Voucher(RELAY, false).id(text)), first)));
  });
});

describe("stored ids", () => {
  it("stay as written", () => {
    fc.assert(
      fc.property(source, fc.boolean(), userRef, (from, vouched, text) => {
        const id = new Voucher(from, vouched).id(text);
        assert.equal(new StoredIds().id(id, from, 3), id);
      }),
    );
  });

  it("are rewritten consistently when nobody vouched for them", () => {
    const ids = new StoredIds();
    assert.equal(ids.id("invoice-17@alice/pc", MALLORY, 3), "invoice-17%40alice/pc@mallory/x");
    assert.equal(ids.id("1@alice/pc", RELAY, 3), "1%40alice/pc@grooveDNS%3A%2F%2Frelay.example.com");
    assert.equal(ids.id("", ALICE, 3), "%s3@alice/pc");
    assert.equal(ids.id("first-12@alice/pc", ALICE, 3), "first-12@alice/pc");
    fc.assert(
      fc.property(source, userRef, (from, text) => {
        const said = sourceIn(new StoredIds().id(text, from, 3));
        if (!from.startsWith("grooveDNS") && from.length <= 512) assert.equal(said, addressOf(from));
      }),
    );
  });
});

describe("a reply", () => {
  it("goes to the device from which the address was made", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          ALICE,
          "device2",
          ":device2",
          "urn:uuid:1",
          "grooveDynamics://p;CanTelURL=a%20b",
          "GrooveDevice://alice/pc",
        ),
        fc.constantFrom("", "@relay.example.com"),
        (from, relay) => {
          const recipient = recipientOf(addressOf(from) + relay);
          assert.ok(recipient.ok);
          assert.deepEqual([recipient.value.deviceURL, recipient.value.relay ?? ""], [from, relay.slice(1)]);
        },
      ),
    );
  });
});
