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
 *
 * Programs that run at the same time on one device have a name each, as its instances:
 *
 *     alice/laptop~k3v90q2a           an instance of alice/laptop
 *
 * Rules and keys are of devices: who may use or reach a device may do so with its instances.
 *
 * The inboxes of a peer have URLs too, which only an edge writes, as the sources of what they take in:
 *
 *     grooveInbox://bob/github           the inbox github of the identity bob
 *     grooveInbox://bob/laptop/github    that of a device
 */

import { type HostPortProblem, parseHostPort } from "../lib/host-port.ts";
import type { Result } from "../lib/result.ts";
import { quoted } from "../lib/setting.ts";
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

/** An address or URL read from text; otherwise what to change, as a clause. */
export type Parsed<T> = Result<T, string>;

/**
 * Thrown by the functions that write a URL or an address, for a part that cannot be written: the caller has not checked
 * it. The message says what to change. Text from elsewhere is checked by the functions that parse, which throw nothing.
 */
export class AddressError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "AddressError";
  }
}

function right<T>(value: T): Parsed<T> {
  return { ok: true, value };
}

function wrong(problems: string): Parsed<never> {
  return { ok: false, problems };
}

/** @throws AddressError */
function written<T>(parsed: Parsed<T>): T {
  if (parsed.ok) return parsed.value;
  throw new AddressError(parsed.problems);
}

/** Checks a name and percent-encodes everything but the unreserved characters of RFC 3986. */
function encoded(what: string, name: string): Parsed<string> {
  if (name === "") return wrong(`the ${what} is empty: write identity[/device][@relay]`);
  if (name === "." || name === "..") return wrong(`the ${what} is ${quoted(name)}: use a name without dots`);
  if (/\p{Cc}/u.test(name)) return wrong(`the ${what} has a control character: leave it out`);
  if (!name.isWellFormed()) return wrong(`the ${what} has half a surrogate pair: write whole characters`);
  const text = percentEncoded(name);
  return text.length <= MAX_NAME_OCTETS
    ? right(text)
    : wrong(`the ${what} is ${text.length} bytes long when encoded: shorten it to ${MAX_NAME_OCTETS}`);
}

/**
 * Percent-encodes everything but the unreserved characters of RFC 3986.
 *
 * @throws URIError for an unpaired surrogate
 */
function percentEncoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function decoded(what: string, text: string): Parsed<string> {
  const name = percentDecoded(text);
  if (name === undefined) return wrong(`the ${what} ${quoted(text)} has a stray percent sign: write it as %25`);
  const checked = encoded(what, name);
  return checked.ok ? right(name) : checked;
}

/** Undefined if a percent sign does not begin an octet of UTF-8. */
function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Checks `host[:port]`, lower-cases it and omits the port 2492. */
export function parseRelayName(relay: string): Parsed<string> {
  const parsed = parseHostPort(relay);
  if (typeof parsed === "string") return wrong(WRONG_RELAY[parsed](quoted(relay)));
  const { host, port = SSTP_PORT } = parsed;
  return right(port === SSTP_PORT ? host : `${host}:${port}`);
}

const WRONG_RELAY: Readonly<Record<HostPortProblem, (relay: string) => string>> = {
  address: (relay) => `the relay ${relay} is not an IPv6 address: write it as [::1] or [::1]:443`,
  host: (relay) => `the relay ${relay} is not a host name: write host, host:port or [IPv6]:port`,
  port: (relay) => `the port of the relay ${relay} is not from 1 to 65535: correct it, or leave it out`,
};

/** Parses `identity[/device][@relay]`. Within a name, `/`, `@` and `%` are percent-encoded. */
export function parseAddress(text: string): Parsed<Address> {
  const [left = "", at, ...more] = text.split("@");
  if (more.length > 0) return wrong(`${quoted(text)} has more than one @: write the others as %40`);
  const [name = "", part, ...rest] = left.split("/");
  if (rest.length > 0) return wrong(`${quoted(text)} has more than one /: write the others as %2F`);
  const identity = decoded("identity", name);
  if (!identity.ok) return identity;
  const device = part === undefined ? undefined : decoded("device", part);
  if (device?.ok === false) return device;
  const relay = at === undefined ? undefined : parseRelayName(at);
  if (relay?.ok === false) return relay;
  return right({
    identity: identity.value,
    ...(device && { device: device.value }),
    ...(relay && { relay: relay.value }),
  });
}

/** What follows the name of a device in that of an instance. Eight of 32 characters: two of a thousand meet once in 10^6. */
const INSTANCE = /(?<=.)~[0-9a-v]{8}$/s;

/** The name of a device, given that of one of its instances or its own. */
export function withoutInstance(device: string): string {
  return device.replace(INSTANCE, "");
}

/** The name of a new instance of a device. It may be too long for an address. */
export function newInstance(device: string): string {
  const random = crypto.getRandomValues(new Uint8Array(8));
  return `${withoutInstance(device)}~${Array.from(random, (octet) => (octet % 32).toString(32)).join("")}`;
}

/**
 * The canonical text of an address: names percent-encoded, relay in lower case.
 *
 * @throws AddressError if a part is not allowed
 */
export function formatAddress(address: Address): string {
  const device = address.device === undefined ? "" : `/${encodeName("device", address.device)}`;
  const relay = address.relay === undefined ? "" : `@${written(parseRelayName(address.relay))}`;
  return encodeName("identity", address.identity) + device + relay;
}

/** @throws AddressError */
function encodeName(what: string, name: string): string {
  return written(encoded(what, name));
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
    throw new AddressError(`${quoted(address.identity)} names no device: write identity/device`);
  }
  return `grooveDevice://${encodeName("identity", address.identity)}/${encodeName("device", address.device)}`;
}

/** `grooveDNS://relay.example.com[:port]` [MS-GRVHENC 2.2.1.1]. @throws AddressError */
export function relayURL(relay: string): string {
  return `grooveDNS://${written(parseRelayName(relay))}`;
}

/** Parses the URLs made by the four functions above. The scheme is case-insensitive. */
export function parseURL(url: string): Parsed<Named> {
  if (url.length > MAX_URL_OCTETS) return wrong(`the URL has ${url.length} bytes: shorten it to ${MAX_URL_OCTETS}`);
  const match = /^([a-z]+):\/\/(.*)$/is.exec(url);
  const rest = match?.[2] ?? "";
  switch (match?.[1]?.toLowerCase()) {
    case "grooveidentity":
      return oneName("identity", rest);
    case "grooveaccount":
      return oneName("account", rest);
    case "groovedevice": {
      const [name = "", part, ...more] = rest.split("/");
      if (part === undefined || more.length > 0) {
        return wrong(`${quoted(url)} names no device: write grooveDevice://identity/device`);
      }
      const identity = decoded("identity", name);
      if (!identity.ok) return identity;
      const device = decoded("device", part);
      return device.ok ? right({ kind: "device", identity: identity.value, device: device.value }) : device;
    }
    case "groovedns": {
      const relay = parseRelayName(rest);
      return relay.ok ? right({ kind: "relay", relay: relay.value }) : relay;
    }
    default:
      return wrong(
        `${quoted(url)} is not an SSTP URL: begin it with grooveIdentity, grooveAccount, grooveDevice or grooveDNS`,
      );
  }
}

function oneName(kind: "identity" | "account", text: string): Parsed<Named> {
  if (/[/@]/.test(text)) return wrong(`the ${kind} ${quoted(text)} has a / or @: write them as %2F and %40`);
  const identity = decoded(kind, text);
  return identity.ok ? right({ kind, identity: identity.value }) : identity;
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
  const named = parseURL(url);
  if (named.ok && named.value.kind === "device" && deviceURL(named.value) === url) return formatAddress(named.value);
  return percentEncoded(/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(url) ? url : `:${url}`);
}

/** A recipient on the wire; `relay` is from its address. */
export interface RecipientURLs {
  readonly identityURL: string;
  /** Empty if the recipient is an identity. */
  readonly deviceURL: string;
  readonly relay?: string;
}

/** The URLs of a recipient, from its address, including one made by {@link addressOf} from a foreign URL. */
export function recipientOf(text: string): Parsed<RecipientURLs> {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  if (encodedURL.test(name)) {
    const decodedURL = percentDecoded(name);
    if (decodedURL === undefined) return wrong(`${quoted(name)} has a stray percent sign: write it as %25`);
    const url = decodedURL.startsWith(":") ? decodedURL.slice(1) : decodedURL;
    if (!isURL(url)) return wrong(`${quoted(text)} gives a malformed URL`);
    if (isRelay(url)) return wrong(`${quoted(text)} names a relay: name a device or an identity at it`);
    // The identity is unknown but must not be empty. A relay finds the device by its URL.
    const urls = { identityURL: url, deviceURL: url };
    if (at < 0) return right(urls);
    const relay = parseRelayName(text.slice(at + 1));
    return relay.ok ? right({ ...urls, relay: relay.value }) : relay;
  }
  const parsed = parseAddress(text);
  if (!parsed.ok) return parsed;
  const { relay, ...address } = parsed.value;
  return right({
    identityURL: identityURL(address),
    deviceURL: address.device === undefined ? "" : deviceURL(address),
    ...(relay !== undefined && { relay }),
  });
}

/** An inbox of a peer. */
export interface InboxName {
  /** URL of the peer. */
  readonly peer: string;
  /** 1 to 32 small letters, digits and hyphens, the first of them no hyphen. */
  readonly name: string;
}

const INBOX = "grooveInbox://";

/** Whether a text can name an inbox. */
export function isInboxName(text: string): boolean {
  return /^[a-z0-9][a-z0-9-]{0,31}$/.test(text);
}

/** The URL of an inbox, `grooveInbox://bob/github`. */
export function inboxURL({ peer, name }: InboxName): string {
  return `${INBOX}${peer.slice(peer.indexOf("://") + "://".length)}/${name}`;
}

/** The inbox that a URL names; undefined if it names none, or is not written as {@link inboxURL} writes it. */
export function inboxIn(url: string): InboxName | undefined {
  if (!url.startsWith(INBOX)) return undefined;
  const parts = url.slice(INBOX.length).split("/");
  const name = parts.pop() ?? "";
  const peer = `${parts.length === 1 ? "grooveIdentity" : "grooveDevice"}://${parts.join("/")}`;
  const named = parseURL(peer);
  if (!isInboxName(name) || !named.ok) return undefined;
  const isCanonical =
    named.value.kind === "device"
      ? deviceURL(named.value) === peer
      : named.value.kind === "identity" && identityURL(named.value) === peer;
  return isCanonical ? { peer, name } : undefined;
}

/** Whether a URL has the scheme of inboxes, by which no device can connect. */
export function isInboxURL(url: string): boolean {
  return url.slice(0, INBOX.length).toLowerCase() === INBOX.toLowerCase();
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
  const named = parseURL(url);
  return named.ok && named.value.kind === "account" ? { identity: named.value.identity } : undefined;
}
