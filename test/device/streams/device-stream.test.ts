/** A stream as web streams. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ChannelStream, givenAway } from "../../../src/device/streams/device-stream.ts";
import type { StreamChannel } from "../../../src/streams/index.ts";

/** A stream, and what its channel is given. */
function recorded() {
  const written: Uint8Array[] = [];
  const channel = { write: (_: number, octets: Uint8Array) => written.push(octets), room: () => 1 };
  const owner = {
    channel: channel as unknown as StreamChannel,
    peer: { address: "bob/pc", key: undefined },
    used: () => undefined,
    settle: () => undefined,
  };
  return { stream: new ChannelStream(owner, 1, "echo", true), written };
}

describe("what is written to a stream", () => {
  it("may be changed by the program afterwards", async () => {
    const { stream, written } = recorded();
    const octets = Uint8Array.of(1, 2, 3);
    await stream.writable.getWriter().write(octets);
    octets.fill(9);
    assert.deepEqual(written, [Uint8Array.of(1, 2, 3)]);
  });

  it("is not copied if the program has given it away", async () => {
    const { stream, written } = recorded();
    const octets = Uint8Array.of(1, 2, 3);
    await stream.writable.getWriter().write(givenAway(octets));
    assert.equal(written[0], octets);
  });
});
