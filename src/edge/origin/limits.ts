/**
 * The numbers of the way to origin relays, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** TCP connect to an origin relay. A relay that needs longer is not going to be usable. */
export const DIAL_TIMEOUT = 10_000;

/** The answer of a resolver: one that needs longer has failed, and a device waits meanwhile. */
export const RESOLVE_TIMEOUT = 5000;

/** Octets of a resolver's answer: the largest of DNS itself is 64 KiB, and holds over a thousand addresses. */
export const RESOLVE_OCTETS = 64 * 1024;

/** Addresses of one relay that are dialled, one after the other: each has a second and more of the deadline. */
export const DIAL_CANDIDATES = 8;
