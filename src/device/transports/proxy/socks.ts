/**
 * Asking a SOCKS proxy for a connection: SOCKS 5 [RFC 1928] without authentication or with user name and password
 * [RFC 1929], and SOCKS 4a. Names are resolved by the proxy. Pure: bytes in, bytes and events out.
 *
 * @module
 */
import { parseIPv4, parseIPv6 } from "../../../lib/ip-literal.ts";
import type { Endpoint } from "../endpoint.ts";
import type { Credentials } from "./credentials.ts";

export type SocksEvent =
  | { readonly type: "send"; readonly octets: Uint8Array }
  /** The proxy has connected; `rest` has come from the destination. */
  | { readonly type: "accepted"; readonly rest: Uint8Array }
  /** The proxy wants a user name and password, and none were given; or only kinds of authentication unknown here. */
  | { readonly type: "needsCredentials" }
  | { readonly type: "refusesCredentials" }
  | { readonly type: "refused"; readonly why: string }
  /** No SOCKS answer, or a destination that this version cannot name. */
  | { readonly type: "invalid"; readonly detail: string };

/** One handshake. Call `start`, then `receive` for all that arrives, until an event other than "send". */
export interface SocksHandshake {
  start(): SocksEvent;
  /** Returns undefined while more bytes are needed. */
  receive(octets: Uint8Array): SocksEvent | undefined;
  /** Handles the end of the connection. */
  ended(): SocksEvent;
  /** Whether the proxy has been sent something from which it can judge the password. */
  readonly hasSentPassword: boolean;
}

/** Replies of SOCKS 5 [RFC 1928 6]. */
const REPLIES: Readonly<Record<number, string>> = {
  1: "general failure",
  2: "not allowed by its rules",
  3: "the network is unreachable",
  4: "the host is unreachable, or its name has no address",
  5: "the destination refused the connection",
  6: "the connection timed out",
  7: "it does not support connecting",
  8: "it does not support this type of address",
};

const NO_AUTHENTICATION = 0;
const USER_AND_PASSWORD = 2;
const NOTHING_ACCEPTABLE = 0xff;

/** The longest name, user name and password: their lengths are one byte. */
const LONGEST = 255;

/** The longest answer of either version: a reply of SOCKS 5 with a name. */
const LONGEST_ANSWER = 4 + 1 + LONGEST + 2;

export function socks5(to: Endpoint, credentials: Credentials | undefined): SocksHandshake {
  const address = addressOf(to.host);
  const user = credentials && encode(credentials.user);
  const password = credentials && encode(credentials.password);
  let expects: "method" | "authentication" | "reply" = "method";
  let hasSentPassword = false;
  const request = (): SocksEvent => {
    expects = "reply";
    if (address === undefined) return { type: "invalid", detail: "The name of the destination is too long." };
    return send([5, 1, 0, ...address, to.port >> 8, to.port & 0xff]);
  };
  return {
    start() {
      if ((user?.length ?? 0) > LONGEST || (password?.length ?? 0) > LONGEST) {
        return { type: "invalid", detail: "SOCKS allows 255 bytes for a user name and for a password." };
      }
      return send(user === undefined ? [5, 1, NO_AUTHENTICATION] : [5, 2, NO_AUTHENTICATION, USER_AND_PASSWORD]);
    },
    receive: collecting((octets) => {
      switch (expects) {
        case "method": {
          const [version, method] = octets;
          if (version !== undefined && version !== 5) return notSocks();
          if (method === undefined) return undefined;
          if (method === NO_AUTHENTICATION) return request();
          if (method === NOTHING_ACCEPTABLE) return { type: "needsCredentials" };
          if (method !== USER_AND_PASSWORD || user === undefined || password === undefined) return notSocks();
          expects = "authentication";
          hasSentPassword = true;
          return send([1, user.length, ...user, password.length, ...password]);
        }
        case "authentication": {
          const [, status] = octets;
          if (status === undefined) return undefined;
          if (status !== 0) return { type: "refusesCredentials" };
          return request();
        }
        case "reply": {
          const [version, reply, , type, length] = octets;
          if (version !== undefined && version !== 5) return notSocks();
          // A refusal may be cut short.
          if (reply !== undefined && reply !== 0) return { type: "refused", why: REPLIES[reply] ?? `reply ${reply}` };
          if (type === undefined) return undefined;
          if (type !== 1 && type !== 3 && type !== 4) return notSocks();
          if (length === undefined) return undefined;
          const end = 4 + (type === 1 ? 4 : type === 4 ? 16 : 1 + length) + 2;
          return octets.length < end ? undefined : { type: "accepted", rest: octets.subarray(end) };
        }
      }
    }),
    // A proxy closes the connection after a wrong password [RFC 1929 2], some before their answer has arrived.
    ended: () => (expects === "authentication" ? { type: "refusesCredentials" } : closed()),
    get hasSentPassword() {
      return hasSentPassword;
    },
  };
}

/** SOCKS 4a has a user name without a password, and no IPv6 addresses. */
export function socks4(to: Endpoint, credentials: Credentials | undefined): SocksHandshake {
  return {
    start() {
      const user = encode(credentials?.user ?? "");
      if (to.host.includes(":")) return { type: "invalid", detail: "SOCKS 4 knows no IPv6 addresses; use socks5://." };
      if (user.includes(0)) return { type: "invalid", detail: "The user name contains a NUL." };
      const literal = bytesOf(parseIPv4(to.host), 4);
      // 0.0.0.x says that a name follows.
      const [address, name] =
        literal === undefined
          ? [
              [0, 0, 0, 1],
              [...encode(to.host), 0],
            ]
          : [literal, []];
      return send([4, 1, to.port >> 8, to.port & 0xff, ...address, ...user, 0, ...name]);
    },
    receive: collecting((octets) => {
      const [version, reply] = octets;
      if (version !== undefined && version !== 0) return notSocks();
      if (octets.length < 8) return undefined;
      if (reply === 90) return { type: "accepted", rest: octets.subarray(8) };
      if (reply === 92 || reply === 93) return { type: "refused", why: "it cannot verify the user by identd" };
      return reply === 91 ? { type: "refused", why: "rejected, or the connection failed" } : notSocks();
    }),
    ended: closed,
    hasSentPassword: false,
  };
}

/** Gathers the bytes of one answer at a time. */
function collecting(
  read: (octets: Uint8Array) => SocksEvent | undefined,
): (octets: Uint8Array) => SocksEvent | undefined {
  let held: Uint8Array = new Uint8Array();
  return (octets) => {
    const joined = new Uint8Array(held.length + octets.length);
    joined.set(held);
    joined.set(octets, held.length);
    const event = read(joined);
    // The answers that a message of ours follows have two bytes.
    held = event === undefined ? joined : joined.subarray(event.type === "send" ? 2 : joined.length);
    // Unreachable with a proxy that keeps to the grammar.
    if (held.length > LONGEST_ANSWER) return notSocks();
    return event;
  };
}

/** Type and bytes of an address [RFC 1928 5]; undefined if the name is too long. */
function addressOf(host: string): readonly number[] | undefined {
  const four = bytesOf(parseIPv4(host), 4);
  if (four !== undefined) return [1, ...four];
  const six = bytesOf(parseIPv6(host.toLowerCase()), 16);
  if (six !== undefined) return [4, ...six];
  const name = encode(host);
  return name.length > LONGEST ? undefined : [3, name.length, ...name];
}

function bytesOf(value: bigint | undefined, length: number): number[] | undefined {
  if (value === undefined) return undefined;
  return Array.from({ length }, (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn));
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function send(octets: readonly number[]): SocksEvent {
  return { type: "send", octets: Uint8Array.from(octets) };
}

function closed(): SocksEvent {
  return { type: "invalid", detail: "It closed the connection without an answer." };
}

function notSocks(): SocksEvent {
  return { type: "invalid", detail: "It does not speak this version of SOCKS." };
}
