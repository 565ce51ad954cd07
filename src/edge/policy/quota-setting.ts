/**
 * The setting QUOTA: what may wait for one peer, and how much of it may come from one sender.
 *
 * @module
 */
import { longestIn, QUOTA, type Quota } from "../../store-and-forward/share.ts";
import { MESSAGE_LIMIT } from "./limits.ts";

/** A malformed QUOTA. The message says what to change. */
export class QuotaError extends Error {
  /** What is wrong, as the end of a sentence that begins with QUOTA. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;

  constructor(problem: string, cure: string) {
    super(`QUOTA ${problem}: ${cure}`);
    this.name = "QuotaError";
    this.problem = problem;
    this.cure = cure;
  }
}

/** Minimum bytes. With less, a queue would hold hardly more than the overhead beside the bodies. */
const LEAST_OCTETS = 1024 * 1024;

/** Minimum messages: a transfer has a few in flight at any time. */
const LEAST_MESSAGES = 16;

/** Shares outside this range leave next to nothing for one sender, or for all others. */
const LEAST_SHARE = 0.01;
const LARGEST_SHARE = 0.9;

const UNITS: Readonly<Record<string, number>> = { "": 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** The format of each figure. */
const FORMS = {
  octets: /^([0-9]{1,15})(KiB|MiB|GiB|)$/,
  messages: /^([0-9]{1,15})()$/,
  share: /^(0\.[0-9]{1,6})()$/,
} as const;

const LIMITS = {
  octets: [LEAST_OCTETS, Number.MAX_SAFE_INTEGER],
  messages: [LEAST_MESSAGES, Number.MAX_SAFE_INTEGER],
  share: [LEAST_SHARE, LARGEST_SHARE],
} as const;

/** Cached, because every object that wakes reads the setting. */
let last: { readonly text: string; readonly quota: Quota } = { text: "", quota: QUOTA };

/**
 * Parses QUOTA: `name=figure`, separated by spaces or commas. Unnamed limits have their defaults.
 *
 * @throws QuotaError
 *
 * @example
 * parseQuota("octets=64MiB share=0.25"); // and 100,000 messages as by default
 */
export function parseQuota(text: string): Quota {
  if (text !== last.text) last = { text, quota: read(text) };
  return last.quota;
}

/** The longest message, in bytes, that a mailbox takes: one sender alone must have room for it. @throws QuotaError */
export function messageLimit(text: string): number {
  return Math.min(MESSAGE_LIMIT, longestIn(parseQuota(text)));
}

function read(text: string): Quota {
  const quota = { ...QUOTA };
  const named = new Set<string>();
  for (const entry of text.split(/[\s,]+/).filter((part) => part !== "")) {
    const at = entry.indexOf("=");
    const name = entry.slice(0, Math.max(0, at));
    const found = isName(name) ? FORMS[name].exec(entry.slice(at + 1)) : null;
    if (!isName(name) || found === null) {
      const cure = "write octets=256MiB (in KiB, MiB, GiB or bytes), messages=100000 and share=0.5";
      throw new QuotaError(`has ${quote(entry)}, which is not a limit`, cure);
    }
    if (named.has(name))
      throw new QuotaError(`has ${quote(entry)}, which sets ${name} again`, "leave one of the two out");
    named.add(name);
    const figure = Number(found[1]) * (UNITS[found[2] ?? ""] ?? 1);
    const [least, largest] = LIMITS[name];
    if (figure < least) throw new QuotaError(`has ${quote(entry)}, which is too small`, `write at least ${least}`);
    if (figure > largest) throw new QuotaError(`has ${quote(entry)}, which is too large`, `write at most ${largest}`);
    quota[name] = figure;
  }
  return quota;
}

function isName(name: string): name is keyof Quota {
  return Object.hasOwn(FORMS, name);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
