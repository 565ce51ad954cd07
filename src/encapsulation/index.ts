/**
 * The HTTP encapsulations of SSTP [MS-GRVHENC]: LongLived, KeepAlive and Polling, both ends of each, and the request
 * target of our own WebSocket.
 *
 * Pure: no socket, timer, clock or platform API. Octets, requests and the time (milliseconds of any clock that does
 * not go back) go in; octets, events, refusals and the next deadline come out.
 *
 * - `grammar.ts`: the registry of every fixed octet, number, header, status and reason, with section numbers.
 * - `target.ts`: request targets, relay names, GUIDs.
 * - `http.ts`, `body.ts`: HTTP/1.0 heads and bodies on raw streams.
 * - `virtual-connection.ts`: the server's end of LongLived and KeepAlive.
 * - `polling-message.ts`, `polling-server.ts`: Polling bodies, and its server's end.
 * - `client.ts`: what the three clients share; `longlived.ts`, `keepalive.ts`, `polling-client.ts`: the clients.
 *
 * @module
 */

export type { Challenge, ClientOptions, ClientOutput, EncapsulationClient, Lost } from "./client-session.ts";
export { nameHint, OctetQueue, prefixOf, refusalText, retryAfterOf } from "./client-session.ts";
export * from "./http-body.ts";
export * from "./http-head.ts";
export * from "./keepalive-client.ts";
export * from "./longlived-client.ts";
export * from "./polling-client.ts";
export type { Poll, PollParameters } from "./polling-message.ts";
export { checksumOf, formatPoll, parsePoll, parsePollResponse, pollRoom } from "./polling-message.ts";
export * from "./polling-server.ts";
export * from "./registry.ts";
export * from "./target.ts";
export * from "./virtual-connection-server.ts";
