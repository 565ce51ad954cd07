/**
 * SSTP, the Simple Symmetric Transport Protocol [MS-GRVSSTP], without any I/O: wire registry, codec, connection engine
 * and addresses.
 *
 * ```ts
 * const connection = new Connection({
 *   role: "client",
 *   outbound: true,
 *   localDeviceURLs: [deviceURL({ identity: "alice", device: "laptop" })],
 *   now: clock(),
 * });
 * connection.connect(relayURL("relay.example.com"));
 * for (const block of connection.output()) socket.write(block);
 *
 * socket.on("data", (chunk) => {
 *   for (const event of connection.receive(chunk, clock())) {
 *     if (event.type === "connected") {
 *       connection.open({ resourceURL: "mail", identityURL: identityURL({ identity: "bob" }), deviceURL: "" });
 *     } else if (event.type === "sessionState" && event.state === "ready") {
 *       connection.beginMessage(event.sessionId, { userRef: "message-1" });
 *       connection.data(event.sessionId, body);
 *       connection.endMessage(event.sessionId);
 *     }
 *   }
 *   for (const block of connection.output()) socket.write(block);
 * });
 * ```
 *
 * A timer must also call `advance` at `deadline`.
 *
 * @module
 */

export { joinOctets } from "../lib/octets.ts";
export * from "./address.ts";
export * from "./command-boundary.ts";
export type { Availability } from "./connection.ts";
export { Connection } from "./connection.ts";
export type { ConnectionOptions, ConnectionState } from "./connection-state.ts";
export type { CommandSink } from "./decoder.ts";
export { Decoder, decode, textOf } from "./decoder.ts";
export { encode, encodeDataInto } from "./encoder.ts";
export * from "./events.ts";
export { isMultidrop } from "./fanout.ts";
export { OUTPUT_BLOCK_OCTETS } from "./output-buffer.ts";
export type { InboundSession, OutboundSession, SecuritySession, Session, SessionState } from "./sessions.ts";
export { ENTRY_COST } from "./sessions.ts";
export type { ConnectionSnapshot } from "./snapshot.ts";
export * from "./stream-resource.ts";
export * from "./wire.ts";
export type { WireErrorCode } from "./wire-error.ts";
export { WireError } from "./wire-error.ts";
