/**
 * The device library: messages between devices that may only make outgoing connections.
 *
 * ```ts
 * const device = await Device.connect({ edge: "https://edge.example.com", relay: "relay.example.com", address: "alice/laptop" });
 * await device.send("bob", "hello"); // resolves when the relay has stored it
 * for await (const message of device.messages()) {
 *   console.log(message.from, message.text());
 *   message.done();
 * }
 * ```
 *
 * @module
 */
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
export {
  type Check,
  type DiagnosedWay,
  type DiagnoseOptions,
  type Diagnosis,
  diagnose,
  type Finding,
  type Status,
  type Verdict,
} from "./diagnosis/index.ts";
export type { Message, SendOptions, StreamPart } from "./message.ts";
export { Device } from "./node-device.ts";
export type { DeviceOptions, EdgeOption, HeldListener } from "./options.ts";
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
export type { Dialler, Patience } from "./transports/dial.ts";
export type { Endpoint } from "./transports/endpoint.ts";
export { NetworkMemory, type WayMemory } from "./transports/network-memory.ts";
export { type NodeTransportOptions, openTransport } from "./transports/open-transport.ts";
export type { Credentials, ProxyAccount, RefusedPasswords } from "./transports/proxy/credentials.ts";
export { Proxies, type ProxyOptions } from "./transports/proxy/proxy-settings.ts";
export {
  CAPABILITIES,
  TRANSPORTS,
  type Transport,
  type TransportName,
  type TransportOptions,
  type Way,
} from "./transports/transport.ts";
