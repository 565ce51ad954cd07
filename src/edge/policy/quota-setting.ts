/**
 * The setting QUOTA: what may wait for one peer, how much of it may come from one sender, and what one sender may have
 * waiting for all peers.
 *
 * @module
 */
import { entriesOf, malformed, quoted, type Setting } from "../../lib/setting.ts";
import { longestIn, QUOTA, type StorageQuota } from "../../store-and-forward/sender-share.ts";
import { MESSAGE_LIMIT } from "./limits.ts";

/** Minimum bytes. With less, a queue would hold hardly more than the overhead beside the bodies. */
const LEAST_OCTETS = 1024 * 1024;

/** Minimum messages: a transfer has a few in flight at any time. */
const LEAST_MESSAGES = 16;

/** Minimum bytes of one sender: two messages of the greatest length. */
const LEAST_SENDER = 2 * MESSAGE_LIMIT;

/** Shares outside this range leave next to nothing for one sender, or for all others. */
const LEAST_SHARE = 0.01;
const LARGEST_SHARE = 0.9;

const UNITS: Readonly<Record<string, number>> = { "": 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** The format of each figure. */
const FORMS = {
  octets: /^([0-9]{1,15})(KiB|MiB|GiB|)$/,
  messages: /^([0-9]{1,15})()$/,
  share: /^(0\.[0-9]{1,6})()$/,
  sender: /^([0-9]{1,15})(KiB|MiB|GiB|)$/,
} as const;

const LIMITS = {
  octets: [LEAST_OCTETS, Number.MAX_SAFE_INTEGER],
  messages: [LEAST_MESSAGES, Number.MAX_SAFE_INTEGER],
  share: [LEAST_SHARE, LARGEST_SHARE],
  sender: [LEAST_SENDER, Number.MAX_SAFE_INTEGER],
} as const;

/** Cached, because every object that wakes reads the setting. */
let last: { readonly text: string; readonly quota: StorageQuota } = { text: "", quota: QUOTA };

/**
 * The quota of an edge. With a malformed QUOTA the edge serves no request, and its objects, whose alarms go on, have the
 * default: a constructor that throws would lose the alarm.
 */
export function parseQuota(text: string): StorageQuota {
  if (text === last.text) return last.quota;
  const read = readQuota(text);
  last = { text, quota: read.ok ? read.value : QUOTA };
  return last.quota;
}

/** The longest message, in bytes, that a mailbox takes: one sender alone must have room for it. */
export function messageLimit(text: string): number {
  return Math.min(MESSAGE_LIMIT, longestIn(parseQuota(text)));
}

/**
 * Reads QUOTA: `name=figure`, separated by spaces or commas. Unnamed limits have their defaults.
 *
 * @example
 * readQuota("octets=64MiB share=0.25"); // and 100,000 messages as by default
 */
export function readQuota(text: string): Setting<StorageQuota> {
  const quota = { ...QUOTA };
  const named = new Set<string>();
  for (const entry of entriesOf(text)) {
    const at = entry.indexOf("=");
    const name = entry.slice(0, Math.max(0, at));
    const found = isName(name) ? FORMS[name].exec(entry.slice(at + 1)) : null;
    if (!isName(name) || found === null) {
      const cure = "write octets=256MiB (in KiB, MiB, GiB or bytes), messages=100000, share=0.5 and sender=4GiB";
      return malformed("QUOTA", `has ${quoted(entry)}, which is not a limit`, cure);
    }
    if (named.has(name)) {
      return malformed("QUOTA", `has ${quoted(entry)}, which sets ${name} again`, "leave one of the two out");
    }
    named.add(name);
    const figure = Number(found[1]) * (UNITS[found[2] ?? ""] ?? 1);
    const [least, largest] = LIMITS[name];
    if (figure < least) {
      return malformed("QUOTA", `has ${quoted(entry)}, which is too small`, `write at least ${least}`);
    }
    if (figure > largest) {
      return malformed("QUOTA", `has ${quoted(entry)}, which is too large`, `write at most ${largest}`);
    }
    quota[name] = figure;
  }
  return { ok: true, value: quota };
}

function isName(name: string): name is keyof StorageQuota {
  return Object.hasOwn(FORMS, name);
}
