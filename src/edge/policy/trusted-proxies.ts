/**
 * The setting TRUSTED_PROXIES: reverse proxies that are trusted to name the client of a request. Pure.
 *
 * @module
 */
import { unbracketed } from "../../lib/host-port.ts";
import { entriesOf, malformed, type Setting } from "../../lib/setting.ts";
import { firstOf, isWithin, type Network, readStrictAddress } from "./ip-address.ts";

/**
 * The default: proxies on the edge's own machine. Anyone who runs programs there can harm the edge without a header.
 * Other machines of the network are not included, since every guest of that network could then choose its source.
 */
const DEFAULT = "127.0.0.0/8 ::1";

/** The word that trusts no proxy. */
const NOBODY = "none";

/**
 * Reads the setting: addresses and networks separated by commas or spaces, or `none`. If an entry is malformed, no
 * proxy is to be trusted.
 *
 * @example
 * readProxies("10.0.0.7, 2001:db8::/64");
 */
export function readProxies(text: string): Setting<readonly Network[]> {
  const entries = entriesOf(text.trim() === "" ? DEFAULT : text);
  if (entries.length === 1 && entries[0] === NOBODY) return { ok: true, value: [] };
  const networks: Network[] = [];
  for (const entry of entries) {
    const network = networkIn(entry);
    if (network === undefined) {
      const problem = `has ${JSON.stringify(entry)}, which is neither an address nor the first address of a network`;
      return malformed("TRUSTED_PROXIES", problem, "write 10.0.0.7 or 10.0.0.0/24 (--trusted-proxy), or none");
    }
    networks.push(network);
  }
  return { ok: true, value: networks };
}

/** Whether an address, as text, is a trusted proxy's. */
export function isTrusted(text: string, networks: readonly Network[]): boolean {
  const address = readStrictAddress(text);
  return address !== undefined && networks.some((network) => isWithin(address, network));
}

function networkIn(entry: string): Network | undefined {
  const [, host = "", bits] = /^(.*?)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
  const base = readStrictAddress(unbracketed(host));
  if (base === undefined) return undefined;
  const most = base.family === 4 ? 32 : 128;
  const length = bits === undefined ? most : Number(bits);
  // 10.0.0.1/8 may mean one machine or the network, so it is refused.
  if (length > most || firstOf(base, length).value !== base.value) return undefined;
  return { base, bits: length };
}
