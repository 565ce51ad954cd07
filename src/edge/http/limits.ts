/**
 * The numbers of requests for the edge itself, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * A body of at most 32768 octets must come in whole within this time: at 9 kbit/s it does. Each that is on its way costs
 * the runtime far more memory than its octets.
 */
export const WHOLE_BODY_TIMEOUT = 30_000;

/** Octets of a request that sets such a rule: as many patterns of the longest names would be longer than any rule is. */
export const RULE_OCTETS = 64 * 1024;

/** Mailboxes on a page of an operator's list: each is asked, and one request may not ask too many. */
export const ADMIN_PAGE = 100;
