/**
 * The numbers of the settings, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** The longest message that is taken: an object holds it whole while it arrives, and has 128 MB for everything. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** Patterns in a mailbox's rule of who may send: each is looked at for each batch of a sender. A star saves many. */
export const SENDER_PATTERNS = 256;

/**
 * What one principal may do when RATE says nothing else: virtual connections at a time, new ones a minute, octets and
 * messages that its devices send a second. An office of two hundred devices that share a token fits, and may lose and
 * renew them all within two minutes. 20 MB/s is a line of 160 Mbit/s; 5,000 messages a second are what ten mailboxes can
 * store. Nobody who is not a program gone wild comes near. A thousand recipients of one session are a large organization.
 */
export const RATE = { connections: 200, connects: 120, octets: 20_000_000, messages: 5000, recipients: 1000 } as const;

/** The least that may be set for octets a second: one KeepAlive body, which comes as a whole. */
export const LEAST_RATE_OCTETS = 32768;
