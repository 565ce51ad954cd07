/** A keyring in memory, and what becomes of channels when trust in a key ends. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { DeviceError, type DeviceStream, type KeyringContents, MemoryKeyring } from "../../../src/device/index.ts";
import { publicKeyOf } from "../../../src/streams/index.ts";
import { HostileEdge } from "../../torture/hostile-edge.ts";

const key = (octet: number) => new Uint8Array(32).fill(octet);

describe("a keyring in memory", () => {
  it("has a new key, and is the same again with its contents, which can be cloned", () => {
    const first = new MemoryKeyring();
    first.accept("alice/pc", key(1));
    first.accept("alice/pc", key(2));
    first.pin("office/desk", key(3));
    const again = new MemoryKeyring(structuredClone(first.contents));
    assert.deepEqual(again.contents, first.contents);
    assert.equal(again.fingerprint, first.fingerprint);
    assert.deepEqual(again.pinned("office/desk"), key(3));
    assert.deepEqual(
      [1, 2, 3].map((octet) => again.admit("alice/pc", key(octet))),
      [undefined, undefined, "UnknownKey"],
    );
    assert.notEqual(new MemoryKeyring().fingerprint, first.fingerprint);
  });

  it("hands out its contents after each change, as they are then", () => {
    const changes: KeyringContents[] = [];
    const keyring = new MemoryKeyring({ secretKey: key(9) }, { onChanged: (contents) => changes.push(contents) });
    keyring.accept("alice/pc", key(1));
    keyring.meet("office/desk", key(2));
    keyring.meet("office/desk", key(3));
    keyring.pin("office/desk", key(4));
    keyring.withdraw("alice/pc");
    keyring.unpin("office/desk");
    assert.deepEqual(
      changes.map(({ accepted, pins }) => [accepted.size, pins.get("office/desk")?.[0]]),
      [
        [1, undefined],
        [1, 2],
        [1, 4],
        [0, 4],
        [0, undefined],
      ],
    );
    for (const { secretKey } of changes) assert.deepEqual(secretKey, key(9));
  });

  it("does not let a device dial because its key is pinned, nor pin it because it may", () => {
    const keyring = new MemoryKeyring();
    keyring.pin("bob/pc", key(1));
    keyring.meet("carol/pc", key(2));
    assert.equal(keyring.admit("bob/pc", key(1)), "UnknownKey");
    assert.equal(keyring.admit("carol/pc", key(2)), "UnknownKey");
    keyring.accept("alice/pc", key(3));
    assert.equal(keyring.pinned("alice/pc"), undefined);
  });

  it("takes no key of another length", () => {
    const short = new Uint8Array(31);
    const keyring = new MemoryKeyring();
    for (const wrong of [
      () => new MemoryKeyring({ secretKey: short }),
      () => new MemoryKeyring({ pins: new Map([["bob/pc", short]]) }),
      () => new MemoryKeyring({ accepted: new Map([["bob/pc", [key(1), short]]]) }),
      () => keyring.accept("bob/pc", short),
      () => keyring.pin("bob/pc", short),
    ]) {
      assert.throws(wrong, { code: "InvalidOption" });
    }
    assert.equal(keyring.contents.accepted.size + keyring.contents.pins.size, 0);
  });
});

describe("a channel", () => {
  /** A stream from alice to bob, whose key she has pinned. */
  async function dialed(t: TestContext) {
    const edge = new HostileEdge();
    const [alice, bob] = [new MemoryKeyring(), new MemoryKeyring()];
    const [here, there] = [edge.join("alice/pc", alice), edge.join("bob/pc", bob)];
    t.after(() => {
      for (const host of [here, there]) host.end(new DeviceError("Closed", "over"));
    });
    bob.accept("alice/pc", publicKeyOf(alice.secretKey));
    const served = Promise.withResolvers<DeviceStream>();
    there.serve("wait", (stream) => {
      stream.accept();
      served.resolve(stream);
    });
    const stream = await here.dial("bob/pc", "wait");
    return { alice, bob, here, stream, served: await served.promise };
  }

  it("ends at both ends when another key is pinned for the device that was dialed", async (t) => {
    const { alice, here, stream, served } = await dialed(t);
    alice.pin("bob/pc", key(1));
    await assert.rejects(stream.closed, { reason: "ChangedKey" });
    await assert.rejects(served.closed, { reason: "ChangedKey" });
    await assert.rejects(here.dial("bob/pc", "wait"), { reason: "ChangedKey" });
  });

  it("ends when the pin is forgotten, and the next one pins the key again", async (t) => {
    const { alice, bob, here, stream } = await dialed(t);
    alice.unpin("bob/pc");
    await assert.rejects(stream.closed, { reason: "Closed" });
    await here.dial("bob/pc", "wait");
    assert.deepEqual(alice.pinned("bob/pc"), publicKeyOf(bob.secretKey));
  });

  it("goes on when something else is pinned, accepted or withdrawn", async (t) => {
    const { alice, bob, stream, served } = await dialed(t);
    alice.pin("carol/pc", key(1));
    alice.accept("bob/pc", key(2));
    alice.withdraw("bob/pc");
    bob.accept("carol/pc", key(3));
    bob.withdraw("carol/pc");
    bob.pin("alice/pc", key(4));
    const writer = stream.writable.getWriter();
    await writer.write(Uint8Array.of(1));
    assert.deepEqual((await served.readable.getReader().read()).value, Uint8Array.of(1));
  });

  it("ends at both ends when the dialing device is accepted no more", async (t) => {
    const { bob, stream, served } = await dialed(t);
    bob.withdraw("alice/pc");
    await assert.rejects(served.closed, { reason: "NotPermitted" });
    await assert.rejects(stream.closed, { reason: "NotPermitted" });
  });
});
