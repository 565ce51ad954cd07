/**
 * Numbers, times and names as people read them.
 *
 * @module
 */
import { visible } from "../../lib/printable.ts";

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** 12,345 or 0.3 */
export function countText(count: number): string {
  return COUNT.format(count);
}

/** A word in the form that suits a count: message, messages. */
export function plural(count: number, word: string): string {
  return count === 1 ? word : `${word}s`;
}

/** 512 B, 1.5 MiB */
export function sizeText(bytes: number): string {
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${COUNT.format(value)} ${UNITS[unit]}`;
}

/** A time span. */
export function spanText(seconds: number): string {
  if (seconds < 1) return seconds <= 0 ? "0 s" : "less than a second";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** A peer as people know it. */
export interface PeerName {
  readonly kind: "identity" | "device" | "relay" | "peer";
  readonly name: string;
}

const KINDS: Readonly<Record<string, PeerName["kind"]>> = {
  grooveIdentity: "identity",
  grooveDevice: "device",
  grooveDNS: "relay",
};

/**
 * Names a peer by its URL: decoded, with escapes for what cannot be seen. Two peers may look the same; their URLs differ.
 */
export function peerName(url: string): PeerName {
  const [, scheme = "", rest = ""] = /^(\w+):\/\/(.+)$/s.exec(url) ?? [];
  const kind = KINDS[scheme];
  return kind === undefined ? { kind: "peer", name: visible(decoded(url)) } : { kind, name: visible(decoded(rest)) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
