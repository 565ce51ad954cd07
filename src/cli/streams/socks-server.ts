/**
 * The server's side of SOCKS 5 [RFC 1928], for CONNECT without authentication. Pure: octets in, octets and events out.
 * Names are not resolved here, and are handed on as they came.
 *
 * @module
 */

import type { Target } from "../../edge/policy/destinations.ts";
import { formatAddress } from "../../edge/policy/ip-address.ts";

/** What a request is answered with [RFC 1928 6]. */
export const REPLIES = {
  Succeeded: 0,
  GeneralFailure: 1,
  NotAllowed: 2,
  NetworkUnreachable: 3,
  HostUnreachable: 4,
  ConnectionRefused: 5,
  TimedOut: 6,
  CommandNotSupported: 7,
  AddressTypeNotSupported: 8,
} as const;

export type Reply = keyof typeof REPLIES;

export type SocksServerEvent =
  | { readonly type: "send"; readonly octets: Uint8Array }
  /** Answer with `socksReply`. The octets in `rest` are for the target. */
  | { readonly type: "connect"; readonly target: Target; readonly rest: Uint8Array }
  /** Send this, which may be nothing, and close. */
  | { readonly type: "refused"; readonly octets: Uint8Array; readonly why: string };

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NOTHING_ACCEPTABLE = 0xff;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** Octets of a request before its address. */
const REQUEST_HEAD = 4;

/**
 * One handshake. It holds less than a greeting or request at a time: 262 octets at most.
 *
 * @example
 * const server = new SocksServer();
 * for (const event of server.receive(octets)) ...; // until one is other than "send"
 */
export class SocksServer {
  #held: Uint8Array = new Uint8Array();
  #expects: "greeting" | "request" | "nothing" = "greeting";

  /** To be called with all that arrives, until it returns an event other than "send". */
  receive(octets: Uint8Array): SocksServerEvent[] {
    const joined = new Uint8Array(this.#held.length + octets.length);
    joined.set(this.#held);
    joined.set(octets, this.#held.length);
    this.#held = joined;
    const events: SocksServerEvent[] = [];
    for (let event = this.#next(); event !== undefined; event = this.#next()) events.push(event);
    return events;
  }

  #next(): SocksServerEvent | undefined {
    switch (this.#expects) {
      case "greeting":
        return this.#greeting();
      case "request":
        return this.#request();
      case "nothing":
        return undefined;
    }
  }

  #greeting(): SocksServerEvent | undefined {
    const [version, methods = 0] = this.#held;
    if (version === undefined) return undefined;
    // Who speaks another protocol would not understand an answer.
    if (version !== VERSION) return this.#refuse([], `it speaks no SOCKS 5: its first octet is ${version}`);
    if (this.#held.length < 2 + methods) return undefined;
    const offered = this.#take(2 + methods).subarray(2);
    if (!offered.includes(NO_AUTHENTICATION)) {
      return this.#refuse([VERSION, NOTHING_ACCEPTABLE], "it wants to authenticate, which is not offered");
    }
    this.#expects = "request";
    return { type: "send", octets: Uint8Array.of(VERSION, NO_AUTHENTICATION) };
  }

  #request(): SocksServerEvent | undefined {
    const held = this.#held;
    if (held.length < REQUEST_HEAD) return undefined;
    const [version, command, , type] = held;
    if (version !== VERSION) return this.#refuseBy("GeneralFailure", "its request has another version");
    if (command !== CONNECT) return this.#refuseBy("CommandNotSupported", `it wants the command ${command}`);
    if (type !== IPV4 && type !== IPV6 && type !== NAME) {
      return this.#refuseBy("AddressTypeNotSupported", `it gives an address of type ${type}`);
    }
    const start = type === NAME ? REQUEST_HEAD + 1 : REQUEST_HEAD;
    const length = type === IPV4 ? 4 : type === IPV6 ? 16 : held[REQUEST_HEAD];
    if (length === undefined || held.length < start + length + 2) return undefined;
    const request = this.#take(start + length + 2);
    const address = request.subarray(start, start + length);
    const host = type === NAME ? String.fromCharCode(...address) : addressIn(address);
    const [high = 0, low = 0] = request.subarray(start + length);
    this.#expects = "nothing";
    return { type: "connect", target: { host, port: high * 256 + low }, rest: this.#take(this.#held.length) };
  }

  /** Removes the first octets. */
  #take(count: number): Uint8Array {
    const taken = this.#held.subarray(0, count);
    this.#held = this.#held.subarray(count);
    return taken;
  }

  #refuseBy(reply: Reply, why: string): SocksServerEvent {
    return this.#refuse([...socksReply(reply)], why);
  }

  #refuse(octets: readonly number[], why: string): SocksServerEvent {
    this.#expects = "nothing";
    this.#held = new Uint8Array();
    return { type: "refused", octets: Uint8Array.from(octets), why };
  }
}

/** A reply. The address from which the target is reached is not told. */
export function socksReply(reply: Reply): Uint8Array {
  return Uint8Array.of(VERSION, REPLIES[reply], 0, IPV4, 0, 0, 0, 0, 0, 0);
}

function addressIn(octets: Uint8Array): string {
  const value = octets.reduce((before, octet) => (before << 8n) | BigInt(octet), 0n);
  return formatAddress({ family: octets.length === 4 ? 4 : 6, value });
}
