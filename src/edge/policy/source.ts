/**
 * Where a request comes from: what cannot be chosen by whoever sends it, as far as the platform knows it.
 *
 * @module
 */
import { formatAddress, type Network, readStrictAddress } from "./addresses.ts";
import { isTrusted, parseProxies } from "./proxies.ts";

/** The setting of an isolate does not change: it is read once. */
let last: { readonly text: string; readonly networks: readonly Network[] } | undefined;

/**
 * An IPv4 address, or the network of an IPv6 one, of which every household has 2^64. Empty when it is not known.
 *
 * Cloudflare says it in CF-Connecting-IP, whatever the sender has written there. An edge that runs elsewhere knows the
 * other end of its connection, and believes a header only when that end is a proxy that the operator trusts.
 *
 * @param proxies the setting TRUSTED_PROXIES
 */
export function sourceOf(request: Request, proxies = ""): string {
  const peer = peerOf(request);
  const said = request.headers.get("CF-Connecting-IP") ?? "";
  if (peer === undefined) return networkOf(said);
  if (last?.text !== proxies) last = { text: proxies, networks: parseProxies(proxies).networks };
  const { networks } = last;
  if (!isTrusted(peer, networks)) return networkOf(peer);
  const forwarded = request.headers.get("X-Forwarded-For");
  const client = forwarded === null ? said.trim() : clientOf(forwarded, networks);
  return networkOf(client === "" ? peer : client);
}

/** The other end of the connection, which workerd tells and Cloudflare does not. */
function peerOf({ cf }: Request): string | undefined {
  const peer: unknown = cf?.clientIp;
  return typeof peer === "string" ? /^\[?(.*?)\]?:\d+$/.exec(peer)?.[1] : undefined;
}

/**
 * Each proxy appends the address that it was reached from, so the last entry that no trusted proxy of ours has is the
 * client. What stands before it was written by the client itself. Empty when there is none.
 */
function clientOf(forwarded: string, networks: readonly Network[]): string {
  const entries = forwarded.split(",").map((entry) => addressIn(entry.trim()));
  return entries.findLast((entry) => !isTrusted(entry, networks)) ?? "";
}

/** Some proxies write the port as well. */
function addressIn(entry: string): string {
  return /^\[(.*)\](?::\d+)?$/.exec(entry)?.[1] ?? /^([\d.]+):\d+$/.exec(entry)?.[1] ?? entry;
}

/** One spelling for each source; an IPv4 address is itself in IPv6 clothes too, as a socket that listens on :: sees it. */
function networkOf(text: string): string {
  const address = readStrictAddress(text);
  if (address === undefined) return text;
  if (address.family === 4) return formatAddress(address);
  const groups = Array.from({ length: 4 }, (_, n) => ((address.value >> BigInt(112 - 16 * n)) & 0xffffn).toString(16));
  return `${groups.join(":")}::/64`;
}
