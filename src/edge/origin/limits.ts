/**
 * Limits of dialling origin relays, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Time to connect to an origin relay over TCP. A relay that needs longer would not be usable. */
export const DIAL_TIMEOUT = 10_000;

/** Time for a resolver's answer, while a device waits. */
export const RESOLVE_TIMEOUT = 5000;

/** The longest answer of a resolver: DNS itself allows 64 KiB, which holds over a thousand addresses. */
export const RESOLVE_OCTETS = 64 * 1024;

/** Addresses of one relay that are dialled, one after the other: each gets more than a second of the deadline. */
export const DIAL_CANDIDATES = 8;
