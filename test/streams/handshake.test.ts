import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NODE_AES_GCM } from "../../src/device/streams/node-ciphers.ts";
import { POLL_TIMES } from "../../src/edge/tunnel/limits.ts";
import { Handshake } from "../../src/streams/handshake.ts";
import type { ChannelOptions } from "../../src/streams/index.ts";
import { AES_GCM, CHACHA_POLY, CreditPool, PACKET_HEADER, publicKeyOf } from "../../src/streams/index.ts";
import { HANDSHAKE_TIME, PROBE_AFTER, RESUME_LIMIT } from "../../src/streams/limits.ts";
import { NoiseHandshake } from "../../src/streams/noise.ts";
import { encodePacket, isHello, KIND } from "../../src/streams/packet.ts";
import { Violation } from "../../src/streams/reasons.ts";
import {
  bodyOf,
  bytes,
  connected,
  End,
  endings,
  INITIATOR_SECRET,
  initiatorOptions,
  Pair,
  RESPONDER_SECRET,
  ROUTE,
  responderOptions,
  secret,
  text,
} from "./support.ts";

const UNPINNED = { peerKey: undefined };

/** Sends a text on a new stream, and returns what arrives. */
function talk(pair: Pair): string | undefined {
  const id = pair.stream();
  pair.initiator.channel.write(id, bytes("hello"));
  pair.settle();
  return text(pair.responder.channel.read(id, 99, pair.now));
}

describe("a handshake", () => {
  for (const [name, options] of [
    ["IK, with a pinned key", {}],
    ["XX, without one", UNPINNED],
  ] as const) {
    it(`by ${name}: both learn the other's key`, () => {
      const pair = connected(options);
      assert.deepEqual(pair.initiator.of("established")[0]?.peerKey, publicKeyOf(RESPONDER_SECRET));
      assert.deepEqual(pair.responder.of("established")[0]?.peerKey, publicKeyOf(INITIATOR_SECRET));
      assert.deepEqual(pair.responder.channel.peerKey, publicKeyOf(INITIATOR_SECRET));
      assert.equal(talk(pair), "hello");
    });

    for (let lost = 0; lost < 5; lost += 1) {
      it(`by ${name}: continues if packet ${lost} is lost`, () => {
        const pair = new Pair(options);
        let count = 0;
        for (let turn = 0; turn < 6; turn += 1) {
          for (const end of pair.ends) {
            for (const packet of pair.take(end)) if (count++ !== lost) pair.give(pair.other(end), [packet]);
          }
        }
        pair.wait(3 * PROBE_AFTER);
        assert.equal(pair.responder.of("established").length, 1);
        assert.equal(pair.initiator.of("established").length, 1);
        assert.equal(talk(pair), "hello");
      });

      it(`by ${name}: continues if packet ${lost} comes twice, late`, () => {
        const pair = new Pair(options);
        const twice: [End, Uint8Array][] = [];
        for (let turn = 0; turn < 6; turn += 1) {
          for (const end of pair.ends) {
            for (const packet of pair.take(end)) {
              pair.give(pair.other(end), [packet]);
              twice.push([end, packet]);
            }
          }
        }
        const [end, packet] = twice[lost] ?? (twice[0] as [End, Uint8Array]);
        pair.give(pair.other(end), [packet]);
        pair.settle();
        assert.equal(talk(pair), "hello");
        assert.deepEqual(endings(pair), []);
      });
    }
  }

  it("sends its hello again octet for octet, ever less often, and gives up", () => {
    const pair = new Pair();
    const hellos: Uint8Array[] = [];
    const { channel } = pair.initiator;
    for (; channel.ended === undefined; channel.advance(pair.now)) {
      hellos.push(...pair.take(pair.initiator));
      pair.now = channel.deadline;
    }
    assert.deepEqual(channel.ended, { reason: "HandshakeTimeout", by: "self" });
    assert.equal(pair.now, HANDSHAKE_TIME);
    assert.equal(hellos.length, 6);
    for (const hello of hellos) assert.deepEqual(hello, hellos[0]);
  });

  it("outlasts the pause between two polls of an idle device", () => {
    const pair = new Pair();
    const hello = pair.take(pair.initiator);
    pair.now = POLL_TIMES.maximum * 1000 + 1000;
    pair.initiator.channel.advance(pair.now);
    pair.give(pair.responder, hello);
    pair.settle();
    assert.equal(talk(pair), "hello");
    assert.deepEqual(endings(pair), []);
  });

  it("begins again on a new path", () => {
    const pair = new Pair();
    const [lost] = pair.take(pair.initiator);
    pair.initiator.channel.attach(pair.now);
    assert.deepEqual(pair.take(pair.initiator), [lost]);
  });

  it("is answered though the path comes after the hello", () => {
    const pair = new Pair();
    const responder = new End(responderOptions());
    for (const packet of pair.take(pair.initiator)) responder.channel.receive(bodyOf(packet), 0);
    assert.equal(responder.channel.output(1, 0).length, 0);
    responder.channel.attach(0);
    assert.equal(responder.channel.output(1, 0).length, 1);
  });

  it("tells the initiator the responder's resume time", () => {
    const pair = connected({ resumeTime: 1 }, { resumeTime: 60_000 });
    pair.stream();
    for (const { channel } of pair.ends) channel.detach(pair.now);
    assert.equal(pair.initiator.channel.deadline, pair.now + 60_000);
    assert.equal(pair.responder.channel.deadline, pair.now + 60_000);
  });

  it("uses the initiator's suite", () => {
    const pair = connected({ suites: [NODE_AES_GCM] }, { suites: [CHACHA_POLY, AES_GCM] });
    assert.equal(talk(pair), "hello");
  });
});

describe("an initiator", () => {
  /** What it makes of an answer with this payload. */
  function answered(payload: Uint8Array): Handshake {
    const agreed = ["grooveway streams 1", "ChaChaPoly", false, "alice/laptop", "office/desk"];
    const responder = new NoiseHandshake({
      pattern: "IK",
      initiator: false,
      suite: CHACHA_POLY,
      prologue: bytes(JSON.stringify(agreed)),
      staticSecret: RESPONDER_SECRET,
      ephemeralSecret: secret(8),
    });
    const handshake = new Handshake(initiatorOptions());
    responder.read(handshake.message?.subarray(3) ?? new Uint8Array());
    handshake.receive(Buffer.concat([Uint8Array.of(KIND.answer), responder.write(payload)]));
    return handshake;
  }

  it("believes a resume time of a day at most", () => {
    assert.equal(answered(Uint8Array.of(0, 0, 0, 90)).agreement?.resumeTime, 90_000);
    assert.equal(answered(Uint8Array.of(255, 255, 255, 255)).agreement?.resumeTime, RESUME_LIMIT);
  });

  it("ignores what a later version adds to an answer, and refuses what is too short", () => {
    assert.equal(answered(Uint8Array.of(0, 0, 0, 1, 99)).agreement?.resumeTime, 1000);
    assert.throws(() => answered(Uint8Array.of(0, 0, 1)), Violation);
  });

  it("ignores other answers once it has one", () => {
    const handshake = answered(Uint8Array.of(0, 0, 0, 1));
    assert.ok(!handshake.receive(Uint8Array.of(KIND.answer, 1, 2, 3)));
    assert.equal(handshake.agreement?.resumeTime, 1000);
  });
});

describe("a replayed handshake", () => {
  it("is answered, but opens nothing and ends without the initiator's first record", () => {
    const recorded = new Pair();
    recorded.initiator.channel.open("ssh");
    const packets: Uint8Array[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      for (const end of recorded.ends) {
        const sent = recorded.take(end);
        recorded.give(recorded.other(end), sent);
        if (end === recorded.initiator) packets.push(...sent);
      }
    }
    assert.equal(recorded.responder.of("opened").length, 1);
    // Another handshake of the same device has another ephemeral key.
    const victim = new End(responderOptions({ ephemeralSecret: secret(99) }));
    victim.channel.attach(0);
    victim.channel.receive(bodyOf(packets[0] as Uint8Array), 0);
    assert.equal(victim.channel.output(1e6, 0).length, 1);
    victim.channel.open("secret");
    assert.equal(victim.channel.output(1e6, 0).length, 0, "nothing is sealed for a replay");
    victim.channel.advance(HANDSHAKE_TIME);
    assert.deepEqual(victim.channel.ended, { reason: "HandshakeTimeout", by: "self" });
    assert.deepEqual(victim.of("established"), []);
    const other = new End(responderOptions({ ephemeralSecret: secret(99) }));
    other.channel.attach(0);
    for (const packet of packets) other.channel.receive(bodyOf(packet), 0);
    assert.equal(other.channel.ended?.reason, "ForgedRecord");
    assert.deepEqual(other.of("opened"), []);
  });
});

describe("a handshake is refused by name", () => {
  /** Both ends of a handshake that fails. */
  function refused(initiator: Partial<ChannelOptions>, responder: Partial<ChannelOptions>): string[] {
    const pair = new Pair(initiator, responder).settle();
    assert.deepEqual(pair.responder.of("opened"), []);
    return endings(pair).map(({ reason, by }) => `${reason} by ${by}`);
  }

  for (const [pattern, pin] of [
    ["IK", {}],
    ["XX", UNPINNED],
  ] as const) {
    it(`if the responder does not accept the key, by ${pattern}: both know it for sure`, () => {
      assert.deepEqual(refused(pin, { judge: () => "UnknownKey" }), ["UnknownKey by peer", "UnknownKey by self"]);
    });
  }

  it("if the responder has another key than the pinned one", () => {
    const pin = { peerKey: publicKeyOf(secret(77)) };
    assert.deepEqual(refused(pin, {}), ["HandshakeFailed by edge", "HandshakeFailed by self"]);
  });

  it("if the initiator does not accept the key that it learns, and then says nothing of its own", () => {
    const judge = () => "ChangedKey" as const;
    assert.deepEqual(refused({ ...UNPINNED, judge }, {}), ["ChangedKey by self", "ChangedKey by edge"]);
  });

  it("if the addresses differ", () => {
    assert.deepEqual(refused({ responderAddress: "office/other" }, {}), [
      "HandshakeFailed by edge",
      "HandshakeFailed by self",
    ]);
    assert.deepEqual(refused({ initiatorAddress: "alice/evil" }, {}).length, 2);
  });

  it("if the responder has not the suite", () => {
    assert.deepEqual(refused({ suites: [AES_GCM] }, {}), ["SuiteRefused by edge", "SuiteRefused by self"]);
  });

  for (const [who, initiator, responder] of [
    ["initiator", { plain: true }, {}],
    ["responder", {}, { plain: true }],
  ] as const) {
    it(`if only the ${who} wants plain records`, () => {
      assert.deepEqual(refused(initiator, responder), ["SuiteRefused by edge", "SuiteRefused by self"]);
    });
  }

  it("if the edge has put another suite into the hello, though both have it", () => {
    const both = [NODE_AES_GCM, CHACHA_POLY] as const;
    for (const pin of [{}, UNPINNED]) {
      const pair = new Pair({ suites: both, ...pin }, { suites: both });
      const [hello = new Uint8Array()] = pair.take(pair.initiator);
      assert.equal(hello[PACKET_HEADER + 2], 2);
      hello[PACKET_HEADER + 2] = 1;
      pair.give(pair.responder, [hello]);
      pair.settle();
      assert.ok(endings(pair).every(({ reason }) => reason === "HandshakeFailed"));
      assert.equal(endings(pair).length, 2);
    }
  });

  it("if a message was changed", () => {
    const pair = new Pair();
    const [hello = new Uint8Array()] = pair.take(pair.initiator);
    hello[hello.length - 1] = (hello[hello.length - 1] as number) ^ 1;
    pair.give(pair.responder, [hello]);
    assert.equal(pair.responder.channel.ended?.reason, "HandshakeFailed");
  });

  it("if the message is no hello of this version", () => {
    for (const body of [[KIND.hello], [KIND.hello, 3, 1, 0], [KIND.hello, 1, 1], [KIND.hello, 1, 0x7f]]) {
      const { channel } = new End(responderOptions());
      channel.receive(Uint8Array.from(body), 0);
      assert.ok(channel.ended !== undefined, `${body}`);
    }
  });
});

describe("plain records", () => {
  it("are in the clear if both ends want it, after the same handshake", () => {
    const pair = connected({ plain: true, suites: [AES_GCM] }, { plain: true, suites: [CHACHA_POLY, AES_GCM] });
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("in the clear"));
    const [packet] = pair.take(pair.initiator);
    assert.ok(text(packet)?.includes("in the clear"));
    assert.deepEqual(pair.responder.channel.peerKey, publicKeyOf(INITIATOR_SECRET));
  });

  it("cannot be forced by who changes the hello", () => {
    const pair = new Pair({}, { plain: true });
    const [hello = new Uint8Array()] = pair.take(pair.initiator);
    hello[6 + 2] = (hello[6 + 2] as number) | 0x80;
    pair.give(pair.responder, [hello]);
    assert.equal(pair.responder.channel.ended?.reason, "HandshakeFailed");
  });
});

describe("a notice", () => {
  it("ends a handshake, since the other side has no keys to say it", () => {
    const pair = new Pair();
    pair.initiator.channel.receive(Uint8Array.of(KIND.notice, 7), 0);
    assert.deepEqual(pair.initiator.channel.ended, { reason: "ChannelUnknown", by: "edge" });
  });

  for (const [code, reason, what] of [
    [7, "ChannelUnknown", "the other device has forgotten the channel"],
    [51, "TokenEnded", "the token of the other device has ended"],
  ] as const) {
    it(`is believed later if it says that ${what}`, () => {
      const pair = connected();
      pair.initiator.channel.receive(Uint8Array.of(KIND.notice, code), 0);
      assert.deepEqual(pair.initiator.channel.ended, { reason, by: "edge" });
    });
  }

  it("is not believed later if it says something else", () => {
    const pair = connected();
    pair.initiator.channel.receive(Uint8Array.of(KIND.notice, 2), 0);
    pair.initiator.channel.receive(Uint8Array.of(KIND.notice), 0);
    assert.equal(pair.initiator.channel.ended, undefined);
    assert.equal(pair.initiator.channel.stats.ignored, 2);
  });
});

describe("messages out of turn", () => {
  it("are ignored in every state", () => {
    for (const body of [[], [0], [KIND.hello], [KIND.answer], [KIND.finish], [KIND.record], [99]]) {
      const octets = Uint8Array.from(body);
      const pair = connected();
      if (body[0] !== KIND.record) for (const { channel } of pair.ends) channel.receive(octets, 0);
      assert.equal(talk(pair), "hello");
      const fresh = new Pair();
      if (body[0] !== KIND.answer) fresh.initiator.channel.receive(octets, 0);
      if (body[0] !== KIND.hello) fresh.responder.channel.receive(octets, 0);
      fresh.settle();
      assert.equal(talk(fresh), "hello");
    }
  });

  it("do not begin a channel", () => {
    assert.ok(isHello(Uint8Array.of(KIND.hello)));
    assert.equal(bodyOf(encodePacket(ROUTE, Uint8Array.of(KIND.answer)))[0], KIND.answer);
  });
});

describe("two channels of a device", () => {
  it("have one pool of credit", () => {
    const pool = new CreditPool();
    const pairs = [connected({ pool }), connected({ pool })];
    for (const pair of pairs) pair.stream();
    assert.equal(pool.streams, 2);
    pairs[0]?.initiator.channel.close();
    assert.equal(pool.streams, 1);
  });
});
