/**
 * The device in Node: over TCP, TLS and WebSocket. `browser.ts` is the same for browsers.
 *
 * @module
 */
import { getServers } from "node:dns";
import { networkInterfaces } from "node:os";
import { PortableDevice } from "./device.ts";
import { type DeviceOptions, wayOptions } from "./options.ts";
import type { Platform } from "./platform.ts";
import { NODE_AES_GCM, NODE_CHACHA_POLY } from "./streams/node-ciphers.ts";
import { StreamHost } from "./streams/stream-host.ts";
import { findWays } from "./transports/find-ways.ts";
import { openTransport } from "./transports/open-transport.ts";
import { Proxies } from "./transports/proxy/proxy-settings.ts";
import { networkKey } from "./transports/surroundings.ts";
import { wayLimits } from "./transports/way-limits.ts";

/** What Node offers a device. */
function platformOf({ proxy }: DeviceOptions): Platform {
  const proxies = typeof proxy === "object" ? proxy : new Proxies({ proxy });
  const network = () => networkKey({ interfaces: networkInterfaces(), dnsServers: getServers() });
  const limits = wayLimits(network);
  return {
    open: (transport) => openTransport({ ...transport, proxies, wayLimits: limits }),
    ways: async (options) => await findWays(wayOptions(options), proxies),
    network,
    streams: (options) => new StreamHost({ ...options, suites: [NODE_AES_GCM, NODE_CHACHA_POLY] }),
  };
}

/** A device: sends and receives messages through its relay, and reconnects by itself. */
export class Device extends PortableDevice {
  /**
   * Connects a device to its relay. If the relay is busy and says when to retry, keeps trying for up to 30 s.
   *
   * @throws DeviceError ConnectFailed, Refused, TokenRefused, RelayRefused, InvalidOption, Closed
   *
   * @example
   * const device = await Device.connect({ edge: "https://edge.example.com", relay: "relay.example.com", address: "alice/laptop" });
   */
  static async connect(options: DeviceOptions): Promise<Device> {
    const device = new Device(options, platformOf(options));
    await device.start();
    return device;
  }
}
