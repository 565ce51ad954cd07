/**
 * Limits of HTTP requests and answers as messages, each with its reason. Bytes unless the name says otherwise.
 *
 * @module
 */

/** The longest head: what servers allow by default is 8 to 16 KiB, and platforms add headers of their own. */
export const HEAD_OCTETS = 64 * 1024;

/** Headers of one head: twice what any provider of webhooks sends, with those of three proxies. */
export const HEADERS = 200;

/** The longest deadline of a request, in milliseconds: as long as a message waits in a mailbox. */
export const LONGEST_DEADLINE = 14 * 24 * 3600_000;

/** How often a path is percent-decoded in search of dots. Servers decode once, and some of the programs behind them again. */
export const DECODINGS = 4;
