import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NETWORK_TEXT, NETWORKS } from "../../../src/device/limits.ts";
import { NetworkMemory } from "../../../src/device/transports/network-memory.ts";

describe("the memory of networks", () => {
  it("recalls the way that was remembered last", () => {
    const memory = new NetworkMemory();
    memory.remember("office", "websocket");
    memory.remember("office", "keepalive");
    assert.deepEqual([memory.recall("office"), memory.recall("home")], ["keepalive", undefined]);
  });

  it("forgets the network that was not used for longest", () => {
    const memory = new NetworkMemory();
    for (let n = 0; n < NETWORKS; n += 1) memory.remember(`${n}`, "tcp");
    memory.remember("0", "tcp");
    memory.remember("another", "tcp");
    assert.deepEqual([memory.recall("0"), memory.recall("1"), memory.recall("another")], ["tcp", undefined, "tcp"]);
  });

  it("does not keep long texts", () => {
    const memory = new NetworkMemory();
    memory.remember("n".repeat(NETWORK_TEXT + 1), "tcp");
    memory.remember("office", "w".repeat(NETWORK_TEXT + 1));
    assert.equal(memory.format(), "[\n\n]\n");
  });

  it("is the same after it was written and read", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string(), fc.string({ unit: "binary", maxLength: 20 })), { maxLength: 70 }),
        (entries) => {
          const memory = new NetworkMemory();
          for (const [network, way] of entries) memory.remember(network, way);
          const read = NetworkMemory.parse(memory.format());
          assert.equal(read.format(), memory.format());
          for (const [network] of entries) assert.equal(read.recall(network), memory.recall(network));
        },
      ),
    );
  });

  it("keeps how soon idle connections are cut with the network, whatever way is remembered later", () => {
    const memory = new NetworkMemory();
    memory.rememberIdle("office", 9000);
    assert.equal(memory.recallIdle("office"), undefined, "an unknown network has no entry");
    memory.remember("office", "websocket");
    memory.rememberIdle("office", 10_000);
    memory.remember("office", "keepalive");
    const read = NetworkMemory.parse(memory.format());
    assert.deepEqual([read.recall("office"), read.recallIdle("office")], ["keepalive", 10_000]);
    assert.equal(NetworkMemory.parse('[["office","tcp","soon"]]').recall("office"), undefined);
  });

  it("ignores text that it did not write", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        NetworkMemory.parse(text).format();
      }),
    );
    assert.equal(NetworkMemory.parse('[["office","tcp"],["home"],7]').recall("office"), "tcp");
  });
});
