/**
 * Limits of a plain stream, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Maximum bytes in one row. The platform allows 2 MB; half of that leaves room for what is beside them. */
export const ROW_OCTETS = 1024 * 1024;

/** Longest message of JSON, which is one row: below the platform's 2 MB with what is beside it. */
export const MESSAGE_OCTETS = 1_900_000;

/** Producers that a stream remembers. A row each; a fleet of servers has fewer. */
export const PRODUCERS = 1000;

/** The part of the free ones that one writer alone may have: half, as in a mailbox, so that a new writer finds some. */
export const PRODUCERS_SHARE = 0.5;

/** How long a producer is remembered if another needs its place: the week that the protocol recommends [5.2.1]. */
export const PRODUCER_AGE = 7 * 24 * 3600_000;

/** Stretches of a lineage: a read of the whole asks as many objects, one after another. */
export const STRETCHES = 32;

/** Most bytes of one stream: the platform stores 10 GB in an object. */
export const STREAM_OCTETS = 8 * 1024 ** 3;

/** Timeout of a call to another stream: an object that has to be moved is back by then. */
export const CALL_TIMEOUT = 10_000;

/** Pause before a deleted stream again tells its source, or its creator's account, that it is gone. */
export const LEAVE_RETRY = 60_000;

/** How often a deleted source asks whether its forks still exist: one that was lost with its call holds only space. */
export const FORK_CHECK = 24 * 3600_000;
