/**
 * Where a request comes from: what cannot be chosen by whoever sends it, as far as the platform knows it.
 *
 * @module
 */

import { forwardedHops, xForwardedForHops } from "./forwarded.ts";
import { formatAddress, type Network, readStrictAddress } from "./ip-address.ts";
import { isTrusted, parseProxies } from "./trusted-proxies.ts";

/** The setting of an isolate does not change: it is read once. */
let last: { readonly text: string; readonly networks: readonly Network[] } | undefined;

/**
 * An IPv4 address, or the network of an IPv6 one, of which every household has 2^64. Empty when it is not known.
 *
 * On Cloudflare it is CF-Connecting-IP, which Cloudflare sets whatever the sender has written there. An edge that runs
 * elsewhere knows the other end of its connection, and never believes that header. If that end is a trusted proxy, it is
 * the last hop in X-Forwarded-For or Forwarded that is not a trusted proxy itself; if the two headers disagree, a client
 * has written one of them, and the proxy is the source.
 *
 * @param proxies the setting TRUSTED_PROXIES
 */
export function sourceOf(request: Request, proxies = ""): string {
  const { headers } = request;
  const peer = peerOf(request);
  if (peer === undefined) return networkOf(headers.get("CF-Connecting-IP") ?? "");
  if (last?.text !== proxies) last = { text: proxies, networks: parseProxies(proxies).networks };
  const { networks } = last;
  if (!isTrusted(peer, networks)) return networkOf(peer);
  const [one, ...others] = listsOf(headers).map((hops) => clientIn(hops, networks));
  if (one === undefined || others.some((other) => other !== one)) return networkOf(peer);
  return one;
}

/** The other end of the connection, which workerd tells and Cloudflare does not. */
function peerOf({ cf }: Request): string | undefined {
  const peer: unknown = cf?.clientIp;
  return typeof peer === "string" ? /^\[?(.*?)\]?:\d+$/.exec(peer)?.[1] : undefined;
}

/** The hops by each of the headers that are there. */
function listsOf(headers: Headers): (readonly string[])[] {
  const [first, second] = [headers.get("X-Forwarded-For"), headers.get("Forwarded")];
  return [
    ...(first === null ? [] : [xForwardedForHops(first)]),
    ...(second === null ? [] : [forwardedHops(second) ?? []]),
  ];
}

/** The source by a list of hops; undefined when the last that no trusted proxy has is not an address, or there is none. */
function clientIn(hops: readonly string[], networks: readonly Network[]): string | undefined {
  const client = hops.findLast((hop) => !isTrusted(hop, networks));
  return client === undefined || readStrictAddress(client) === undefined ? undefined : networkOf(client);
}

/** One spelling for each source; an IPv4 address is itself in IPv6 clothes too, as a socket that listens on :: sees it. */
function networkOf(text: string): string {
  const address = readStrictAddress(text);
  if (address === undefined) return text;
  if (address.family === 4) return formatAddress(address);
  const groups = Array.from({ length: 4 }, (_, n) => ((address.value >> BigInt(112 - 16 * n)) & 0xffffn).toString(16));
  return `${groups.join(":")}::/64`;
}
