/**
 * Limits of the settings, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** The longest message accepted. An object holds it whole while it arrives, and has 128 MB for everything. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** Maximum patterns in a mailbox's sender rule. All are compared for each batch of a sender; a star saves many. */
export const SENDER_PATTERNS = 256;

/**
 * Limits of one principal unless RATE says otherwise: virtual connections at a time, new ones a minute, bytes and
 * messages that its devices send a second, recipients of a session, TCP connections to destinations. An office of two hundred devices that share a token
 * fits, and can lose and renew all connections within two minutes. 20 MB/s is a line of 160 Mbit/s; 5,000 messages a
 * second are what ten mailboxes can store. Only a runaway program comes near. A thousand recipients are a large
 * organization. A thousand TCP connections are five for each device of that office.
 */
export const RATE = {
  connections: 200,
  connects: 120,
  octets: 20_000_000,
  messages: 5000,
  recipients: 1000,
  streams: 1000,
} as const;

/** Minimum setting of bytes a second: one KeepAlive body, which arrives as a whole. */
export const LEAST_RATE_OCTETS = 32768;
