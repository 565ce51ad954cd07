/**
 * Addresses of networks that are this machine's own: loopback, private and link-local ones. Node's: the edge, which dials
 * what devices name, has a stricter list.
 *
 * @module
 */
import { BlockList, isIP } from "node:net";

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

/** Whether an IP address is of a network of this machine's own. */
export function isNear(address: string): boolean {
  const bare = address.replace(/%.*$/, "");
  const family = isIP(bare);
  return family !== 0 && NEAR.check(bare, family === 4 ? "ipv4" : "ipv6");
}

/** Whether an IP address is one that only this machine has. */
export function isLoopback(address: string): boolean {
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}
