/**
 * The names by which devices reach a local edge.
 *
 * @module
 */
import { hostname, networkInterfaces } from "node:os";
import { readAddress } from "../../edge/policy/ip-address.ts";
import { bracketed } from "../../lib/host-port.ts";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/**
 * Returns the names that an edge answers to: those given by its operator, then the hosts of all URLs that reach its
 * listening address. The edge calls itself by the first one.
 *
 * @param host the listening address
 * @param said names given by the operator
 * @param relays allow list of origin relays. A name of this machine that is listed here means the relay, unless the
 *   operator gave it to the edge.
 */
export function edgeNames(host: string, said: readonly string[], relays: readonly string[] = []): string[] {
  const here = namesOfHost(host.toLowerCase()).filter((name) => !isRelay(name, relays));
  const names = [...said.map((name) => bracketed(name.toLowerCase())), ...here];
  // An edge must have at least one name.
  return names.length > 0 ? [...new Set(names)] : [bracketed(host.toLowerCase())];
}

function namesOfHost(host: string): string[] {
  if (host === "0.0.0.0" || host === "::") {
    const families = host === "::" ? ["IPv4", "IPv6"] : ["IPv4"];
    const addresses = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      // Skip link-local addresses: they need a zone, which URLs cannot have.
      .filter(({ family, address }) => families.includes(family) && !address.startsWith("fe80:"))
      .map(({ address }) => bracketed(address));
    return [...LOOPBACK.filter((name) => host === "::" || name !== "[::1]"), hostname().toLowerCase(), ...addresses];
  }
  const reading = readAddress(host);
  const loopback = host === "localhost" || host === "::1" || (reading.type === "address" && host.startsWith("127."));
  return loopback ? [bracketed(host), ...LOOPBACK] : [bracketed(host)];
}

function isRelay(name: string, relays: readonly string[]): boolean {
  return relays.some((relay) => [name, `${name}:2492`].includes(relay.toLowerCase()));
}
