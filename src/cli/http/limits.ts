/**
 * Limits of requests to servers near this machine, each with its reason. Milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Time for the answer to a forwarded request: what most providers of webhooks allow at most. */
export const FORWARD_TIMEOUT = 30_000;

/**
 * How often a forwarded request is tried before it is set aside: with the pauses, a server that is being restarted has
 * half a minute.
 */
export const TRIES = 6;

/** The most tries that can be asked for. With the longest pauses they take most of a day. */
export const MOST_TRIES = 1000;

/** Pauses between tries: the first, doubled each time up to the last. */
export const FIRST_PAUSE = 1000;
export const LAST_PAUSE = 60_000;

/** Bytes of the longest answer of a service that is called: with its head, a message that every device takes. */
export const LONGEST_ANSWER = 15 * 1024 * 1024;
