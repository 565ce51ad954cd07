/**
 * How long a stream lives: for ever, until a time, or until it was idle for a time [PROTOCOL 5.1].
 *
 * @module
 */
import { TTL_SECONDS } from "./limits.ts";

/** `idle`: so many seconds after the last read or write. `until`: to a time in milliseconds since 1970, as written. */
export type Lifetime =
  | { readonly type: "endless" }
  | { readonly type: "idle"; readonly seconds: number }
  | { readonly type: "until"; readonly time: number; readonly text: string };

export const ENDLESS: Lifetime = { type: "endless" };

/** A date and time of RFC 3339 5.6, with its zone. */
const TIMESTAMP = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/;

/**
 * Reads Stream-TTL and Stream-Expires-At.
 *
 * @returns what to change if they are wrong
 */
export function readLifetime(
  ttl: string | null,
  expiresAt: string | null,
): { readonly ok: true; readonly value: Lifetime } | { readonly ok: false; readonly problems: string } {
  if (ttl !== null && expiresAt !== null) {
    return { ok: false, problems: "Send either Stream-TTL or Stream-Expires-At, not both." };
  }
  if (ttl !== null) {
    const seconds = /^(?:0|[1-9]\d{0,9})$/.test(ttl) ? Number(ttl) : Number.POSITIVE_INFINITY;
    if (seconds <= TTL_SECONDS) return { ok: true, value: { type: "idle", seconds } };
    return {
      ok: false,
      problems: `Write Stream-TTL as whole seconds from 0 to ${TTL_SECONDS}, without leading zeros.`,
    };
  }
  if (expiresAt !== null) {
    const time = TIMESTAMP.test(expiresAt) ? Date.parse(expiresAt.toUpperCase()) : Number.NaN;
    if (!Number.isNaN(time)) return { ok: true, value: { type: "until", time, text: expiresAt } };
    return { ok: false, problems: "Write Stream-Expires-At as RFC 3339 does: 2030-01-31T12:00:00Z." };
  }
  return { ok: true, value: ENDLESS };
}

/** Whether a stream that exists has the lifetime that a repeated PUT asks for. */
export function isSameLifetime(one: Lifetime, other: Lifetime): boolean {
  if (one.type === "idle") return other.type === "idle" && one.seconds === other.seconds;
  if (one.type === "until") return other.type === "until" && one.time === other.time;
  return other.type === "endless";
}

/** The lifetime of a fork: its own if it asks for one, otherwise its source's [PROTOCOL 4.2]. */
export function forkedLifetime(source: Lifetime, wanted: Lifetime): Lifetime {
  return wanted.type === "endless" ? source : wanted;
}

/**
 * When a stream ends.
 *
 * @param used when it was last read or written, in milliseconds since 1970
 * @returns milliseconds since 1970; infinite for never
 */
export function endOf(lifetime: Lifetime, used: number): number {
  if (lifetime.type === "idle") return used + lifetime.seconds * 1000;
  return lifetime.type === "until" ? lifetime.time : Number.POSITIVE_INFINITY;
}
