/**
 * Where a request comes from: what cannot be chosen by whoever sends it, as far as the platform knows it.
 *
 * @module
 */
import { classify, readStrictAddress } from "./addresses.ts";

/**
 * An IPv4 address, or the network of an IPv6 one, of which every household has 2^64. Empty when it is not known.
 *
 * Cloudflare says it in CF-Connecting-IP, whatever the sender has written there. An edge that runs elsewhere knows the
 * other end of its connection, and believes the header from there only when that is a machine of its own network: a proxy.
 */
export function sourceOf(request: Request): string {
  const said = request.headers.get("CF-Connecting-IP") ?? "";
  const peer = peerOf(request);
  return networkOf(peer === undefined || (said !== "" && !isPublic(peer)) ? said : peer);
}

/** The other end of the connection, which workerd tells and Cloudflare does not. */
function peerOf({ cf }: Request): string | undefined {
  const peer: unknown = cf?.clientIp;
  return typeof peer === "string" ? /^\[?(.*?)\]?:\d+$/.exec(peer)?.[1] : undefined;
}

function isPublic(text: string): boolean {
  if (text.startsWith("127.")) return false;
  const address = readStrictAddress(text);
  return address !== undefined && classify(address) === "public";
}

function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail = ""] = address.toLowerCase().split("::");
  const groups = head.split(":").filter((group) => group !== "");
  const after = tail.split(":").filter((group) => group !== "").length;
  const zeros = address.includes("::") ? 8 - groups.length - after : 0;
  const all = [...groups, ...Array<string>(Math.max(0, zeros)).fill("0"), ...tail.split(":")];
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`;
}
