/**
 * Determines where a request comes from, in a way that its sender cannot forge, as far as the platform allows.
 *
 * @module
 */

import { forwardedHops, xForwardedForHops } from "./forwarded.ts";
import { formatAddress, type Network, readStrictAddress } from "./ip-address.ts";
import { isTrusted, readProxies } from "./trusted-proxies.ts";

/** Cached: an isolate's settings do not change. */
let last: { readonly text: string; readonly networks: readonly Network[] } | undefined;

/**
 * Returns the source: an IPv4 address, or the /64 of an IPv6 address, since every household has 2^64 of them. Empty if
 * unknown.
 *
 * On Cloudflare it is CF-Connecting-IP, which Cloudflare always overwrites. An edge elsewhere knows its peer's address,
 * and ignores that header. If the peer is a trusted proxy, the source is the last hop in X-Forwarded-For or Forwarded
 * that is not a trusted proxy itself. If the two headers disagree, a client has written one of them, and the source is
 * the proxy.
 *
 * @param proxies the setting TRUSTED_PROXIES
 */
export function sourceOf(request: Request, proxies = ""): string {
  const { headers } = request;
  const peer = peerOf(request);
  if (peer === undefined) return networkOf(headers.get("CF-Connecting-IP") ?? "");
  const networks = networksOf(proxies);
  if (!isTrusted(peer, networks)) return networkOf(peer);
  const [one, ...others] = listsOf(headers).map((hops) => clientIn(hops, networks));
  if (one === undefined || others.some((other) => other !== one)) return networkOf(peer);
  return one;
}

/**
 * The origin at which a browser that follows the rules sees this edge, such as https://edge.example.com. A trusted proxy
 * says in X-Forwarded-Proto and X-Forwarded-Host what it was asked for; from others these headers are ignored.
 *
 * @param proxies the setting TRUSTED_PROXIES
 * @returns a URL without a path; undefined if the proxy says what is none
 */
export function browserOrigin(request: Request, proxies = ""): URL | undefined {
  const { protocol, host } = new URL(request.url);
  const peer = peerOf(request);
  const isProxied = peer !== undefined && isTrusted(peer, networksOf(proxies));
  // The last value is that of the nearest proxy.
  const said = (name: string) => (isProxied ? request.headers.get(name)?.split(",").at(-1)?.trim() : undefined);
  const scheme = said("X-Forwarded-Proto") ?? protocol.slice(0, -1);
  const text = `${scheme}://${said("X-Forwarded-Host") ?? host}`;
  return /^https?$/.test(scheme) && URL.canParse(text) ? new URL(new URL(text).origin) : undefined;
}

function networksOf(proxies: string): readonly Network[] {
  if (last?.text !== proxies) {
    const read = readProxies(proxies);
    last = { text: proxies, networks: read.ok ? read.value : [] };
  }
  return last.networks;
}

/** The peer's address, which workerd provides and Cloudflare does not. */
function peerOf({ cf }: Request): string | undefined {
  const peer: unknown = cf?.clientIp;
  return typeof peer === "string" ? /^\[?(.*?)\]?:\d+$/.exec(peer)?.[1] : undefined;
}

/** The hops of each header that is present. */
function listsOf(headers: Headers): (readonly string[])[] {
  const [first, second] = [headers.get("X-Forwarded-For"), headers.get("Forwarded")];
  return [
    ...(first === null ? [] : [xForwardedForHops(first)]),
    ...(second === null ? [] : [forwardedHops(second) ?? []]),
  ];
}

/** The source in a list of hops; undefined if all hops are trusted proxies, or the last other one is not an address. */
function clientIn(hops: readonly string[], networks: readonly Network[]): string | undefined {
  const client = hops.findLast((hop) => !isTrusted(hop, networks));
  return client === undefined || readStrictAddress(client) === undefined ? undefined : networkOf(client);
}

/**
 * One spelling per source. An IPv4-mapped IPv6 address, as a socket that listens on :: sees it, is the IPv4 address.
 */
function networkOf(text: string): string {
  const address = readStrictAddress(text);
  if (address === undefined) return text;
  if (address.family === 4) return formatAddress(address);
  const groups = Array.from({ length: 4 }, (_, n) => ((address.value >> BigInt(112 - 16 * n)) & 0xffffn).toString(16));
  return `${groups.join(":")}::/64`;
}
