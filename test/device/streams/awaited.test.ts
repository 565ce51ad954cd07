/** What a transport is told of programs that wait for data of a stream. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { PortableDevice } from "../../../src/device/device.ts";
import { type DeviceOptions, MemoryKeyring, openTransport, type TransportOptions } from "../../../src/device/index.ts";
import type { Platform } from "../../../src/device/platform.ts";
import { StreamHost } from "../../../src/device/streams/stream-host.ts";
import { CHACHA_POLY } from "../../../src/streams/index.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { admit, streamer } from "./support.ts";

const context = afterAll();

class WatchedDevice extends PortableDevice {
  static async connect(options: DeviceOptions, platform: Platform): Promise<WatchedDevice> {
    const device = new WatchedDevice(options, platform);
    await device.start();
    return device;
  }
}

it("a transport knows since when no byte of a stream has moved, and whether there is a stream", async () => {
  const edge = await startEdge(context);
  const bob = await streamer(edge, "bob/pc");
  const opened: TransportOptions[] = [];
  const keyring = new MemoryKeyring();
  const transport = "polling";
  const device = await WatchedDevice.connect(
    { edge: edge.url, address: "alice/pc", transport, keyring, receive: "streams" },
    {
      open: (options) => {
        opened.push(options);
        return openTransport(options);
      },
      ways: () => Promise.resolve([]),
      network: () => "",
      streams: (options) => new StreamHost({ ...options, suites: [CHACHA_POLY] }),
    },
  );
  admit(bob, { device, keyring, address: "alice/pc" });
  bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
  const since = () => opened.at(-1)?.awaitedSince?.();
  assert.equal(since(), undefined);
  const stream = await device.dial("bob/pc", "echo");
  const dialed = since() ?? 0;
  assert.ok(dialed > 0 && dialed <= performance.now());
  const [writer, reader] = [stream.writable.getWriter(), stream.readable.getReader()];
  await writer.write(Buffer.from("k"));
  const written = since() ?? 0;
  assert.ok(written > dialed);
  await reader.read();
  assert.ok((since() ?? 0) > written);
  await writer.close();
  await reader.read();
  await stream.closed;
  assert.equal(since(), undefined);
  await device.close();
});
