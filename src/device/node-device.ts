/**
 * The device in Node: over TCP, TLS and WebSocket. An entry for browsers would be a file like this one, with transports
 * over `fetch` and `WebSocket`.
 *
 * @module
 */
import { PortableDevice } from "./device.ts";
import type { DeviceOptions } from "./options.ts";
import { bodyLimits } from "./transports/body-limits.ts";
import { openTransport } from "./transports/open-transport.ts";
import { Proxies } from "./transports/proxy/proxy-settings.ts";

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
    const proxies = typeof options.proxy === "object" ? options.proxy : new Proxies({ proxy: options.proxy });
    const limits = bodyLimits();
    const device = new Device(options, (transport) => openTransport({ ...transport, proxies, bodyLimits: limits }));
    await device.start();
    return device;
  }
}
