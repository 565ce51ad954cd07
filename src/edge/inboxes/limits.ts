/**
 * Limits of inboxes, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */
import { HEAD_OCTETS } from "../../requests/index.ts";
import { MESSAGE_LIMIT } from "../policy/limits.ts";

/** Inboxes of one peer: one for each service that a person uses, many times over. */
export const INBOXES = 100;

/** The longest body that an inbox may be made for: with its head, a message that every device takes. */
export const LARGEST_BODY = MESSAGE_LIMIT - 2 * HEAD_OCTETS;

/** The longest request with its head. */
export const LARGEST_MESSAGE = LARGEST_BODY + HEAD_OCTETS;

/** The longest body unless its owner says otherwise. Nearly all webhooks are under 100 KB. */
export const BODY = 1024 * 1024;

/**
 * Requests a second of one inbox, and how many at once, unless its owner says otherwise. A busy repository sends some a
 * minute, and hundreds at once when a script works on it.
 */
export const RATE = 10;
export const BURST_SECONDS = 60;

/** The highest rate: what one object stores a second beside other work. */
export const HIGHEST_RATE = 200;

/** How far a signed time may be from the edge's clock, as Stripe, Slack and Standard Webhooks recommend. */
export const SIGNED_TIME = 300_000;

/** The longest request that may be Slack's challenge: real ones have 200 bytes. A longer one is not read as JSON. */
export const CHALLENGE_OCTETS = 16 * 1024;

/** How long a request without a signed time is remembered, so that it is not stored again. */
export const UNTIMED_MEMORY = 24 * 3600_000;

/**
 * Requests of one inbox that are remembered: all of a day at {@link RATE}, at some 60 bytes each. At a higher rate the
 * oldest are forgotten earlier.
 */
export const MARKS = 24 * 3600 * RATE;

/** Forgotten at a time when there are too many: finding the oldest scans their index. */
export const MARKS_FORGOTTEN = 1000;

/** Characters of a secret. The shortest have 64 bits; RSA keys in PEM, which nobody uses for this, would not fit. */
export const SECRET_LENGTH = { least: 8, most: 512 } as const;

/** How long the former secret is accepted after a rotation, unless its owner says otherwise; and at most. */
export const FORMER_SECRET = 24 * 3600_000;
export const FORMER_SECRET_MOST = 30 * 24 * 3600_000;

/** The longest answer that an owner may choose: verification phrases and small JSON objects. */
export const ANSWER_LENGTH = 4096;

/** Time for a mailbox to store a request. Providers wait 3 s (Slack) to 30 s. */
export const STORE_TIMEOUT = 10_000;

/** Seconds after which a provider may try again when there is no room: by then a device may have fetched some. */
export const FULL_RETRY = 60;

/** Requests that are replayed by one call, each with a call to the mailbox. */
export const REPLAYED_AT_ONCE = 50;

/**
 * Requests of one peer that are set aside, and their bytes: what a person can look through. They are a quarter of what
 * may wait in its mailbox.
 */
export const FAILED_REQUESTS = 1000;
export const FAILED_OCTETS = 64 * 1024 * 1024;

/** Requests set aside on one page of their list. */
export const FAILED_PAGE = 100;

/** A longer request is split into rows of this size: the platform allows 2 MB a row. */
export const FAILED_ROW = 512 * 1024;

/** Characters of the reason and of what is said about it. */
export const FAILED_TEXT = 300;

/** When what is no longer needed is removed: it costs a write, and nothing waits for it. */
export const TIDY_INTERVAL = 6 * 3600_000;
