/**
 * The device library for web pages, workers and other runtimes without sockets: over WebSocket, and over KeepAlive by
 * `fetch`.
 *
 * ```ts
 * import { Device } from "grooveway/browser";
 *
 * const device = await Device.connect({ edge: "https://edge.example.com", address: "alice/page", token });
 * await device.send("bob", "hello"); // resolves when the edge has stored it
 * ```
 *
 * The platform chooses proxies and certificates. An edge answers pages of any origin if it asks for tokens.
 *
 * @module
 */
import { PortableDevice } from "./device.ts";
import { type DeviceOptions, wayOptions } from "./options.ts";
import type { Platform } from "./renewed-connection.ts";
import { bodyLimits } from "./transports/body-limits.ts";
import { candidates } from "./transports/candidates.ts";
import { openWebTransport, WEB_TRANSPORTS, type WebTransportName } from "./transports/open-web-transport.ts";

export type { Advice } from "../store-and-forward/reason-advice.ts";
export { DeviceError, type DeviceErrorCode } from "./device-error.ts";
export type { Message, SendOptions, StreamPart } from "./message.ts";
export type { HeldListener } from "./options.ts";
export type { WayMemory } from "./transports/network-memory.ts";
export { WEB_TRANSPORTS, type WebTransportName } from "./transports/open-web-transport.ts";

/** Options of `Device.connect` in a browser: those of the device library that a page can choose. */
export interface WebDeviceOptions
  extends Omit<DeviceOptions, "edge" | "transport" | "contentLength" | "proxy" | "ca" | "allowPlain" | "onEdgeLost"> {
  /** URL of the edge. A page that came by `https` needs one by `https`, except on its own machine. */
  readonly edge: string;
  /** Default `auto`: the best that works. */
  readonly transport?: WebTransportName | "auto";
}

/** What a browser offers a device. */
function platformOf(): Platform {
  // A page learns of its network only whether there is one.
  const network = () => {
    const { navigator } = globalThis as { readonly navigator?: { readonly onLine?: boolean } };
    return navigator?.onLine === false ? "" : "online";
  };
  const limits = bodyLimits(network);
  return {
    open: (transport) => openWebTransport({ ...transport, bodyLimits: limits }),
    ways: async (options) => WEB_TRANSPORTS.flatMap((transport) => candidates({ ...wayOptions(options), transport })),
    network,
  };
}

/** A device in a browser: sends and receives messages through its relay, and reconnects by itself. */
export class Device extends PortableDevice {
  /**
   * Connects a device to its edge. If the edge is busy and says when to retry, keeps trying for up to 30 s.
   *
   * @throws DeviceError ConnectFailed, Refused, TokenRefused, RelayRefused, MixedContent, InvalidOption, Closed
   */
  static async connect(options: WebDeviceOptions): Promise<Device> {
    const device = new Device(options, platformOf());
    await device.start();
    return device;
  }
}
