/**
 * The contents of the file `trust`: whose keys this user's devices trust. Pure.
 *
 *   accept alice/*      abcd-...    devices with such an address and this key may open streams here
 *   pin office/desk     abcd-...    the key that a device must have when it is dialed
 *   pending eve/laptop  abcd-...    has tried to open a stream, and is not accepted
 *
 * No pin lets a device open streams here. The key with which one device is accepted is also its pin until there is one.
 *
 * @module
 */

import { formatFingerprint, isSameKey, parseFingerprint } from "../../device/index.ts";
import { matchesGlob, parseGlob } from "../../lib/glob.ts";
import type { Result } from "../../lib/result.ts";

export const KINDS = ["accept", "pin", "pending"] as const;

export interface TrustLine {
  readonly kind: (typeof KINDS)[number];
  /** An address; after `accept` also a pattern. */
  readonly address: string;
  readonly key: Uint8Array;
}

/** Devices remembered as pending: as many as a person looks through. Beyond it the oldest is forgotten. */
export const PENDING = 100;

const HEADER = `# Keys of other devices that grooveway trusts. grooveway trust writes this file anew, without comments.
`;

/** Parses the text of the file; a problem is a sentence with the number of the line. */
export function parseTrust(text: string): Result<readonly TrustLine[], string> {
  const lines: TrustLine[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const words = line.split("#", 1)[0]?.trim().split(/\s+/) ?? [];
    if (words[0] === "" || words[0] === undefined) continue;
    const [word = "", address = "", fingerprint = "", ...more] = words;
    const kind = KINDS.find((one) => one === word);
    const key = parseFingerprint(fingerprint);
    if (kind === undefined || key === undefined || !isPattern(address) || more.length > 0) {
      return { ok: false, problems: `line ${index + 1} is not "accept, pin or pending, an address, a fingerprint"` };
    }
    lines.push({ kind, address, key });
  }
  return { ok: true, value: lines };
}

/** Formats the text of the file. */
export function formatTrust(lines: readonly TrustLine[]): string {
  return HEADER + lines.map(({ kind, address, key }) => `${kind} ${address} ${formatFingerprint(key)}\n`).join("");
}

/** Whether a text can be an address or a pattern of addresses. */
export function isPattern(text: string): boolean {
  return text.length <= 512 && /^[\w.~%*-]+(?:\/[\w.~%*-]+)?(?:@[\w.:[\]-]+)?$/.test(text);
}

/**
 * Whether an address matches a pattern. A pattern without a device stands for all devices of the identity, and one
 * without a relay for none of those at other relays.
 */
export function matchesAddress(pattern: string, address: string): boolean {
  const [name = "", relay = ""] = pattern.split("@");
  const [itsName = "", itsRelay = ""] = address.split("@");
  const whole = name.includes("/") ? name : `${name}/*`;
  return relay === itsRelay && matchesGlob(parseGlob(whole), itsName);
}

/** Whether a device with this address and key is accepted. */
export function isAccepted(lines: readonly TrustLine[], address: string, key: Uint8Array): boolean {
  return lines.some(
    (line) => line.kind === "accept" && isSameKey(line.key, key) && matchesAddress(line.address, address),
  );
}

/** The key that a device must have when it is dialed; undefined if none is known. */
export function pinOf(lines: readonly TrustLine[], address: string): Uint8Array | undefined {
  const keys = (kind: TrustLine["kind"]) => lines.filter((line) => line.kind === kind && line.address === address);
  const [pin] = keys("pin");
  // A person who has compared the key of a device does not take another one for it.
  const [accepted, ...others] = isDevice(address) ? keys("accept") : [];
  return (pin ?? (others.length === 0 ? accepted : undefined))?.key;
}

/** Whether an address names one device. */
export function isDevice(address: string): boolean {
  return address.includes("/") && !address.includes("*");
}

/** Accepts a key, and no other, for an address or pattern: such devices may open streams here. */
export function withAccepted(lines: readonly TrustLine[], address: string, key: Uint8Array): readonly TrustLine[] {
  const kept = lines.filter((line) => {
    if (line.kind === "pending") return !(isSameKey(line.key, key) && matchesAddress(address, line.address));
    return line.kind !== "accept" || line.address !== address;
  });
  return [...kept, { kind: "accept", address, key }];
}

/** Pins the key of a device. Whether that may open streams here does not change. */
export function withPin(lines: readonly TrustLine[], address: string, key: Uint8Array): readonly TrustLine[] {
  return [...withoutPin(lines, address), { kind: "pin", address, key }];
}

/** Removes what is accepted or pending under an address or pattern. */
export function withoutAccepted(lines: readonly TrustLine[], address: string): readonly TrustLine[] {
  return lines.filter((line) => line.address !== address || line.kind === "pin");
}

/** Removes the pin of a device. */
export function withoutPin(lines: readonly TrustLine[], address: string): readonly TrustLine[] {
  return lines.filter((line) => line.address !== address || line.kind !== "pin");
}

/** Adds a device that has tried. */
export function withPending(lines: readonly TrustLine[], address: string, key: Uint8Array): readonly TrustLine[] {
  if (lines.some((line) => line.kind === "pending" && line.address === address && isSameKey(line.key, key)))
    return lines;
  const pending = lines.filter(({ kind }) => kind === "pending");
  const oldest = pending.length >= PENDING ? pending[0] : undefined;
  return [...lines.filter((line) => line !== oldest), { kind: "pending", address, key }];
}
