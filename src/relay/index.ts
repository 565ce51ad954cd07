/**
 * The origin relay for Node: SSTP on TCP 2492, with a durable queue for every device and identity.
 *
 * ```ts
 * const relay = await startRelay({ port: 2492, store: "relay.db" });
 * ```
 *
 * @module
 */
export { type Relay, type RelayOptions, startRelay, TLS_PORT } from "./relay.ts";
