/** Streams where there is no edge, or one at one end only. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Device, MemoryKeyring } from "../../../src/device/index.ts";
import { publicKeyOf } from "../../../src/streams/index.ts";
import { atEdge, atRelay, edgeFor, originRelay } from "../../edge/link/link-support.ts";
import { digestOf, expectedDigest, piecesOf, sendAll } from "./support.ts";

const MIB = 1024 * 1024;

function keyrings() {
  const [mine, theirs] = [new MemoryKeyring(), new MemoryKeyring()];
  return { mine, theirs, accept: (address: string) => theirs.accept(address, publicKeyOf(mine.secretKey)) };
}

async function echoed(here: Device, there: Device, to: string): Promise<void> {
  there.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
  const stream = await here.dial(to, "echo");
  const [, came] = await Promise.all([sendAll(stream, piecesOf(8 * MIB, to)), digestOf(stream)]);
  assert.equal(came.digest, expectedDigest(piecesOf(8 * MIB, to)));
  await stream.closed;
}

describe("a stream", () => {
  it("between two devices of an origin relay carries all bytes", async (t) => {
    const relay = await originRelay(t);
    const { mine, theirs, accept } = keyrings();
    accept("alice/pc");
    const alice = await atRelay(t, relay.port, "alice/pc", { keyring: mine, receive: "streams" });
    const bob = await atRelay(t, relay.port, "bob/pc", { keyring: theirs, receive: "streams" });
    await echoed(alice, bob, "bob/pc");
  });

  it("from a device of an edge to one of an origin relay carries all bytes", async (t) => {
    const relay = await originRelay(t);
    const edge = await edgeFor(t, [relay.port]);
    const { mine, theirs, accept } = keyrings();
    const place = `127.0.0.1:${relay.port}`;
    accept("alice/pc@localhost");
    const alice = await atEdge(t, edge, "alice/pc", "websocket", { keyring: mine, receive: "streams" });
    const bob = await atRelay(t, relay.port, "bob/pc", { keyring: theirs, receive: "streams" });
    await echoed(alice, bob, `bob/pc@${place}`);
  });
});
