/** Streams between devices whose Tunnels have a WebSocket to each other: its end loses nothing, and it ends in time. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Device, type DeviceStream, MemoryKeyring, publicKeyOf } from "../../../src/device/index.ts";
import { BatchSockets } from "../../../src/edge/tunnel/batch-sockets.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { drivenWorker } from "../../support/worker.ts";
import { afterAll, mailboxOf } from "../mailbox/support.ts";
import { deviceAt, startAsking } from "../operator.ts";

const code = await drivenWorker();
const PIECES = 96;
const PIECE = 64 * 1024;

let count = 0;

describe("the WebSocket between two Tunnels", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startAsking({ code, dev: "private open" });
    context.after(() => edge.close());
  });

  /** Two devices, and a stream between them that echoes. */
  async function joined(t: TestContext): Promise<{ stream: DeviceStream; near: Device; far: Device }> {
    count += 1;
    const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
    others.accept(`near/${count}`, publicKeyOf(own.secretKey));
    const common = { transport: "websocket", receive: "streams" } as const;
    const far = await deviceAt(t, edge, { ...common, address: `far/${count}`, keyring: others });
    far.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const near = await deviceAt(t, edge, { ...common, address: `near/${count}`, keyring: own });
    return { stream: await near.dial(far.address, "echo"), near, far };
  }

  async function tunnelOf(device: Device): Promise<string> {
    const { consumer = "" } = await (await mailboxOf(edge, `grooveDevice://${device.address}`)).status();
    return consumer;
  }

  /** Sends and reads back; `middle` runs when a third has come back. */
  async function isEchoed(stream: DeviceStream, middle: () => Promise<void> = async () => undefined): Promise<void> {
    const [sent, came] = [createHash("sha256"), createHash("sha256")];
    const writer = stream.writable.getWriter();
    const sending = (async () => {
      for (let piece = 0; piece < PIECES; piece += 1) {
        const octets = randomBytes(PIECE);
        sent.update(octets);
        await writer.write(octets);
      }
    })();
    const reader = stream.readable.getReader();
    let disturbing: Promise<void> | undefined;
    for (let length = 0; length < PIECES * PIECE; ) {
      const { value, done } = await reader.read();
      assert.ok(!done && value !== undefined);
      came.update(value);
      length += value.length;
      if (length > (PIECES * PIECE) / 3) disturbing ??= middle();
    }
    await sending;
    await disturbing;
    writer.releaseLock();
    reader.releaseLock();
    assert.equal(came.digest("hex"), sent.digest("hex"));
  }

  for (const end of ["near", "far"] as const) {
    it(`breaks when the Tunnel at the ${end} end does, and the stream goes on`, { timeout: 120_000 }, async (t) => {
      const { stream, ...devices } = await joined(t);
      await isEchoed(stream, async () => {
        const tunnel = await objectOf<{ crash(): Promise<void> }>(
          edge.miniflare,
          "TUNNEL",
          await tunnelOf(devices[end]),
        );
        await assert.rejects(tunnel.crash());
      });
      await isEchoed(stream);
    });
  }

  it("ends when it is idle: both Tunnels hibernate, and the stream goes on", { timeout: 120_000 }, async (t) => {
    const { stream, near, far } = await joined(t);
    await isEchoed(stream);
    for (const device of [near, far]) {
      await edge.miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name: await tunnelOf(device) });
    }
    await sleep(10);
    assert.ok(near.isConnected && far.isConnected, "a device has lost its connection");
    await isEchoed(stream);
  });
});

it("a WebSocket whose message cannot be handled is closed, and the Tunnel goes on", async () => {
  const context = { acceptWebSocket: () => undefined, getWebSockets: () => [], getTags: () => [] };
  const sockets = new BatchSockets(context, () => "taken");
  const closed: string[] = [];
  const broken = {
    send: () => {
      throw new TypeError("it is closed");
    },
    close: (_: number, reason: string) => void closed.push(reason),
  };
  await sockets.hear(broken as unknown as WebSocket, "ask null");
  assert.deepEqual(closed, ["over"]);
});
