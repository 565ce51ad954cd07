/**
 * Limits of requests to the edge itself, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * Time for a whole body to arrive: 9 kbit/s suffices for 32768 bytes, and only a device on a faster line sends longer
 * ones. A body in transit costs the runtime far more memory than its bytes.
 */
export const WHOLE_BODY_TIMEOUT = 30_000;

/**
 * Bytes of Polling bodies over 32768 bytes that an isolate holds at the same time: an eighth of its 128 MiB. Devices send smaller
 * ones while it is used up.
 */
export const GROWN_BODIES_OCTETS = 16 * 1024 * 1024;

/** The longest request that sets the rule of a mailbox: more than any valid rule needs. */
export const RULE_OCTETS = 64 * 1024;

/** Mailboxes on one page of an operator's list: each is a subrequest, and one request may not make too many. */
export const ADMIN_PAGE = 100;

/** How often an operator's request is tried on a full disk. The command gives up its ballast within the first second. */
export const FULL_TRIES = 3;

/** Seconds for which a browser need not ask again about the same URL: the most that Chromium remembers. */
export const PREFLIGHT_AGE = 7200;

/** Time for the status of one mailbox in an operator's list: an object that has to be moved is back by then. */
export const STATUS_TIMEOUT = 10_000;
