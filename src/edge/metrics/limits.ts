/**
 * Limits of the metrics, each with its reason. Milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * Upper bounds of the delivery times, in seconds: from a device that is connected beside the edge, across a slow line and
 * a poll of 30 s, to one that is away for a day. Messages expire after a week.
 */
export const DELIVERY_BOUNDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600, 86400] as const;

/** Objects that answer for the counters. A Durable Object takes some 1,000 calls a second, a busy isolate makes one in 2 s. */
export const SHARDS = 16;

/**
 * How long an isolate gathers before it sends: a message is stored, delivered and acknowledged within it, and a busy
 * isolate writes a row of counts each time. The object that holds the timer stays in memory for it, so it must be short.
 */
export const GATHER = 2_000;

/**
 * How long a sending may take. After that another begins: the object or request that holds its timer or calls may be lost
 * with them. What is read is at most as old as this twice, and GATHER.
 */
export const SEND_TIMEOUT = 4_000;

/**
 * States of objects that an isolate gathers before it sends at once. One call carries them for a shard: with names of 600
 * bytes it is far below the platform's 32 MiB.
 */
export const GATHERED_STATES = 4096;

/** Sent states that an isolate remembers, so that it does not send the same again: a few hundred bytes each. */
export const REMEMBERED_STATES = 4096;

/** Half-open connections that an isolate counts one by one. More than this many are an attack, and the gauge says so. */
export const COUNTED_HALF_OPEN = 10_000;

/** How long a report of half-open connections counts: longer than any of them, which end within a minute. */
export const REPORT_LIFE = 90_000;

/** Senders of batches of which a shard remembers the last number, so that a repeated call counts once. */
export const REMEMBERED_SENDERS = 256;

/**
 * How long one interval of the history lasts, and how many are kept: a day. The page in a browser is some 800 points wide,
 * and a busy collector writes one row more every two minutes, 720 at most.
 */
export const HISTORY_INTERVAL = 120_000;
export const HISTORY_SLOTS = 720;
