import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NODE_AES_GCM } from "../../src/device/streams/node-ciphers.ts";
import { RECORDS_OF_KEY } from "../../src/streams/limits.ts";
import { PacketMemory, PLAIN, recordNumber, Sealer, SendLog, sealRecord } from "../../src/streams/records.ts";
import { bodyOf, bytes, secret, text } from "./support.ts";

function sealed(sealer: Sealer, number: number, plain: string): Uint8Array {
  const octets = new Uint8Array(plain.length + sealer.overhead);
  sealer.seal(number, bytes(plain), octets);
  return octets;
}

describe("a sealer", () => {
  it("opens only what was sealed under the same number and key", () => {
    const octets = sealed(new Sealer(NODE_AES_GCM, secret(1)), 5, "hello");
    const opener = new Sealer(NODE_AES_GCM, secret(1));
    assert.equal(text(opener.open(5, octets)), "hello");
    assert.equal(opener.open(6, octets), undefined);
    assert.equal(new Sealer(NODE_AES_GCM, secret(2)).open(5, octets), undefined);
    assert.equal(opener.open(5, octets.subarray(1)), undefined);
    assert.equal(opener.open(5, new Uint8Array(0)), undefined);
  });

  it("changes its key in time, and forgets the earlier one", () => {
    const sealer = new Sealer(NODE_AES_GCM, secret(1));
    const last = sealed(sealer, RECORDS_OF_KEY - 1, "last");
    const first = sealed(sealer, RECORDS_OF_KEY, "first");
    const opener = new Sealer(NODE_AES_GCM, secret(1));
    assert.equal(text(opener.open(RECORDS_OF_KEY, first)), "first", "a record of the next key, after a gap");
    assert.equal(text(opener.open(RECORDS_OF_KEY - 1, last)), "last");
    opener.reach(RECORDS_OF_KEY);
    assert.equal(text(opener.open(RECORDS_OF_KEY, first)), "first");
    assert.equal(opener.open(RECORDS_OF_KEY - 1, last), undefined);
    assert.equal(new Sealer(NODE_AES_GCM, secret(1)).open(2 * RECORDS_OF_KEY, first), undefined);
  });
});

describe("a record", () => {
  it("has its number in seven octets", () => {
    for (const number of [0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      assert.equal(recordNumber(bodyOf(sealRecord(PLAIN, 1, number, bytes("x")))), number);
    }
    assert.equal(recordNumber(Uint8Array.of(4, 0xff, 0, 0, 0, 0, 0, 0)), undefined);
    assert.equal(recordNumber(Uint8Array.of(4, 0, 0, 0)), undefined);
  });
});

describe("the memory of packets", () => {
  it("is used again if it was a long packet's, and no more of it is kept than is on its way", () => {
    const memory = new PacketMemory();
    const [long, short] = [memory.take(65_541), memory.take(1000)];
    for (const packet of [short, long]) memory.giveBack(packet);
    assert.notEqual(memory.take(1000).buffer, short.buffer);
    const next = memory.take(65_000);
    assert.equal(next.buffer, long.buffer);
    assert.equal(next.length, 65_000);
    const many = Array.from({ length: 20 }, () => memory.take(65_541));
    for (const packet of many) memory.giveBack(packet);
    const again = new Set(Array.from({ length: 20 }, () => memory.take(65_541).buffer));
    assert.equal(many.filter(({ buffer }) => again.has(buffer)).length, 16);
  });
});

describe("the log of records", () => {
  it("says which packets it keeps no more", () => {
    const freed: Uint8Array[] = [];
    const log = new SendLog((packet) => freed.push(packet));
    const packets = [1, 2, 3].map((length) => new Uint8Array(length));
    for (const packet of packets) log.push(packet);
    log.acknowledge(2);
    assert.deepEqual(freed, packets.slice(0, 2));
    log.clear();
    assert.deepEqual(freed, packets);
  });

  it("keeps what is not acknowledged, and counts it", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(3000)), { maxLength: 60 }), (steps) => {
        const log = new SendLog();
        const kept = new Map<number, Uint8Array>();
        for (const [push, count] of steps) {
          if (push) {
            for (let left = count; left > 0; left -= 1) {
              const packet = new Uint8Array(left % 7);
              kept.set(log.next, packet);
              log.push(packet);
            }
          } else {
            const until = Math.min(log.next, log.acknowledged + count);
            log.acknowledge(until);
            for (const number of kept.keys()) if (number < until) kept.delete(number);
          }
          assert.equal(log.size, kept.size);
          assert.equal(
            log.octets,
            [...kept.values()].reduce((sum, { length }) => sum + length, 0),
          );
          for (const number of [log.acknowledged, log.next - 1]) assert.equal(log.at(number), kept.get(number));
        }
        log.clear();
        assert.equal(log.octets, 0);
      }),
    );
  });
});
