/**
 * The numbers of a link to an origin relay, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** From TCP to an accepted Connect. */
export const LINK_CONNECT_TIMEOUT = 15_000;

/** A link that fails is tried again after 1 s, then after twice as long each time up to a minute; full jitter. */
export const LINK_RETRY_FIRST = 1000;
export const LINK_RETRY_LAST = 60_000;

/** Octets that wait in a KeepAlive virtual connection to a relay, either way: several answers of 32768. */
export const ENCAPSULATED_AHEAD = 256 * 1024;

/** Recipients of one session of a relay: a fanout to more is a mailing list, which has a sender of its own. */
export const LINK_RECIPIENTS = 1000;

/** The longest that a relay which rests may keep this edge away. */
export const LINK_REST_LAST = 3600_000;

/** How long a link that is to be closed waits for what is on its way to be acknowledged. */
export const LINK_DRAIN = 5000;

/** A link is replaced before the 15 minutes after which the platform may end a socket of an object. */
export const LINK_LIFE = 13 * 60_000;

/** A link that has carried no message for so long is closed, Noops or not, unless the operator wants it kept. */
export const LINK_IDLE = 5 * 60_000;

/**
 * A link that has failed is tried again for so long after somebody has last wanted it: a mailbox with messages for the
 * relay asks each {@link WATCH_INTERVAL}, and one of its calls may be lost.
 */
export const LINK_WANTED = 90_000;
