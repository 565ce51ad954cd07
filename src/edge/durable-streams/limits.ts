/**
 * Limits of the Durable Streams protocol, each with its reason. Bytes, milliseconds and characters as the names say.
 *
 * @module
 */

/** Longest name of a stream, percent-encoded: it is in every URL, and proxies allow request lines of 8 KiB. */
export const NAME_CHARACTERS = 512;

/** Most segments of a name: a pattern is compared with it segment by segment. */
export const NAME_SEGMENTS = 32;

/** Longest Content-Type of a stream: real ones have fewer than 100 characters, and it is in every answer. */
export const CONTENT_TYPE_CHARACTERS = 255;

/** Longest Stream-Seq, and longest Producer-Id: both are stored, and twice a UUID leaves room for a prefix. */
export const SEQUENCE_CHARACTERS = 256;

/** Most seconds of Stream-TTL: a hundred years. Times stay far from the end of what a Date can hold. */
export const TTL_SECONDS = 3_153_600_000;

/**
 * Part of its idle time by which a stream may live longer after its object was evicted. When it was last used is
 * written only so often.
 */
export const IDLE_SLACK = 1 / 8;

/**
 * Interval of cursors, and where they count from: the defaults of the protocol [10.1]. A cursor changes the URL of a
 * long-poll three times a minute, so a cache forgets what it has answered.
 */
export const CURSOR_INTERVAL = 20_000;
export const CURSOR_ORIGIN = Date.UTC(2024, 9, 9);

/** Most seconds by which a cursor is moved beyond the one that a client has sent [10.1]. */
export const CURSOR_JITTER_SECONDS = 3600;

/** Bytes of one read: 25 requests for 100 MiB, and a thirtieth of the memory of an isolate. */
export const READ_OCTETS = 4 * 1024 * 1024;

/**
 * Bytes of one read that becomes events: a reader that does not take them holds them in the Worker, some three times over
 * as text, and a hundred such readers must fit into an isolate.
 */
export const EVENTS_OCTETS = 256 * 1024;

/**
 * Bytes from which a text body is written in base64 if that is shorter. Readers like text, and of a shorter body six
 * times its bytes are less than one read.
 */
export const LONG_BODY = 256 * 1024;

/** Bytes that ride on a ring. A longer append is read by each reader, so that rings to many readers stay short. */
export const RING_OCTETS = 32 * 1024;

/** Readers that may wait: the platform's limit of hibernatable sockets is 32,768 an object. */
export const READERS = 30_000;

/**
 * A ticket is used by the page that asked for it at once, and then again whenever its browser connects anew. After an
 * hour a page gets another one: what leaks with a URL is of use for that long at most.
 */
export const TICKET_REDEEM_TIME = 60_000;
export const TICKET_TIME = 3600_000;

/** Tickets of a stream: a row each, and as many pages that read it by one edge. */
export const TICKETS = 1000;

/** The part of the free ones that one reader alone may have: half, as in a mailbox, so that a new reader finds some. */
export const TICKETS_SHARE = 0.5;

/** Tickets of a peer's mailbox, which only its owner reads: a page each, some 500 bytes each, in one row. */
export const OWNERS_TICKETS = 64;

/** Random bytes of a ticket: 128 bits cannot be guessed. */
export const TICKET_OCTETS = 16;
