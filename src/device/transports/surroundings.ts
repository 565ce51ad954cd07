/**
 * What a device sees of its surroundings: which network it is in, and whether it has slept. Pure.
 *
 * @module
 */
import { parseIPv4, parseIPv6 } from "../../lib/ip-literal.ts";
import { GAP, SLEPT } from "../limits.ts";

/** An address of an interface, as Node's `os.networkInterfaces` has it. */
export interface InterfaceAddress {
  readonly address: string;
  /** With the length of its prefix: `192.168.1.20/24`. */
  readonly cidr: string | null;
  readonly internal: boolean;
}

export interface NetworkSnapshot {
  readonly interfaces: Readonly<Record<string, readonly InterfaceAddress[] | undefined>>;
  /** Addresses of DNS servers. */
  readonly dnsServers: readonly string[];
}

/**
 * Names a network by its prefixes and DNS servers, equal each time a machine returns to it with another address. Empty
 * without a network.
 */
export function networkKey({ interfaces, dnsServers }: NetworkSnapshot): string {
  const prefixes = Object.entries(interfaces).flatMap(([name, addresses = []]) =>
    addresses.flatMap(({ cidr, internal }) => {
      const prefix = internal ? undefined : prefixOf(cidr ?? "");
      return prefix === undefined ? [] : [`${name}=${prefix}`];
    }),
  );
  if (prefixes.length === 0) return "";
  return [...new Set(prefixes)]
    .sort()
    .concat([...dnsServers].sort())
    .join(" ");
}

/** The prefix of an address with the rest set to 0; undefined for one that says nothing about the network. */
function prefixOf(cidr: string): string | undefined {
  const [address = "", length = ""] = cidr.toLowerCase().split("/");
  const [value, width] = address.includes(":") ? [parseIPv6(address), 128n] : [parseIPv4(address), 32n];
  if (value === undefined || !/^[0-9]{1,3}$/.test(length) || BigInt(length) > width) return undefined;
  const rest = width - BigInt(length);
  // Link-local addresses are the same everywhere [RFC 4291 2.5.6].
  if (width === 128n && value >> 118n === 0x3fan) return undefined;
  return `${((value >> rest) << rest).toString(16)}/${length}`;
}

/** Notices sleep and long gaps by the times of two clocks. Call `look` at regular intervals. */
export class SleepWatch {
  #monotonic: number;
  #wall: number;

  constructor(monotonic: number, wall: number) {
    this.#monotonic = monotonic;
    this.#wall = wall;
  }

  /**
   * `slept`: the machine was asleep, as only the wall clock shows, so other ends have gone. `gap`: nothing ran for a
   * while, and there is no telling whether anything has happened.
   *
   * @param monotonic `performance.now()`, which stands still in sleep on some systems
   * @param wall `Date.now()`
   */
  look(monotonic: number, wall: number): "slept" | "gap" | undefined {
    const passed = monotonic - this.#monotonic;
    const jumped = wall - this.#wall - passed;
    this.#monotonic = monotonic;
    this.#wall = wall;
    if (jumped > SLEPT) return "slept";
    return passed > GAP ? "gap" : undefined;
  }
}
