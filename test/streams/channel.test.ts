import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isNotice } from "../../src/streams/index.ts";
import { publicKeyOf } from "../../src/streams/noise.ts";
import { bodyOf, bytes, connected, endings, Pair, pattern, RESPONDER_SECRET, text } from "./support.ts";

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

  it("carries a megabyte", () => {
    const pair = connected();
    const id = pair.stream();
    const sent = pattern(1, 0, 1 << 20);
    pair.initiator.channel.write(id, sent);
    pair.initiator.channel.end(id);
    const got: Uint8Array[] = [];
    for (let turn = 0; turn < 1000; turn++) {
      pair.settle();
      pair.now += 1;
      const { octets, end } = pair.readAll(pair.responder, id);
      got.push(octets);
      if (end) break;
    }
    assert.deepEqual(new Uint8Array(Buffer.concat(got)), sent);
    pair.responder.channel.end(id);
    pair.settle();
    pair.readAll(pair.initiator, id);
    assert.equal(pair.initiator.of("finished").length, 1);
    assert.equal(pair.responder.of("finished").length, 1);
    pair.wait(1000);
    assert.ok(pair.initiator.channel.isIdle && pair.responder.channel.isIdle);
    console.log(pair.initiator.channel.stats, pair.responder.channel.stats, pair.initiator.channel.roundTrip);
  });
});
