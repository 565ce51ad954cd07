/**
 * The HTTP encapsulations of SSTP [MS-GRVHENC]: LongLived, KeepAlive and Polling, both ends of each, and the request
 * target of this project's own WebSocket encapsulation.
 *
 * Pure: no socket, timer, clock or platform API. Bytes, requests and the time (milliseconds of a monotonic clock) go
 * in; bytes, events, refusals and the next deadline come out.
 *
 * - `registry.ts`: every fixed octet, number, header, status and reason, with section numbers.
 * - `target.ts`: request targets, relay names, GUIDs.
 * - `body-size.ts`: bodies beyond 32768 octets between our own ends.
 * - `hold-time.ts`: GETs of KeepAlive that are held longer between our own ends.
 * - `http-head.ts`, `http-body.ts`: HTTP/1.0 heads and bodies, as a client writes and reads them.
 * - `virtual-connection-server.ts`: the server's end of LongLived and KeepAlive.
 * - `polling-message.ts`, `polling-server.ts`: Polling bodies, and the server's end.
 * - `client-session.ts`: shared by the clients `longlived-client.ts`, `keepalive-client.ts` and `polling-client.ts`.
 *
 * @module
 */

export { OctetQueue } from "../lib/octet-queue.ts";
export * from "./body-size.ts";
export type {
  Authorization,
  Challenge,
  ClientOptions,
  ClientOutput,
  ClientSessionName,
  EncapsulationClient,
  Lost,
} from "./client-session.ts";
export { prefixOf, refusalText, retryAfterOf } from "./client-session.ts";
export { FIRST_HOLD, heldFor, LONGEST_HOLD } from "./hold-time.ts";
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
