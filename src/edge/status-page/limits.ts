/**
 * Limits of the status page, each with its reason.
 *
 * @module
 */

/** The longest form, in bytes: a token or the longest rule, every character of it percent-encoded. */
export const FORM_OCTETS = 192 * 1024;

/** Rows of a table on a page of its own, and at most in a table among others: what one can look through. */
export const PAGE_ROWS = 50;
export const OVERVIEW_ROWS = 8;

/** The longest text that can be searched for: the longest URL of a peer. */
export const SEARCH_LENGTH = 512;

/** Characters of a rule in a list: three or four addresses, so that a row is one line. */
export const RULE_SHOWN = 60;

/** Lines of one plot: more colours cannot be told apart. The rest is one line. */
export const PLOT_LINES = 6;

/** The least time that a plot shows, in seconds. */
export const PLOT_SPAN = 3600;

/** Seconds since the current interval began for which a rate is not computed yet: one batch of counts would be a peak. */
export const RATE_AFTER = 15;
