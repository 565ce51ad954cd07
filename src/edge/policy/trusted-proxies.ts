/**
 * The setting TRUSTED_PROXIES: reverse proxies that are believed when they say where a request comes from. Pure.
 *
 * @module
 */
import { firstOf, isWithin, type Network, readStrictAddress } from "./ip-address.ts";

/**
 * What an empty setting means. A proxy on the edge's own machine: whoever runs programs there needs no header to harm the
 * edge. A machine of the same network is not among them, since every guest of that network could choose its source.
 */
const DEFAULT = "127.0.0.0/8 ::1";

/** The word for nobody at all. */
const NOBODY = "none";

export interface Proxies {
  readonly networks: readonly Network[];
  /** The first entry that cannot be read. Nobody is trusted then. */
  readonly malformed: string | undefined;
}

/**
 * Reads the setting: addresses and networks separated by commas or spaces, or `none`.
 *
 * @example
 * parseProxies("10.0.0.7, 2001:db8::/64");
 */
export function parseProxies(text: string): Proxies {
  const entries = (text.trim() === "" ? DEFAULT : text).split(/[\s,]+/).filter((entry) => entry !== "");
  if (entries.length === 1 && entries[0] === NOBODY) return { networks: [], malformed: undefined };
  const networks: Network[] = [];
  for (const entry of entries) {
    const network = networkIn(entry);
    if (network === undefined) return { networks: [], malformed: entry };
    networks.push(network);
  }
  return { networks, malformed: undefined };
}

/** Whether an address, as text, is one of them. */
export function isTrusted(text: string, networks: readonly Network[]): boolean {
  const address = readStrictAddress(text);
  return address !== undefined && networks.some((network) => isWithin(address, network));
}

function networkIn(entry: string): Network | undefined {
  const [, host = "", bits] = /^(.*?)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
  const base = readStrictAddress(host.replace(/^\[(.*)\]$/, "$1"));
  if (base === undefined) return undefined;
  const most = base.family === 4 ? 32 : 128;
  const length = bits === undefined ? most : Number(bits);
  // 10.0.0.1/8 may be meant as one machine or as all: neither is guessed.
  if (length > most || firstOf(base, length).value !== base.value) return undefined;
  return { base, bits: length };
}
