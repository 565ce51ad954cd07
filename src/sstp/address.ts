/**
 * Addresses, `identity[/device][@relay]`, and the SSTP URLs that they stand for.
 *
 *     alice                             grooveIdentity://alice, grooveAccount://alice
 *     alice/laptop                      grooveDevice://alice/laptop
 *     alice/laptop@relay.example.com    and grooveDNS://relay.example.com
 *
 * The schemes grooveDNS [MS-GRVHENC 2.2.1.1] and grooveAccount are Groove's. grooveIdentity and grooveDevice are
 * assumed: the specification leaves them to the application and only requires URIs of RFC 3986 [MS-GRVSSTP 1.1].
 *
 * A device whose URL has another scheme has an address too: the URL itself, percent-encoded.
 *
 *     grooveDynamics%3A%2F%2Fpeer     grooveDynamics://peer
 *     %3Adevice2                      device2, a URL without `://`
 */

import { type HostPortProblem, parseHostPort } from "../lib/host-port.ts";
import { SSTP_PORT } from "./wire.ts";

/** An identity, optionally with a device and a relay. The parts are plain text, not percent-encoded. */
export interface Address {
  readonly identity: string;
  readonly device?: string;
  /** `host` or `host:port` in lower case, without the default port 2492. */
  readonly relay?: string;
}

/** What an SSTP URL names. */
export type Named =
  | { readonly kind: "identity" | "account"; readonly identity: string }
  | { readonly kind: "device"; readonly identity: string; readonly device: string }
  | { readonly kind: "relay"; readonly relay: string };

/** Maximum octets of an identity or device, percent-encoded. */
export const MAX_NAME_OCTETS = 128;

/** Maximum octets of a URL made or parsed here. */
export const MAX_URL_OCTETS = 512;

/** A malformed address or URL. The message says what to change. */
export class AddressError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "AddressError";
  }
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}

/** Checks a name and percent-encodes everything but the unreserved characters of RFC 3986. */
function encodeName(what: string, name: string): string {
  if (name === "") throw new AddressError(`the ${what} is empty: write identity[/device][@relay]`);
  if (name === "." || name === "..") throw new AddressError(`the ${what} is ${quote(name)}: use a name without dots`);
  if (/\p{Cc}/u.test(name)) throw new AddressError(`the ${what} has a control character: leave it out`);
  let encoded: string;
  try {
    encoded = percentEncoded(name);
  } catch {
    throw new AddressError(`the ${what} has half a surrogate pair: write whole characters`);
  }
  if (encoded.length > MAX_NAME_OCTETS) {
    throw new AddressError(
      `the ${what} is ${encoded.length} bytes long when encoded: shorten it to ${MAX_NAME_OCTETS}`,
    );
  }
  return encoded;
}

/**
 * Percent-encodes everything but the unreserved characters of RFC 3986.
 *
 * @throws URIError for an unpaired surrogate
 */
function percentEncoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function decodeName(what: string, encoded: string): string {
  let name: string;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    throw new AddressError(`the ${what} ${quote(encoded)} has a stray percent sign: write it as %25`);
  }
  encodeName(what, name);
  return name;
}

/** Checks `host[:port]`, lower-cases it and omits the port 2492. */
function normalizeRelay(relay: string): string {
  const parsed = parseHostPort(relay);
  if (typeof parsed === "string") throw new AddressError(WRONG_RELAY[parsed](quote(relay)));
  const { host, port = SSTP_PORT } = parsed;
  return port === SSTP_PORT ? host : `${host}:${port}`;
}

const WRONG_RELAY: Readonly<Record<HostPortProblem, (relay: string) => string>> = {
  address: (relay) => `the relay ${relay} is not an IPv6 address: write it as [::1] or [::1]:443`,
  host: (relay) => `the relay ${relay} is not a host name: write host, host:port or [IPv6]:port`,
  port: (relay) => `the port of the relay ${relay} is not from 1 to 65535: correct it, or leave it out`,
};

/**
 * Parses `identity[/device][@relay]`. Within a name, `/`, `@` and `%` are percent-encoded.
 *
 * @throws AddressError
 */
export function parseAddress(text: string): Address {
  const [left = "", relay, ...more] = text.split("@");
  if (more.length > 0) throw new AddressError(`${quote(text)} has more than one @: write the others as %40`);
  const [identity = "", device, ...rest] = left.split("/");
  if (rest.length > 0) throw new AddressError(`${quote(text)} has more than one /: write the others as %2F`);
  return {
    identity: decodeName("identity", identity),
    ...(device === undefined ? {} : { device: decodeName("device", device) }),
    ...(relay === undefined ? {} : { relay: normalizeRelay(relay) }),
  };
}

/**
 * The canonical text of an address: names percent-encoded, relay in lower case.
 *
 * @throws AddressError if a part is not allowed
 */
export function formatAddress(address: Address): string {
  const device = address.device === undefined ? "" : `/${encodeName("device", address.device)}`;
  const relay = address.relay === undefined ? "" : `@${normalizeRelay(address.relay)}`;
  return encodeName("identity", address.identity) + device + relay;
}

/** `grooveIdentity://alice` (scheme assumed). @throws AddressError */
export function identityURL(address: Pick<Address, "identity">): string {
  return `grooveIdentity://${encodeName("identity", address.identity)}`;
}

/** `grooveAccount://alice`: each identity has an account of the same name. @throws AddressError */
export function accountURL(address: Pick<Address, "identity">): string {
  return `grooveAccount://${encodeName("identity", address.identity)}`;
}

/** `grooveDevice://alice/laptop` (scheme assumed). @throws AddressError if the address has no device */
export function deviceURL(address: Pick<Address, "identity" | "device">): string {
  if (address.device === undefined) {
    throw new AddressError(`${quote(address.identity)} names no device: write identity/device`);
  }
  return `grooveDevice://${encodeName("identity", address.identity)}/${encodeName("device", address.device)}`;
}

/** `grooveDNS://relay.example.com[:port]` [MS-GRVHENC 2.2.1.1]. @throws AddressError */
export function relayURL(relay: string): string {
  return `grooveDNS://${normalizeRelay(relay)}`;
}

/**
 * Parses the URLs made by the four functions above. The scheme is case-insensitive.
 *
 * @throws AddressError
 */
export function parseURL(url: string): Named {
  if (url.length > MAX_URL_OCTETS) {
    throw new AddressError(`the URL has ${url.length} bytes: shorten it to ${MAX_URL_OCTETS}`);
  }
  const match = /^([a-z]+):\/\/(.*)$/is.exec(url);
  const rest = match?.[2] ?? "";
  switch (match?.[1]?.toLowerCase()) {
    case "grooveidentity":
      return { kind: "identity", identity: parseOneName("identity", rest) };
    case "grooveaccount":
      return { kind: "account", identity: parseOneName("account", rest) };
    case "groovedevice": {
      const [identity = "", device, ...more] = rest.split("/");
      if (device === undefined || more.length > 0) {
        throw new AddressError(`${quote(url)} names no device: write grooveDevice://identity/device`);
      }
      return { kind: "device", identity: decodeName("identity", identity), device: decodeName("device", device) };
    }
    case "groovedns":
      return { kind: "relay", relay: normalizeRelay(rest) };
    default:
      throw new AddressError(
        `${quote(url)} is not an SSTP URL: begin it with grooveIdentity, grooveAccount, grooveDevice or grooveDNS`,
      );
  }
}

function parseOneName(what: string, text: string): string {
  if (/[/@]/.test(text)) throw new AddressError(`the ${what} ${quote(text)} has a / or @: write them as %2F and %40`);
  return decodeName(what, text);
}

/**
 * Whether a string is valid in a URL field: not empty, only characters of RFC 3986, and each percent sign followed by
 * two hexadecimal digits. Bare names are valid, since the specification's examples use them (`apphandler`, `device2`).
 */
export function isURL(text: string): boolean {
  return text !== "" && !/[^A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})/.test(text);
}

/** Whether two device URLs are the same. Only relay URLs are case-insensitive, since they hold DNS names. */
export function isSameDevice(one: string, other: string): boolean {
  if (one === other) return true;
  const scheme = /^groovedns:/i;
  return scheme.test(one) && scheme.test(other) && one.toLowerCase() === other.toLowerCase();
}

/**
 * A percent-encoded URL in an address. One without a scheme, which would look like an identity, starts with a colon.
 */
const encodedURL = /^(?:%3A|[A-Za-z][A-Za-z0-9+.-]*%3A%2F%2F)[^/@]*$/i;

/**
 * The address for a device URL: `alice/laptop` for a canonical Grooveway URL, otherwise the URL itself,
 * percent-encoded. Different URLs have different addresses, and no address contains an @.
 */
export function addressOf(url: string): string {
  try {
    const named = parseURL(url);
    if (named.kind === "device" && deviceURL(named) === url) return formatAddress(named);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
  }
  return percentEncoded(/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(url) ? url : `:${url}`);
}

/** A recipient on the wire; `relay` is from its address. */
export interface RecipientURLs {
  readonly identityURL: string;
  /** Empty if the recipient is an identity. */
  readonly deviceURL: string;
  readonly relay?: string;
}

/**
 * The URLs of a recipient, from its address, including one made by {@link addressOf} from a foreign URL.
 *
 * @throws AddressError
 */
export function recipientOf(text: string): RecipientURLs {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  if (encodedURL.test(name)) {
    const decoded = decodeURIComponentOf(name);
    const url = decoded.startsWith(":") ? decoded.slice(1) : decoded;
    if (!isURL(url)) throw new AddressError(`${quote(text)} gives a malformed URL`);
    if (isRelay(url)) throw new AddressError(`${quote(text)} names a relay: name a device or an identity at it`);
    // The identity is unknown but must not be empty. A relay finds the device by its URL.
    const urls = { identityURL: url, deviceURL: url };
    return at < 0 ? urls : { ...urls, relay: normalizeRelay(text.slice(at + 1)) };
  }
  const { relay, ...address } = parseAddress(text);
  return {
    identityURL: identityURL(address),
    deviceURL: address.device === undefined ? "" : deviceURL(address),
    ...(relay !== undefined && { relay }),
  };
}

function decodeURIComponentOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new AddressError(`${quote(text)} has a stray percent sign: write it as %25`);
  }
}

/** Whether a URL names a relay. */
export function isRelay(url: string): boolean {
  return /^groovedns:\/\//i.test(url);
}

/** Whether a URL can name a peer that receives messages, of Grooveway or another product: not a relay or account. */
export function isPeer(url: string): boolean {
  return isURL(url) && !/^groove(dns|account):/i.test(url);
}

/** The identity of an account URL; undefined for any other URL. */
export function accountOf(url: string): Pick<Address, "identity"> | undefined {
  try {
    const named = parseURL(url);
    return named.kind === "account" ? { identity: named.identity } : undefined;
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}
