import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NODE_AES_GCM } from "../../src/device/streams/node-ciphers.ts";
import { isAlone, KeptPool, PacketDecoder } from "../../src/streams/index.ts";
import {
  ACKNOWLEDGE_AFTER,
  BODY_OCTETS,
  KEEP_ALIVE,
  KEPT_LEAST,
  KEPT_OCTETS,
  PROBE_AFTER,
  RESERVE,
  RESUME_TIME,
  STREAMS,
  TURN,
  UNSENT,
} from "../../src/streams/limits.ts";
import { bytes, connected, endings, generator, heard, Liar, type Pair, pattern, text } from "./support.ts";

/** Moves `octets` over a stream. */
function transfer(pair: Pair, id: number, octets: Uint8Array): Buffer {
  pair.initiator.channel.write(id, octets);
  pair.initiator.channel.end(id);
  return transferred(pair, id);
}

/** Reads a stream to its end, as it comes; each passing of packets takes a millisecond. */
function transferred(pair: Pair, id: number): Buffer {
  const pieces: Uint8Array[] = [];
  for (let turn = 0; turn < 10_000; turn += 1) {
    pair.now += 1;
    for (const end of pair.ends) pair.give(pair.other(end), pair.take(end));
    const read = pair.readAll(pair.responder, id);
    pieces.push(read.octets);
    if (read.end) break;
  }
  return Buffer.concat(pieces);
}

describe("memory", () => {
  it("is freed once what was given is sealed, and stays where it was not given", () => {
    const pair = connected();
    const id = pair.stream();
    const [given, lent] = [new Uint8Array(5000).fill(1), new Uint8Array(5000).fill(2)];
    const { channel } = pair.initiator;
    channel.write(id, given, true);
    channel.write(id, lent);
    assert.equal(given.buffer.byteLength, 5000, "it is not sealed yet");
    pair.settle();
    assert.deepEqual([given.buffer.byteLength, lent.buffer.byteLength], [0, 5000]);
    assert.deepEqual(
      Buffer.from(pair.readAll(pair.responder, id).octets),
      Buffer.concat([Buffer.alloc(5000, 1), lent]),
    );
  });

  it("is not freed before its last part is sealed, nor with a view of it", () => {
    const pair = connected();
    const id = pair.stream();
    const { channel } = pair.initiator;
    const [long, whole] = [pattern(1, 0, RESERVE + 1000), pattern(2, 0, 3000)];
    const given = new Uint8Array(long);
    channel.write(id, given, true);
    for (const end of pair.ends) pair.give(pair.other(end), pair.take(end));
    assert.equal(given.length, RESERVE + 1000, "the rest waits for credit");
    channel.write(id, whole.subarray(1000), true);
    channel.end(id);
    assert.deepEqual(transferred(pair, id), Buffer.concat([long, whole.subarray(1000)]));
    assert.deepEqual([given.buffer.byteLength, whole.length], [0, 3000]);
  });

  it("of what was read belongs to the reader if nothing else is in it", () => {
    const pair = connected();
    const [one, other] = [pair.stream(), pair.stream()];
    const { responder } = pair;
    const deliver = () => {
      for (const end of pair.ends) pair.give(pair.other(end), pair.take(end));
    };
    const read = (id: number) => {
      const octets = responder.channel.read(id, UNSENT, pair.now);
      assert.ok(octets instanceof Uint8Array);
      return octets;
    };
    pair.initiator.channel.write(one, pattern(1, 0, 6000));
    deliver();
    assert.equal(isAlone(read(one)), true);
    pair.initiator.channel.write(one, pattern(1, 0, 6000));
    pair.initiator.channel.write(other, pattern(2, 0, 5000));
    deliver();
    assert.deepEqual([isAlone(read(one)), read(other).length], [false, 5000], "both came in one record");
  });
});

describe("a stream", () => {
  it("carries data both ways", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("ping"));
    pair.responder.channel.write(id, bytes("pong"));
    pair.settle();
    assert.equal(text(pair.responder.channel.read(id, 99, 0)), "ping");
    assert.equal(text(pair.initiator.channel.read(id, 99, 0)), "pong");
  });

  it("is opened by either side, with its service", () => {
    const pair = connected();
    assert.deepEqual(pair.initiator.channel.open("ssh"), { ok: true, value: 1 });
    assert.deepEqual(pair.responder.channel.open("web"), { ok: true, value: 2 });
    assert.deepEqual(pair.responder.channel.open("db"), { ok: true, value: 4 });
    pair.settle();
    assert.deepEqual(pair.responder.of("opened"), [{ type: "opened", stream: 1, service: "ssh" }]);
    assert.deepEqual(
      pair.initiator.of("opened").map(({ stream, service }) => `${stream} ${service}`),
      ["2 web", "4 db"],
    );
  });

  it("carries data before it is accepted, up to the reserve", () => {
    const pair = connected();
    const opened = pair.initiator.channel.open("ssh");
    assert.ok(opened.ok);
    pair.initiator.channel.write(opened.value, new Uint8Array(RESERVE + 1));
    pair.settle();
    assert.deepEqual(pair.initiator.of("accepted"), []);
    assert.equal(pair.readAll(pair.responder, opened.value).octets.length, RESERVE);
    pair.responder.channel.accept(opened.value);
    pair.settle();
    assert.equal(pair.initiator.of("accepted").length, 1);
    assert.equal(pair.readAll(pair.responder, opened.value).octets.length, 1);
  });

  it("is opened before its data arrives, however many are opened at once", () => {
    const pair = connected();
    for (let count = 0; count < 400; count += 1) {
      const opened = pair.initiator.channel.open("s".repeat(255));
      assert.ok(opened.ok);
      pair.initiator.channel.write(opened.value, bytes("a"));
    }
    pair.settle();
    assert.equal(pair.responder.of("opened").length, 400);
    assert.equal(pair.responder.of("readable").length, 400);
    assert.deepEqual(endings(pair), []);
  });

  it("carries 3 MB byte for byte", () => {
    const pair = connected();
    const octets = pattern(1, 0, 3_000_001);
    assert.ok(transfer(pair, pair.stream(), octets).equals(octets));
    assert.ok(pair.now < 200, "windows grow");
  });

  it("leaves its packets as they are, unless they are copied: then their memory is used again", () => {
    for (const copiesPackets of [true, false]) {
      const pair = connected({ copiesPackets });
      const id = pair.stream();
      const sealed: { readonly packet: Uint8Array; readonly copy: Uint8Array }[] = [];
      const came: Uint8Array[] = [];
      const octets = pattern(1, 0, 6_000_000);
      for (let at = 0; at < octets.length; at += 200_000) {
        pair.initiator.channel.write(id, octets.slice(at, at + 200_000));
        for (let turn = 0; turn < 8; turn += 1) {
          const packets = pair.take(pair.initiator);
          const all = packets.map((packet) => ({ packet, copy: new Uint8Array(packet) }));
          sealed.push(...all.filter(({ packet }) => packet.length > 62_000));
          // Some are lost, and sent again when the next ones come.
          if ((at / 200_000 + turn) % 7 !== 3) pair.give(pair.responder, packets);
          came.push(pair.readAll(pair.responder, id).octets);
          pair.give(pair.initiator, pair.take(pair.responder));
        }
      }
      for (let turn = 0; turn < 100; turn += 1) {
        pair.wait(PROBE_AFTER);
        came.push(pair.readAll(pair.responder, id).octets);
      }
      assert.ok(Buffer.concat(came).equals(octets), "byte for byte");
      const memories = new Set(sealed.map(({ packet }) => packet.buffer)).size;
      const changed = sealed.filter(({ packet, copy }) => Buffer.compare(packet, copy) !== 0).length;
      if (copiesPackets) assert.ok(memories < sealed.length / 2, `${sealed.length} packets in ${memories} memories`);
      else assert.equal(changed, 0);
    }
  });

  it("half-closes: the other direction goes on", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("question"));
    pair.initiator.channel.end(id);
    pair.settle();
    assert.equal(text(pair.responder.channel.read(id, 3, 0)), "que");
    assert.equal(text(pair.responder.channel.read(id, 99, 0)), "stion");
    assert.equal(pair.responder.channel.read(id, 99, 0), "end");
    pair.responder.channel.write(id, bytes("answer"));
    pair.responder.channel.end(id);
    pair.settle();
    assert.equal(pair.responder.of("finished").length, 1);
    assert.equal(text(pair.initiator.channel.read(id, 99, 0)), "answer");
    assert.deepEqual(pair.initiator.of("finished"), [], "not before the end was read");
    assert.equal(pair.initiator.channel.read(id, 99, 0), "end");
    assert.equal(pair.initiator.of("finished").length, 1);
    assert.equal(pair.initiator.channel.streams + pair.responder.channel.streams, 0);
  });

  it("half-closes on both sides at once", () => {
    const pair = connected();
    const id = pair.stream();
    for (const end of pair.ends) {
      end.channel.write(id, bytes("bye"));
      end.channel.end(id);
    }
    pair.settle();
    for (const end of pair.ends) {
      assert.deepEqual(pair.readAll(end, id), { octets: bytes("bye"), end: true });
      assert.equal(end.of("finished").length, 1);
    }
  });

  it("refuses writes after its end", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.end(id);
    assert.throws(() => pair.initiator.channel.write(id, bytes("a")), /write before calling end/);
  });

  it("is reset in both directions, with what is unread and unsent", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, new Uint8Array(10 * RESERVE));
    pair.settle();
    pair.responder.channel.reset(id, "ServiceUnreachable");
    pair.settle();
    assert.deepEqual(pair.initiator.of("reset"), [{ type: "reset", stream: id, reason: "ServiceUnreachable" }]);
    assert.deepEqual(pair.responder.of("reset"), [], "who resets knows");
    assert.equal(pair.initiator.channel.streams + pair.responder.channel.streams, 0);
  });

  it("survives being reset by both sides at once, and used when it is gone", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("late"));
    for (const end of pair.ends) end.channel.reset(id);
    pair.initiator.channel.write(id, bytes("later"));
    pair.initiator.channel.end(id);
    pair.initiator.channel.accept(id);
    pair.initiator.channel.reset(id);
    assert.equal(pair.initiator.channel.read(id, 1, 0), undefined);
    assert.equal(pair.initiator.channel.room(id), 0);
    pair.settle();
    assert.deepEqual(endings(pair), []);
  });

  it("has a name for its service", () => {
    const pair = connected();
    assert.throws(() => pair.initiator.channel.open("two words"), /visible ASCII/);
  });

  it("is refused by name if a device has as many as it can have of one peer", () => {
    const pair = connected();
    let count = 0;
    while (pair.initiator.channel.open("ssh").ok) count += 1;
    assert.ok(count >= 1000 && count < STREAMS);
    assert.deepEqual(pair.initiator.channel.open("ssh"), { ok: false, problems: "TooManyStreams" });
    pair.settle();
    assert.equal(pair.responder.of("opened").length, count);
    assert.equal(pair.responder.channel.open("ssh").ok, false);
    pair.initiator.channel.reset(1);
    assert.ok(pair.initiator.channel.open("ssh").ok);
    pair.settle();
    assert.equal(pair.responder.of("opened").length, count + 1);
  });

  it("cannot be opened on a channel that has ended", () => {
    const pair = connected();
    pair.initiator.channel.close();
    assert.deepEqual(pair.initiator.channel.open("ssh"), { ok: false, problems: "Closed" });
  });
});

describe("back-pressure", () => {
  it("stops the writer of a stream that is not read, and no other", () => {
    const pair = connected();
    const slow = pair.stream("slow");
    const fast = pair.stream("fast");
    pair.initiator.channel.write(slow, new Uint8Array(1_000_000));
    pair.settle();
    assert.equal(pair.readAll(pair.initiator, slow).octets.length, 0);
    assert.ok(pair.initiator.channel.room(slow) <= 0);
    const octets = pattern(2, 0, 500_000);
    assert.ok(transfer(pair, fast, octets).equals(octets));
    assert.equal(pair.readAll(pair.responder, slow).octets.length, RESERVE);
  });

  it("tells the writer once when there is room again", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, new Uint8Array(3 * RESERVE));
    pair.settle();
    assert.deepEqual(pair.initiator.of("writable"), []);
    for (let turn = 0; turn < 8; turn += 1) {
      pair.now += 1000;
      pair.readAll(pair.responder, id);
      pair.settle();
    }
    assert.equal(pair.initiator.of("writable").length, 1);
    assert.ok(pair.initiator.channel.room(id) > 0);
  });

  it("lets little be written without credit, and a batch with it", () => {
    const pair = connected();
    const id = pair.stream();
    assert.equal(pair.initiator.channel.room(id), 2 * RESERVE);
    transfer(pair, pair.stream(), new Uint8Array(3_000_000));
    const grown = pair.stream();
    pair.initiator.channel.write(grown, new Uint8Array(RESERVE));
    for (let turn = 0; turn < 200; turn += 1) {
      pair.now += 1;
      pair.settle();
      pair.readAll(pair.responder, grown);
      pair.initiator.channel.write(grown, new Uint8Array(Math.max(0, pair.initiator.channel.room(grown))));
    }
    pair.settle();
    pair.readAll(pair.responder, grown);
    pair.settle();
    assert.equal(pair.initiator.channel.room(grown), UNSENT);
  });

  it("grants nothing more when the peer has ended", () => {
    const liar = new Liar().say({ type: "open", stream: 1, service: "a" });
    liar.say({ type: "data", stream: 1, data: new Uint8Array(RESERVE) }, { type: "end", stream: 1 });
    assert.ok(liar.end.channel.read(1, 1e9, 0) instanceof Uint8Array);
    assert.ok(!liar.end.channel.isPending);
  });

  it("reports data once until it was read", () => {
    const pair = connected();
    const id = pair.stream();
    for (let turn = 0; turn < 3; turn += 1) {
      pair.initiator.channel.write(id, bytes("a"));
      pair.settle();
    }
    assert.equal(pair.responder.of("readable").length, 1);
    pair.readAll(pair.responder, id);
    pair.initiator.channel.end(id);
    pair.settle();
    assert.equal(pair.responder.of("readable").length, 2);
  });
});

describe("streams with data", () => {
  it("take turns, so that a keystroke waits for one turn of each", () => {
    const liar = new Liar({ role: "initiator" });
    const { channel } = liar.end;
    const ids = ["a", "b", "c", "key"].map((service) => {
      const opened = channel.open(service);
      assert.ok(opened.ok);
      return opened.value;
    });
    for (const id of ids) liar.say({ type: "credit", stream: id, limit: 2 ** 30 });
    for (const id of ids.slice(0, 3)) channel.write(id, new Uint8Array(1_000_000));
    channel.write(ids[3] as number, bytes("k"));
    const [first] = heard(channel.output(1, 0));
    const data = first?.frames.filter((frame) => frame.type === "data") ?? [];
    assert.deepEqual(
      data.slice(0, 4).map((frame) => [frame.stream, frame.data.length]),
      [
        [ids[0], TURN],
        [ids[1], TURN],
        [ids[2], TURN],
        [ids[3], 1],
      ],
    );
  });

  it("fill records if they are alone", () => {
    const liar = new Liar({ role: "initiator" });
    const { channel } = liar.end;
    channel.open("a");
    liar.say({ type: "credit", stream: 1, limit: 2 ** 30 });
    for (let count = 0; count < 1000; count += 1) channel.write(1, new Uint8Array(1000));
    const packets = channel.output(2_000_000, 0);
    assert.equal(packets.length, Math.ceil(1_000_000 / 65_500));
    assert.equal(heard(packets)[1]?.frames.length, 1);
  });
});

describe("acknowledgements", () => {
  it("travel with data, or alone after a short while", () => {
    const pair = connected();
    const id = pair.stream();
    pair.wait(1000);
    pair.initiator.channel.write(id, bytes("a"));
    pair.give(pair.responder, pair.take(pair.initiator));
    assert.ok(!pair.responder.channel.isPending);
    assert.equal(pair.responder.channel.deadline, pair.now + ACKNOWLEDGE_AFTER);
    pair.now += ACKNOWLEDGE_AFTER;
    pair.responder.channel.advance(pair.now);
    assert.equal(pair.take(pair.responder).length, 1);
  });

  it("do not wait for more than 128 KiB, nor after a ping", () => {
    const liar = new Liar().say({ type: "open", stream: 1, service: "a" });
    assert.ok(!liar.end.channel.isPending);
    // Frames on a stream that is gone need no credit.
    liar.end.channel.reset(1);
    liar.end.channel.output(1e6, 0);
    const data = { type: "data", stream: 1, data: new Uint8Array(65_000) } as const;
    liar.say(data).say(data);
    assert.ok(!liar.end.channel.isPending);
    liar.say(data);
    assert.equal(heard(liar.end.channel.output(1e6, 0))[0]?.received, 4);
    liar.say({ type: "ping" });
    assert.equal(heard(liar.end.channel.output(1e6, 0))[0]?.received, 5);
  });

  it("are not acknowledged: an idle channel is silent", () => {
    const pair = connected();
    pair.initiator.channel.write(pair.stream(), bytes("a"));
    pair.wait(1000);
    for (const { channel } of pair.ends) {
      assert.ok(!channel.isPending);
      assert.equal(channel.deadline > pair.now + KEEP_ALIVE / 2, true);
    }
  });

  it("free what was kept for resending", () => {
    const pair = connected();
    const id = pair.stream();
    transfer(pair, id, new Uint8Array(2_000_000));
    pair.wait(1000);
    const before = pair.initiator.channel.stats.resent;
    pair.initiator.channel.attach(pair.now);
    pair.settle();
    // The responder's last acknowledgements were not acknowledged; data was.
    assert.ok(pair.initiator.channel.stats.resent - before <= 1);
  });

  it("measure the round trip", () => {
    const pair = connected();
    const id = pair.stream();
    for (let turn = 0; turn < 40; turn += 1) {
      pair.initiator.channel.write(id, bytes("a"));
      pair.responder.channel.write(id, bytes("b"));
      const packets = pair.take(pair.initiator);
      pair.now += 40;
      pair.give(pair.responder, packets);
      const answer = pair.take(pair.responder);
      pair.now += 40;
      pair.give(pair.initiator, answer);
    }
    assert.ok(Math.abs(pair.initiator.channel.roundTrip - 80) < 10);
  });
});

describe("an outage", () => {
  it("is not measured as a round trip", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("a"));
    pair.give(pair.responder, pair.take(pair.initiator));
    pair.now += 300_000;
    for (const { channel } of pair.ends) {
      channel.detach(pair.now);
      channel.attach(pair.now);
    }
    pair.settle();
    assert.ok(pair.initiator.channel.roundTrip < 100);
  });
});

describe("a lost record", () => {
  it("is noticed by the next one, and sent again octet for octet", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("one "));
    const lost = pair.take(pair.initiator);
    pair.initiator.channel.write(id, bytes("two"));
    pair.give(pair.responder, pair.take(pair.initiator));
    assert.equal(pair.responder.channel.stats.gaps, 1);
    pair.give(pair.initiator, pair.take(pair.responder));
    const again = pair.take(pair.initiator);
    assert.deepEqual(again[0], lost[0]);
    pair.give(pair.responder, again);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "one two");
  });

  it("is asked for at once, each time", () => {
    const pair = connected();
    const id = pair.stream();
    for (const word of ["one ", "two "]) {
      pair.initiator.channel.write(id, bytes(word));
      pair.take(pair.initiator);
      pair.initiator.channel.write(id, bytes("and "));
      pair.settle();
    }
    assert.equal(text(pair.readAll(pair.responder, id).octets), "one and two and ");
  });

  it("is asked for again if it is lost again, or the question is", () => {
    for (const isQuestionLost of [false, true]) {
      const pair = connected();
      const id = pair.stream();
      pair.initiator.channel.write(id, bytes("one "));
      pair.take(pair.initiator);
      pair.initiator.channel.write(id, bytes("two"));
      pair.give(pair.responder, pair.take(pair.initiator));
      const question = pair.take(pair.responder);
      if (!isQuestionLost) {
        pair.give(pair.initiator, question);
        const [, ...rest] = pair.take(pair.initiator);
        pair.give(pair.responder, rest);
      }
      pair.wait(4 * PROBE_AFTER);
      assert.equal(text(pair.readAll(pair.responder, id).octets), "one two");
    }
  });

  it("at the end is noticed by silence", () => {
    const pair = connected();
    const id = pair.stream();
    pair.wait(1000);
    pair.initiator.channel.write(id, bytes("last"));
    pair.take(pair.initiator);
    pair.wait(2 * PROBE_AFTER);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "last");
  });

  it("at the end is noticed though the one before was acknowledged", () => {
    const pair = connected();
    const id = pair.stream();
    pair.wait(1000);
    pair.initiator.channel.write(id, bytes("a"));
    const first = pair.take(pair.initiator);
    pair.initiator.channel.write(id, bytes("b"));
    pair.take(pair.initiator);
    pair.give(pair.responder, first);
    pair.now += ACKNOWLEDGE_AFTER;
    pair.responder.channel.advance(pair.now);
    pair.give(pair.initiator, pair.take(pair.responder));
    pair.wait(3 * PROBE_AFTER);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "ab");
  });

  it("that asks for others is replaced by another", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("a"));
    pair.take(pair.initiator);
    pair.initiator.channel.attach(pair.now);
    pair.take(pair.initiator);
    pair.wait(4 * PROBE_AFTER);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "a");
  });
});

describe("an old record", () => {
  it("is dropped and counted", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("once"));
    const packets = pair.take(pair.initiator);
    for (let count = 0; count < 3; count += 1) pair.give(pair.responder, packets);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "once");
    assert.equal(pair.responder.channel.stats.old, 2);
    assert.deepEqual(endings(pair), []);
  });
});

describe("a new path", () => {
  it("begins with a position of each side, then what is missing, and nothing that is not", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, pattern(1, 0, RESERVE));
    pair.give(pair.responder, pair.take(pair.initiator));
    pair.take(pair.responder);
    pair.responder.channel.write(id, bytes("lost"));
    pair.take(pair.responder);
    for (const { channel } of pair.ends) {
      channel.detach(pair.now);
      channel.attach(pair.now);
    }
    const [asked, ...rest] = pair.take(pair.initiator);
    assert.deepEqual(rest, [], "nothing is sent before the peer has said what it has");
    assert.ok((asked?.length ?? 0) < 60);
    pair.give(pair.responder, [asked as Uint8Array]);
    pair.settle();
    assert.equal(pair.responder.channel.stats.old, 0);
    assert.equal(text(pair.readAll(pair.initiator, id).octets), "lost");
    assert.equal(pair.readAll(pair.responder, id).octets.length, RESERVE);
  });

  it("needs no second question of a peer whose first is lost", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("lost"));
    pair.take(pair.initiator);
    pair.responder.channel.attach(pair.now);
    pair.take(pair.responder);
    pair.initiator.channel.attach(pair.now);
    pair.settle();
    assert.equal(text(pair.readAll(pair.responder, id).octets), "lost");
  });

  it("of one side only is enough", () => {
    const pair = connected();
    const id = pair.stream();
    pair.responder.channel.write(id, bytes("lost"));
    pair.take(pair.responder);
    pair.initiator.channel.attach(pair.now);
    pair.settle();
    assert.equal(text(pair.readAll(pair.initiator, id).octets), "lost");
  });

  it("lets nothing out before it is there", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.detach(pair.now);
    pair.initiator.channel.write(id, bytes("waits"));
    assert.ok(!pair.initiator.channel.isPending);
    assert.deepEqual(pair.take(pair.initiator), []);
    pair.initiator.channel.attach(pair.now);
    pair.settle();
    assert.equal(text(pair.readAll(pair.responder, id).octets), "waits");
  });
});

describe("a transfer", () => {
  it("survives 50 cuts within any record, and resends little", () => {
    const pair = connected({ suites: [NODE_AES_GCM] }, { suites: [NODE_AES_GCM] });
    const id = pair.stream();
    const octets = pattern(3, 0, 8_000_000);
    pair.initiator.channel.write(id, octets);
    pair.initiator.channel.end(id);
    const random = generator(13);
    const pieces: Uint8Array[] = [];
    let cuts = 0;
    for (let ended = false; !ended; ) {
      pair.now += 1;
      for (const end of pair.ends) {
        const wire = Buffer.concat(pair.take(end, 100_000));
        const isCut = cuts < 50 && random(3) === 0;
        const decoder = new PacketDecoder();
        const arrived = wire.subarray(0, isCut ? random(wire.length + 1) : wire.length);
        decoder.push(arrived, (_route, body) => pair.other(end).channel.receive(body, pair.now));
        if (!isCut) continue;
        cuts += 1;
        for (const { channel } of pair.ends) {
          channel.detach(pair.now);
          channel.attach(pair.now);
        }
      }
      const read = pair.readAll(pair.responder, id);
      pieces.push(read.octets);
      ended = read.end;
    }
    assert.equal(cuts, 50);
    assert.ok(Buffer.concat(pieces).equals(octets));
    assert.deepEqual(endings(pair), []);
    // A megabyte at most was on its way at each cut.
    assert.ok(pair.initiator.channel.stats.resent < 50 * 20, `${pair.initiator.channel.stats.resent}`);
  });
});

describe("the resume time", () => {
  it("ends both sides by name when it is over, and not before", () => {
    const pair = connected();
    const id = pair.stream();
    for (const { channel } of pair.ends) channel.detach(pair.now);
    pair.wait(RESUME_TIME - 1);
    assert.deepEqual(endings(pair), []);
    pair.wait(1);
    for (const end of pair.ends) {
      assert.deepEqual(end.of("reset"), [{ type: "reset", stream: id, reason: "ResumeTimeout" }]);
      assert.deepEqual(end.of("ended"), [{ type: "ended", reason: "ResumeTimeout", by: "self" }]);
    }
  });

  it("begins anew when the peer is heard", () => {
    const pair = connected();
    pair.stream();
    for (let turn = 0; turn < 3; turn += 1) {
      for (const { channel } of pair.ends) channel.detach(pair.now);
      pair.wait(RESUME_TIME - 1);
      for (const { channel } of pair.ends) channel.attach(pair.now);
      pair.settle();
    }
    assert.deepEqual(endings(pair), []);
  });

  it("also ends a channel whose path swallows everything", () => {
    const pair = connected();
    pair.initiator.channel.write(pair.stream(), bytes("a"));
    const { channel } = pair.initiator;
    let packets = 0;
    for (; channel.ended === undefined; channel.advance(pair.now)) {
      packets += pair.take(pair.initiator).length;
      pair.now = channel.deadline;
    }
    assert.equal(channel.ended.reason, "ResumeTimeout");
    assert.ok(packets < 30, `${packets} packets were sent in vain`);
  });
});

describe("keep-alive", () => {
  it("pings an idle channel with streams, from one side", () => {
    const pair = connected();
    pair.stream();
    pair.wait(1000);
    pair.now = pair.initiator.channel.deadline;
    assert.ok(pair.now <= KEEP_ALIVE + 1000);
    pair.initiator.channel.advance(pair.now);
    assert.equal(pair.take(pair.initiator).length, 1);
  });

  it("does not ping without streams", () => {
    const pair = connected().wait(1000);
    for (const { channel } of pair.ends) assert.equal(channel.deadline, Number.POSITIVE_INFINITY);
  });

  it("does not ping a channel in use", () => {
    const pair = connected({ keepAlive: 100 }, { keepAlive: 100 });
    const id = pair.stream();
    let packets = 0;
    for (let turn = 0; turn < 20; turn += 1) {
      pair.now += 50;
      for (const { channel } of pair.ends) channel.advance(pair.now);
      pair.initiator.channel.write(id, bytes("a"));
      const sent = pair.take(pair.initiator);
      packets += sent.length;
      pair.give(pair.responder, sent);
      pair.give(pair.initiator, pair.take(pair.responder));
    }
    assert.equal(packets, 20);
  });
});

describe("what is kept for resending", () => {
  it("is bounded, whatever the peer grants and never acknowledges", () => {
    const liar = new Liar({ role: "initiator" });
    const { channel } = liar.end;
    channel.open("a");
    liar.say({ type: "credit", stream: 1, limit: Number.MAX_SAFE_INTEGER });
    let sent = 0;
    for (let turn = 0; turn < 1000; turn += 1) {
      channel.write(1, new Uint8Array(65_000));
      for (const packet of channel.output(1e6, 0)) sent += packet.length;
    }
    assert.ok(sent >= KEPT_OCTETS && sent < KEPT_OCTETS + 70_000);
    assert.ok(channel.room(1) < 0);
    assert.ok(!channel.isPending);
    liar.end.channel.receive(liar.record([], { received: 10 }), 0);
    assert.ok(channel.isPending);
  });

  it("is bounded for all channels of a device, and each later one finds room", () => {
    const keptPool = new KeptPool();
    const kept = () => {
      const liar = new Liar({ role: "initiator", keptPool });
      const { channel } = liar.end;
      channel.open("a");
      liar.say({ type: "credit", stream: 1, limit: Number.MAX_SAFE_INTEGER });
      const before = keptPool.used;
      for (let turn = 0; turn < 1000 && channel.room(1) > 0; turn += 1) {
        channel.write(1, new Uint8Array(65_000));
        channel.output(1e6, 0);
      }
      return { liar, octets: keptPool.used - before };
    };
    const all = Array.from({ length: 20 }, kept);
    assert.ok((all[0]?.octets ?? 0) >= KEPT_OCTETS);
    for (const { octets } of all) assert.ok(octets >= KEPT_LEAST);
    const most = 2 * KEPT_OCTETS + all.length * (KEPT_LEAST + BODY_OCTETS);
    assert.ok(keptPool.used <= most, `${keptPool.used} are kept`);
    for (const { liar } of all) liar.end.channel.close();
    assert.equal(keptPool.used, 0);
  });

  it("is bounded for each stream and for all, where its owner says so", () => {
    const kept = { unsent: 32 * 1024, ofStream: 128 * 1024, ofAll: 300 * 1024 };
    const liar = new Liar({ role: "initiator", kept });
    const { channel } = liar.end;
    let sent = 0;
    for (const [stream, most] of [
      [1, kept.ofStream],
      [3, 2 * kept.ofStream],
      [5, kept.ofAll],
    ] as const) {
      channel.open("a");
      liar.say({ type: "credit", stream, limit: Number.MAX_SAFE_INTEGER });
      for (let turn = 0; turn < 100; turn += 1) {
        if (channel.room(stream) > 0) channel.write(stream, new Uint8Array(16 * 1024));
        for (const packet of channel.output(1e6, 0)) sent += packet.length;
      }
      assert.ok(sent >= most && sent < most + 70_000, `${sent} with stream ${stream}`);
      assert.ok(channel.room(stream) <= 0 && channel.room(stream) > -kept.unsent);
    }
  });
});

describe("closing", () => {
  it("resets all streams at both ends, with the reason", () => {
    const pair = connected();
    const id = pair.stream();
    pair.responder.channel.close("NotPermitted");
    assert.ok(pair.responder.channel.isPending);
    pair.settle();
    assert.deepEqual(endings(pair), [
      { reason: "NotPermitted", by: "peer" },
      { reason: "NotPermitted", by: "self" },
    ]);
    for (const end of pair.ends) {
      assert.deepEqual(end.of("reset"), [{ type: "reset", stream: id, reason: "NotPermitted" }]);
      assert.equal(end.channel.deadline, Number.POSITIVE_INFINITY);
      assert.ok(!end.channel.isPending);
    }
  });

  it("is heard even if earlier records are lost", () => {
    const pair = connected();
    pair.initiator.channel.write(pair.stream(), bytes("lost"));
    pair.take(pair.initiator);
    pair.initiator.channel.close();
    pair.settle();
    assert.equal(pair.responder.channel.ended?.by, "peer");
  });

  it("when nothing is left to do loses nothing that the peer has not read", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("unread"));
    for (const end of pair.ends) end.channel.end(id);
    pair.settle();
    pair.readAll(pair.initiator, id);
    pair.wait(1000);
    assert.ok(pair.initiator.channel.isIdle);
    pair.initiator.channel.close();
    pair.settle();
    assert.deepEqual(pair.responder.of("reset"), []);
    assert.deepEqual(pair.readAll(pair.responder, id), { octets: bytes("unread"), end: true });
    assert.equal(pair.responder.of("finished").length, 1);
    assert.equal(pair.responder.channel.streams, 0);
  });

  it("without loss waits until all is acknowledged", () => {
    const pair = connected();
    const id = pair.stream();
    pair.initiator.channel.write(id, bytes("a"));
    for (const end of pair.ends) end.channel.end(id);
    assert.ok(!pair.initiator.channel.isIdle);
    pair.settle();
    for (const end of pair.ends) pair.readAll(end, id);
    pair.wait(1000);
    for (const { channel } of pair.ends) assert.ok(channel.isIdle);
  });
});

describe("1,000 streams at a time", () => {
  it("carry what they were given, and end", () => {
    const pair = connected();
    const sizes = new Map<number, number>();
    for (let count = 0; count < 1000; count += 1) {
      const opened = pair.initiator.channel.open("echo");
      assert.ok(opened.ok);
      sizes.set(opened.value, (count * 7919) % 60_000);
      pair.initiator.channel.write(opened.value, pattern(count, 0, (count * 7919) % 60_000));
      pair.initiator.channel.end(opened.value);
    }
    const got = new Map<number, Uint8Array[]>();
    for (let turn = 0; turn < 2000 && pair.responder.channel.streams + pair.initiator.channel.streams > 0; turn += 1) {
      pair.now += 1;
      pair.settle();
      for (const event of pair.responder.events()) {
        if (event.type === "opened") pair.responder.channel.accept(event.stream);
        if (event.type !== "readable") continue;
        const { octets, end } = pair.readAll(pair.responder, event.stream);
        got.set(event.stream, [...(got.get(event.stream) ?? []), octets]);
        if (end) pair.responder.channel.end(event.stream);
      }
      for (const event of pair.initiator.events()) {
        if (event.type === "readable") pair.readAll(pair.initiator, event.stream);
      }
    }
    assert.equal(got.size, 1000);
    for (const [id, size] of sizes) {
      assert.ok(Buffer.concat(got.get(id) ?? []).equals(pattern((id - 1) / 2, 0, size)), `stream ${id}`);
    }
    assert.deepEqual(endings(pair), []);
  });
});
