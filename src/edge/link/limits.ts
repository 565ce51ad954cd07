/**
 * Limits of a link to an origin relay, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Time from the start of TCP to an accepted Connect. */
export const LINK_CONNECT_TIMEOUT = 15_000;

/** Back-off of a failed link: up to 1 s, doubling with each failure up to a minute, with full jitter. */
export const LINK_RETRY_FIRST = 1000;
export const LINK_RETRY_LAST = 60_000;

/** The least time between two tries while /ready is asked, which reports a link within 10 s after it is possible again. */
export const LINK_LOOK = 4_000;

/** Buffer of a KeepAlive virtual connection to a relay, each way: several answers of 32768 bytes. */
export const ENCAPSULATED_AHEAD = 256 * 1024;

/** Recipients of one session of a relay. A fanout to more is a mailing list, which has a sender of its own. */
export const LINK_RECIPIENTS = 1000;

/** The longest ReturnTime or Retry-After that this edge honours. */
export const LINK_REST_LAST = 3600_000;

/** How long a closing link waits for acknowledgements of what is in flight. */
export const LINK_DRAIN = 5000;

/** Age at which a link is replaced: the platform may end an object's socket after 15 minutes. */
export const LINK_LIFE = 13 * 60_000;

/** Idle time after which a link is closed, unless LINKS keeps it. Only messages count, not Noops. */
export const LINK_IDLE = 5 * 60_000;

/**
 * How long a failed link is retried after it was last wanted. A mailbox with messages for the relay calls every
 * {@link WATCH_INTERVAL}, and one of its calls may be lost.
 */
export const LINK_WANTED = 90_000;
