/**
 * Plain TCP behind the interface of an encapsulation: bytes pass unchanged on one session.
 *
 * @module
 */
import type { EncapsulationClient } from "../../encapsulation/index.ts";

/** A client without encapsulation. The transport declares it established once the socket is connected. */
export function rawClient(): EncapsulationClient {
  return {
    pending: 0,
    remaining: Number.POSITIVE_INFINITY,
    deadline: Number.POSITIVE_INFINITY,
    start: () => [{ type: "open", session: "get" }],
    feed: (_session, octets) => [{ type: "data", data: octets }],
    ended: () => [{ type: "lost", reason: "SessionEnded", detail: "The TCP connection ended." }],
    send: (octets) => [{ type: "write", session: "get", octets: octets instanceof Uint8Array ? [octets] : octets }],
    expire: () => [],
    close: () => [{ type: "close", session: "get" }],
  };
}
