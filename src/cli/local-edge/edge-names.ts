/**
 * By which names devices reach an edge on this machine.
 *
 * @module
 */
import { hostname, networkInterfaces } from "node:os";
import { readAddress } from "../../edge/policy/ip-address.ts";

/** An IPv6 address as it stands in a URL; every other host as it is. */
export function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/**
 * The names that an edge knows as its own: those that its operator gives it, and the host of every URL that leads to the
 * address it listens on. The first is the one that it calls itself by.
 *
 * @param host the address listened on
 * @param said names that the operator gives it
 * @param relays allow list of origin relays: one that has a name of this machine is meant by it, unless the operator says
 *   that the edge is
 */
export function edgeNames(host: string, said: readonly string[], relays: readonly string[] = []): string[] {
  const here = namesOfHost(host.toLowerCase()).filter((name) => !isRelay(name, relays));
  const names = [...said.map((name) => bracketed(name.toLowerCase())), ...here];
  // It has to have one.
  return names.length > 0 ? [...new Set(names)] : [bracketed(host.toLowerCase())];
}

function namesOfHost(host: string): string[] {
  if (host === "0.0.0.0" || host === "::") {
    const families = host === "::" ? ["IPv4", "IPv6"] : ["IPv4"];
    const addresses = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      // Link-local addresses need a zone, which no URL has.
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
