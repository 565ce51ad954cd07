/** Streams between two devices of a real edge, as an application sees them. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type DeviceStream, StreamError } from "../../../src/device/index.ts";
import { publicKeyOf } from "../../../src/streams/index.ts";
import { afterAll, connect, mailboxOf, startEdge } from "../../edge/mailbox/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { admit, digestOf, expectedDigest, piecesOf, sendAll, streamer } from "./support.ts";

const MIB = 1024 * 1024;
const encoder = new TextEncoder();

async function textOf({ readable }: DeviceStream): Promise<string> {
  let text = "";
  for await (const piece of readable) text += Buffer.from(piece).toString();
  return text;
}

describe("streams between devices", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  for (const [one, other] of [
    ["websocket", "websocket"],
    ["longlived", "longlived"],
    ["websocket", "keepalive"],
    ["polling", "longlived"],
  ] as const) {
    it(`carry bytes both ways, and each end by itself, over ${one} and ${other}`, async () => {
      const [alice, bob] = await Promise.all([
        streamer(edge, `alice/${one}-${other}`, one),
        streamer(edge, `bob/${one}-${other}`, other),
      ]);
      admit(bob, alice);
      const [octets, seed] = [4 * MIB, "there"];
      bob.device.serve("count", async (stream) => {
        const { octets, digest } = await digestOf(stream);
        // The other end has half-closed, and still reads.
        await sendAll(stream, [encoder.encode(`${octets} ${digest}`)]);
      });
      const stream = await alice.device.dial(bob.address, "count");
      assert.deepEqual(stream.peer, { address: bob.address, key: publicKeyOf(bob.keyring.secretKey) });
      await sendAll(stream, piecesOf(octets, seed));
      assert.equal(await textOf(stream), `${octets} ${expectedDigest(piecesOf(octets, seed))}`);
      await stream.closed;
      await Promise.all([alice.device.close(), bob.device.close()]);
    });
  }

  it("reach a device of an identity, whose key is pinned for the device that answers", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/identity"), streamer(edge, "office/desk")]);
    admit(bob, alice);
    bob.device.serve("name", (stream) => sendAll(stream, [encoder.encode(stream.peer.address)]));
    const stream = await alice.device.dial("office", "name");
    assert.equal(await textOf(stream), alice.address);
    assert.equal(stream.peer.address, "office/desk");
    assert.ok(alice.keyring.pinned("office/desk") !== undefined && alice.keyring.pinned("office") === undefined);
  });

  it("are refused by name: an unknown key, an unknown service, a changed key, a mailbox that is locked", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/refused"), streamer(edge, "bob/refused")]);
    bob.device.serve("echo", () => assert.fail("no stream is opened"));
    const refused = (reason: string) => (error: unknown) => error instanceof StreamError && error.reason === reason;
    await assert.rejects(alice.device.dial(bob.address, "echo"), refused("UnknownKey"));
    admit(bob, alice);
    await assert.rejects(alice.device.dial(bob.address, "other"), refused("ServiceUnknown"));
    const eve = await streamer(edge, "eve/refused");
    eve.keyring.pin(bob.address, publicKeyOf(eve.keyring.secretKey));
    bob.keyring.accept(eve.address, publicKeyOf(eve.keyring.secretKey));
    const both = [1, 2].map(() => assert.rejects(eve.device.dial(bob.address, "echo"), refused("ChangedKey")));
    await Promise.all(both);
    assert.deepEqual(eve.keyring.pinned(bob.address), publicKeyOf(eve.keyring.secretKey));
    await assert.rejects(alice.device.dial(bob.address, "no name"), { code: "InvalidOption" });
    await assert.rejects(alice.device.dial("a/b/c", "echo"), { code: "InvalidOption" });
    const frank = await streamer(edge, "frank/refused");
    await (await mailboxOf(edge, "grooveDevice://frank/refused")).setLocked(true);
    await assert.rejects(alice.device.dial(frank.address, "echo"), { code: "RecipientRefused" });
  });

  it("are reset at both ends, with what was unread", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/reset"), streamer(edge, "bob/reset")]);
    admit(bob, alice);
    const served = Promise.withResolvers<DeviceStream>();
    bob.device.serve("reset", (stream) => served.resolve(stream));
    const dialing = alice.device.dial(bob.address, "reset");
    const there = await served.promise;
    there.accept();
    const here = await dialing;
    await here.writable.abort();
    await assert.rejects(there.closed, { code: "StreamReset", reason: "ConnectionReset" });
    await assert.rejects(there.readable.getReader().read(), { reason: "ConnectionReset" });
    await assert.rejects(here.closed, { reason: "ConnectionReset" });
  });

  it("are plain if both devices want it, and refused by name at both ends if only one does", async () => {
    const refusals: string[] = [];
    const onStreamsRefused = (address: string, reason: string) => refusals.push(`${address} ${reason}`);
    const [bob, carol] = await Promise.all([
      streamer(edge, "bob/plain", "websocket", { plain: true, onStreamsRefused }),
      streamer(edge, "carol/sealed", "websocket", { onStreamsRefused }),
    ]);
    const [plain, sealed] = await Promise.all([
      streamer(edge, "alice/plain", "websocket", { plain: true }),
      streamer(edge, "alice/sealed"),
    ]);
    for (const server of [bob, carol]) {
      for (const client of [plain, sealed]) admit(server, client);
      server.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    }
    for (const [client, server] of [
      [plain, bob],
      [sealed, carol],
    ] as const) {
      const stream = await client.device.dial(server.address, "echo");
      await sendAll(stream, [encoder.encode("hello")]);
      assert.equal(await textOf(stream), "hello");
    }
    const isRefused = { code: "StreamReset", reason: "SuiteRefused" };
    await assert.rejects(plain.device.dial(carol.address, "echo"), isRefused);
    await assert.rejects(sealed.device.dial(bob.address, "echo"), isRefused);
    assert.deepEqual(refusals.sort(), ["alice/plain SuiteRefused", "alice/sealed SuiteRefused"]);
  });

  it("end when trust is withdrawn", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/trust"), streamer(edge, "bob/trust")]);
    admit(bob, alice);
    bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const stream = await alice.device.dial(bob.address, "echo");
    bob.keyring.withdraw(alice.address);
    await assert.rejects(stream.closed, { reason: "NotPermitted" });
    await assert.rejects(alice.device.dial(bob.address, "echo"), { reason: "UnknownKey" });
  });

  it("are slowed down by a reader, and leave the others alone", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/slow"), streamer(edge, "bob/slow")]);
    admit(bob, alice);
    bob.device.serve("unread", (stream) => stream.accept());
    bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const unread = (await alice.device.dial(bob.address, "unread")).writable.getWriter();
    let written = 0;
    void (async () => {
      for (const piece of piecesOf(64 * MIB, "unread")) {
        await unread.write(piece);
        written += piece.length;
      }
    })().catch(() => undefined);
    const echo = await alice.device.dial(bob.address, "echo");
    const [sent, came] = await Promise.all([sendAll(echo, piecesOf(8 * MIB, "echo")), digestOf(echo)]);
    assert.deepEqual([sent, came.digest], [undefined, expectedDigest(piecesOf(8 * MIB, "echo"))]);
    assert.ok(written < 6 * MIB, `${written} bytes were written to a stream that nobody reads`);
  });

  it("need a new channel after the other program was restarted, and get it", async () => {
    const alice = await streamer(edge, "alice/restart");
    const bob = await streamer(edge, "bob/restart");
    admit(bob, alice);
    bob.device.serve("name", (stream) => sendAll(stream, [encoder.encode("first")]));
    assert.equal(await textOf(await alice.device.dial(bob.address, "name")), "first");
    await bob.device.close();
    const again = await streamer(edge, "bob/restart", "longlived", { keyring: bob.keyring });
    again.device.serve("name", (stream) => sendAll(stream, [encoder.encode("second")]));
    assert.equal(await textOf(await alice.device.dial(bob.address, "name")), "second");
  });

  it("are given up by a signal", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/signal"), streamer(edge, "bob/signal")]);
    admit(bob, alice);
    const served = Promise.withResolvers<DeviceStream>();
    bob.device.serve("wait", (stream) => served.resolve(stream));
    const giveUp = new AbortController();
    const dialing = alice.device.dial(bob.address, "wait", { signal: giveUp.signal });
    const there = await served.promise;
    giveUp.abort();
    await assert.rejects(dialing, { code: "Aborted" });
    await assert.rejects(there.closed, { reason: "ConnectionReset" });
  });

  it("are reset by the signal with which they were opened", async () => {
    const [alice, bob] = await Promise.all([streamer(edge, "alice/abort"), streamer(edge, "bob/abort")]);
    admit(bob, alice);
    const served = Promise.withResolvers<DeviceStream>();
    bob.device.serve("wait", (stream) => {
      stream.accept();
      served.resolve(stream);
    });
    const giveUp = new AbortController();
    const here = await alice.device.dial(bob.address, "wait", { signal: giveUp.signal });
    const there = await served.promise;
    giveUp.abort();
    await assert.rejects(here.closed, { reason: "ConnectionReset" });
    await assert.rejects(there.closed, { reason: "ConnectionReset" });
  });

  it("need a keyring", async () => {
    const device = await connect(edge, "alice/none", "websocket");
    await assert.rejects(device.dial("bob/none", "echo"), { code: "InvalidOption" });
    assert.throws(() => device.serve("echo", () => undefined), { code: "InvalidOption" });
  });
});
