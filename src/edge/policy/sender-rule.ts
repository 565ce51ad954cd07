/**
 * A mailbox owner's rule of who may send to it.
 *
 *     everyone                 every sender that may send at all
 *     nobody
 *     alice bob/phone *-bot    any device of alice, one device of bob, any device of an identity that ends in -bot
 *     @relay.example.com       everything from that origin relay, which does not say which of its devices sent it
 *
 * A pattern is written like an address, and a star in it matches any characters of one name. Names are compared
 * decoded, so their percent-encoding does not matter.
 *
 * @module
 */
import { type Glob, matchesGlob } from "../../lib/glob.ts";
import type { Result } from "../../lib/result.ts";
import { entriesOf, quoted } from "../../lib/setting.ts";
import {
  type Address,
  formatAddress,
  type Named,
  parseAddress,
  parseRelayName,
  parseURL,
  withoutInstance,
} from "../../sstp/index.ts";
import { SENDER_PATTERNS } from "./limits.ts";

/** Admitted senders: one device, every device of an identity if `device` is absent, or an origin relay. */
export type SenderPattern =
  | { readonly identity: Glob; readonly device?: Glob }
  | {
      /** `host` or `host:port`, in lower case. */
      readonly relay: string;
    };

/** Who may send to a mailbox. */
export type SenderRule =
  | { readonly kind: "everyone" }
  | { readonly kind: "nobody" }
  | { readonly kind: "only"; readonly patterns: readonly SenderPattern[] };

/** The rule of a mailbox whose owner has set none. */
export const EVERYONE: SenderRule = { kind: "everyone" };

const WORDS = ["everyone", "nobody"] as const;

/**
 * Reads a rule: `everyone`, `nobody`, or patterns separated by spaces or commas. The problem says what to change.
 *
 * @example
 * readSenderRule("alice, bob/phone");
 */
export function readSenderRule(text: string): Result<SenderRule, string> {
  const parts = entriesOf(text);
  const word = WORDS.find((known) => parts.includes(known));
  if (word !== undefined) {
    if (parts.length === 1) return { ok: true, value: { kind: word } };
    return wrong(`${word} cannot be combined: leave out the rest, or write ${word}/* for the identity of that name`);
  }
  if (parts.length === 0) return wrong("the rule is empty: write everyone, nobody or patterns");
  if (parts.length > SENDER_PATTERNS) {
    return wrong(`${parts.length} patterns are too many: write at most ${SENDER_PATTERNS}, and use *`);
  }
  const patterns: SenderPattern[] = [];
  for (const part of parts) {
    const pattern = readPattern(part);
    if (!pattern.ok) return pattern;
    patterns.push(pattern.value);
  }
  return { ok: true, value: { kind: "only", patterns } };
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}

/**
 * A rule that was read before.
 *
 * @throws Error if it is malformed
 */
export function parseSenderRule(text: string): SenderRule {
  const read = readSenderRule(text);
  if (read.ok) return read.value;
  throw new Error(read.problems);
}

/** Formats a rule canonically. The text parses to the same rule. */
export function formatSenderRule(rule: SenderRule): string {
  return rule.kind === "only" ? rule.patterns.map(formatPattern).join(" ") : rule.kind;
}

/**
 * Whether a rule admits a source. One that is neither a device nor a relay is admitted by `everyone` only.
 *
 * @param source the URL by which the sender has connected
 */
export function maySend(rule: SenderRule, source: string): boolean {
  if (rule.kind !== "only") return rule.kind === "everyone";
  const sender = parseURL(source);
  return sender.ok && rule.patterns.some((pattern) => names(pattern, sender.value));
}

function names(pattern: SenderPattern, sender: Named): boolean {
  if ("relay" in pattern) return sender.kind === "relay" && sender.relay === pattern.relay;
  if (sender.kind !== "device" || !matchesGlob(pattern.identity, sender.identity)) return false;
  if (pattern.device === undefined) return true;
  return matchesGlob(pattern.device, sender.device) || matchesGlob(pattern.device, withoutInstance(sender.device));
}

function readPattern(text: string): Result<SenderPattern, string> {
  if (text.startsWith("@")) {
    const relay = parseRelayName(text.slice(1));
    return relay.ok
      ? { ok: true, value: { relay: relay.value } }
      : wrong(`in the pattern ${quoted(text)} ${relay.problems}`);
  }
  const [name = "", part, ...more] = text.split("/");
  if (more.length > 0) return wrong(`the pattern ${quoted(text)} has more than one /: write the others as %2F`);
  const identity = readGlob(text, "identity", name);
  if (!identity.ok) return identity;
  if (part === undefined) return { ok: true, value: { identity: identity.value } };
  const device = readGlob(text, "device", part);
  return device.ok ? { ok: true, value: { identity: identity.value, device: device.value } } : device;
}

function readGlob(pattern: string, what: string, text: string): Result<Glob, string> {
  if (text === "") return wrong(`the ${what} in the pattern ${quoted(pattern)} is empty: write a name or *`);
  const pieces: string[] = [];
  for (const piece of text.split("*")) {
    const read = piece === "" ? NO_NAME : parseAddress(piece);
    if (!read.ok) return wrong(`in the pattern ${quoted(pattern)} ${read.problems}`);
    if (read.value.relay !== undefined) {
      return wrong(`the pattern ${quoted(pattern)} names a relay: write identity, identity/device or @relay`);
    }
    pieces.push(read.value.identity);
  }
  return { ok: true, value: pieces };
}

/** What stands before, between or after stars. */
const NO_NAME: Result<Address, string> = { ok: true, value: { identity: "" } };

function formatPattern(pattern: SenderPattern): string {
  if ("relay" in pattern) return `@${pattern.relay}`;
  const { identity, device } = pattern;
  return device === undefined ? formatGlob(identity) : `${formatGlob(identity)}/${formatGlob(device)}`;
}

function formatGlob(glob: Glob): string {
  return glob.map((piece) => (piece === "" ? "" : formatAddress({ identity: piece }))).join("*");
}
