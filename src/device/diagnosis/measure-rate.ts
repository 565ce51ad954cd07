/**
 * Measures how fast a way carries data: a device sends itself one message and receives it. The message has flag D, so
 * nothing stays at the edge.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { within } from "../../lib/runtime/timeout.ts";
import { PortableDevice } from "../device.ts";
import type { DeviceOptions } from "../options.ts";
import type { Platform } from "../renewed-connection.ts";
import { openTransport } from "../transports/open-transport.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import type { Way } from "../transports/transport.ts";
import { RATE_OCTETS } from "./limits.ts";

export interface RateOptions {
  readonly edge: string;
  readonly token: string | undefined;
  /** A device's address that no device uses. */
  readonly address: string;
  readonly ca: string | undefined;
  readonly proxies: Proxies;
  /** Milliseconds. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

/** A device that uses one way only. */
class DeviceOfWay extends PortableDevice {
  static async open(options: DeviceOptions, platform: Platform): Promise<DeviceOfWay> {
    const device = new DeviceOfWay(options, platform);
    await device.start();
    return device;
  }
}

/**
 * Measures a way.
 *
 * @returns bytes per second there and back; undefined if it failed, or took longer than the timeout
 * @throws the reason of an aborted signal, and nothing else
 */
export async function measureRate(way: Way, options: RateOptions): Promise<number | undefined> {
  const { edge, token, address, ca, proxies, timeout, signal } = options;
  const late = AbortSignal.timeout(timeout);
  const device = DeviceOfWay.open(
    {
      edge,
      address,
      transport: way.transport,
      // It takes nothing that is meant for the identity.
      receive: false,
      signal: AbortSignal.any([signal, late]),
      // The caller has decided that the token may go over this way.
      ...(token !== undefined && { token, allowPlain: !way.secure }),
      ...(ca !== undefined && { ca }),
    },
    {
      open: (transport) => openTransport({ ...transport, way, proxies }),
      ways: async () => [way],
      // What is learnt about the way is not remembered.
      network: () => "",
    },
  );
  try {
    return (await within(timeout, device.then(sendToItself)))?.value;
  } catch {
    return undefined;
  } finally {
    // A device that is not yet connected is closed by its signal.
    await device.then(
      (opened) => opened.close(),
      () => undefined,
    );
    signal.throwIfAborted();
  }
}

async function sendToItself(device: DeviceOfWay): Promise<number | undefined> {
  // Random, because a proxy may compress.
  const body = randomBytes(RATE_OCTETS);
  const start = performance.now();
  const sent = device.send(device.address, body, { onlyIfOnline: true });
  sent.catch(() => undefined);
  for await (const message of device.messages()) {
    // Others wait for a device that will process them.
    if (!body.equals(message.body)) continue;
    message.done();
    return (body.length * 1000) / Math.max(performance.now() - start, 1);
  }
  return undefined;
}
