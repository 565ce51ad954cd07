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
import type { Result } from "../../lib/setting.ts";
import { AddressError, formatAddress, type Named, parseAddress, parseURL, relayURL } from "../../sstp/index.ts";
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

/** Ends the reading of a malformed rule. The message says what to change. */
class SenderRuleError extends Error {
  override readonly name = "SenderRuleError";
}

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
  try {
    return { ok: true, value: parseSenderRule(text) };
  } catch (error) {
    if (error instanceof SenderRuleError) return { ok: false, problems: error.message };
    throw error;
  }
}

/**
 * A rule that was read before.
 *
 * @throws Error if it is malformed
 */
export function parseSenderRule(text: string): SenderRule {
  const parts = text.split(/[\s,]+/).filter((part) => part !== "");
  const word = WORDS.find((known) => parts.includes(known));
  if (word !== undefined) {
    if (parts.length === 1) return { kind: word };
    throw new SenderRuleError(
      `${word} cannot be combined: leave out the rest, or write ${word}/* for the identity of that name`,
    );
  }
  if (parts.length === 0) throw new SenderRuleError("the rule is empty: write everyone, nobody or patterns");
  if (parts.length > SENDER_PATTERNS) {
    throw new SenderRuleError(`${parts.length} patterns are too many: write at most ${SENDER_PATTERNS}, and use *`);
  }
  return { kind: "only", patterns: parts.map(parsePattern) };
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
  const sender = namedBy(source);
  return sender !== undefined && rule.patterns.some((pattern) => names(pattern, sender));
}

function names(pattern: SenderPattern, sender: Named): boolean {
  if ("relay" in pattern) return sender.kind === "relay" && sender.relay === pattern.relay;
  if (sender.kind !== "device" || !matchesGlob(pattern.identity, sender.identity)) return false;
  return pattern.device === undefined || matchesGlob(pattern.device, sender.device);
}

function namedBy(url: string): Named | undefined {
  try {
    return parseURL(url);
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

function parsePattern(text: string): SenderPattern {
  if (text.startsWith("@")) return { relay: parseRelay(text) };
  const [identity = "", device, ...more] = text.split("/");
  if (more.length > 0)
    throw new SenderRuleError(`the pattern ${quote(text)} has more than one /: write the others as %2F`);
  return {
    identity: parseGlob(text, "identity", identity),
    ...(device === undefined ? {} : { device: parseGlob(text, "device", device) }),
  };
}

function parseGlob(pattern: string, what: string, text: string): Glob {
  if (text === "")
    throw new SenderRuleError(`the ${what} in the pattern ${quote(pattern)} is empty: write a name or *`);
  return text.split("*").map((piece) => {
    if (piece === "") return "";
    try {
      const { identity, relay } = parseAddress(piece);
      if (relay === undefined) return identity;
    } catch (error) {
      if (error instanceof AddressError) throw new SenderRuleError(`in the pattern ${quote(pattern)} ${error.message}`);
      throw error;
    }
    throw new SenderRuleError(`the pattern ${quote(pattern)} names a relay: write identity, identity/device or @relay`);
  });
}

function parseRelay(pattern: string): string {
  try {
    // The URL contains the canonical form of the relay's name.
    return relayURL(pattern.slice(1)).slice(relayURL("x").length - 1);
  } catch (error) {
    if (error instanceof AddressError) throw new SenderRuleError(`in the pattern ${quote(pattern)} ${error.message}`);
    throw error;
  }
}

function formatPattern(pattern: SenderPattern): string {
  if ("relay" in pattern) return `@${pattern.relay}`;
  const { identity, device } = pattern;
  return device === undefined ? formatGlob(identity) : `${formatGlob(identity)}/${formatGlob(device)}`;
}

function formatGlob(glob: Glob): string {
  return glob.map((piece) => (piece === "" ? "" : formatAddress({ identity: piece }))).join("*");
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
