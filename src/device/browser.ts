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
 * Streams to other devices need a keyring. A page keeps its contents where only its own origin can read them, such as in
 * IndexedDB:
 *
 * ```ts
 * const keyring = new MemoryKeyring(await load(), { onChanged: save });
 * await save(keyring.contents); // a new key is kept before others accept it
 * const device = await Device.connect({ edge, address: "alice/page", token, keyring });
 * const stream = await device.dial("office/desk", "log"); // admitted there by keyring.fingerprint
 * ```
 *
 * @module
 */
import { AES_GCM, CHACHA_POLY } from "../streams/index.ts";
import { PortableDevice } from "./device.ts";
import { type DeviceOptions, wayOptions } from "./options.ts";
import type { Platform } from "./platform.ts";
import { StreamHost } from "./streams/stream-host.ts";
import { candidates } from "./transports/candidates.ts";
import { openWebTransport, WEB_TRANSPORTS, type WebTransportName } from "./transports/open-web-transport.ts";
import { wayLimits } from "./transports/way-limits.ts";

export type { Advice } from "../store-and-forward/reason-advice.ts";
export {
  formatFingerprint,
  isSameKey,
  isServiceName,
  KEY_OCTETS,
  parseFingerprint,
  publicKeyOf,
  type Reason as StreamReason,
} from "../streams/index.ts";
export { DeviceError, type DeviceErrorCode } from "./device-error.ts";
export type { Message, SendOptions, StreamPart } from "./message.ts";
export type { HeldListener } from "./options.ts";
export type {
  RequestHandler,
  RequestHeaders,
  RequestOptions,
  ResponseParts,
  ServiceAnswer,
  ServiceRequest,
} from "./requests.ts";
export { type DeviceStream, StreamError, type StreamPeer } from "./streams/device-stream.ts";
export { type Keyring, type KeyringContents, MemoryKeyring } from "./streams/keyring.ts";
export type { DialOptions, StreamHandler } from "./streams/stream-host.ts";
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
  const limits = wayLimits(network);
  return {
    open: (transport) => openWebTransport({ ...transport, wayLimits: limits }),
    ways: async (options) => WEB_TRANSPORTS.flatMap((transport) => candidates({ ...wayOptions(options), transport })),
    network,
    // The ciphers of the platform only seal later, and records are sealed at once.
    streams: (options) => new StreamHost({ ...options, suites: [CHACHA_POLY, AES_GCM] }),
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
