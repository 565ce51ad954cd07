/**
 * Limits of requests to the edge itself, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * Time for a whole body of at most 32768 bytes to arrive: 9 kbit/s suffices. A body in transit costs the runtime far
 * more memory than its bytes.
 */
export const WHOLE_BODY_TIMEOUT = 30_000;

/** The longest request that sets the rule of a mailbox: more than any valid rule needs. */
export const RULE_OCTETS = 64 * 1024;

/** Mailboxes on one page of an operator's list: each is a subrequest, and one request may not make too many. */
export const ADMIN_PAGE = 100;
