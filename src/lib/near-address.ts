/**
 * Recognises loopback, private and link-local addresses. Node only: the edge, which dials what devices name, has a
 * stricter list.
 *
 * @module
 */
import { BlockList, isIP } from "node:net";
import { parseIPv4, parseIPv6 } from "./ip-literal.ts";

const NEAR = new BlockList();
for (const [network, bits] of [
  ["127.0.0.0", 8],
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["169.254.0.0", 16],
  ["100.64.0.0", 10],
] as const) {
  NEAR.addSubnet(network, bits, "ipv4");
}
NEAR.addAddress("::1", "ipv6");
NEAR.addSubnet("fc00::", 7, "ipv6");
NEAR.addSubnet("fe80::", 10, "ipv6");

/** Reports whether an IP address is loopback, private or link-local. */
export function isNear(address: string): boolean {
  const bare = address.replace(/%.*$/, "");
  const family = isIP(bare);
  return family !== 0 && NEAR.check(bare, family === 4 ? "ipv4" : "ipv6");
}

/** Reports whether an IP address is a loopback address, in any spelling. */
export function isLoopback(address: string): boolean {
  const four = parseIPv4(address);
  if (four !== undefined) return four >> 24n === 127n;
  const six = parseIPv6(address.toLowerCase());
  // IPv4 in IPv6: ::ffff:127.0.0.1, which URLs write as ::ffff:7f00:1.
  return six !== undefined && (six === 1n || six >> 24n === 0xffff7fn);
}
