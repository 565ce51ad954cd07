/**
 * Every number of the origin relay, with its reason. Octets and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** The longest message that is taken. Everyone's memory holds one whole message, so it must stay small against memory. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** How long a message waits for its peer before it is purged: two weeks of holiday. */
export const RETENTION = 14 * 24 * 3600_000;

/** How long the ids of a source are remembered, to drop what is sent again. No device retries for longer. */
export const REMEMBER_IDS = 7 * 24 * 3600_000;

/** Octets of ids that are remembered for one peer, with what a row of them takes: some fifty thousand of our library's. */
export const ID_OCTETS = 8 * 1024 * 1024;

/** Rows of a long message. Below SQLite's best blob size nothing is gained, above it memory is lost. */
export const CHUNK_SIZE = 256 * 1024;

/** A body that comes in more pieces than this for one row is put together, since each piece costs more than its octets. */
export const PIECES = 512;

/** Octets sent to one device and not yet acknowledged, beyond which nothing new is begun. Several round trips of bulk. */
export const SEND_WINDOW = 1024 * 1024;

/** Messages sent to one device and not yet acknowledged: what has to be remembered and perhaps sent again. */
export const SEND_WINDOW_MESSAGES = 1000;

/** What may stand in a socket's queue before more is taken from the store. */
export const SOCKET_QUEUE = 256 * 1024;

/**
 * What may stand in a socket's queue before its peer is no longer read: more than messages ever put there, so that only
 * answers to a peer that sends and does not read get so far.
 */
export const ANSWER_QUEUE = 1024 * 1024;

/** How long a peer may take to read what a closed connection still has for it, and to end its own side. */
export const LINGER = 2_000;

/** How long what a peer has acknowledged may stand in an open transaction: one commit then serves many of them. */
export const COMMIT_REMOVALS = 50;

/** Messages with flag D that wait in memory for a connected device which reads slowly. Beyond it they are dropped, as D allows; one may always wait. */
export const VOLATILE_OCTETS = 4 * 1024 * 1024;

/**
 * Octets of unfinished messages of one connection that are held in memory: two of the longest. Beyond it messages with
 * flag D are refused, and the others go to the disk in smaller rows.
 */
export const UNFINISHED_OCTETS = 2 * MESSAGE_LIMIT;

/**
 * Seconds that a peer is asked to stay away when its connection ends because a message was refused whose session it had
 * closed: it brings the message again, and perhaps closes the session again.
 */
export const REFUSED_REST = 5;

/** How often an idle connection is told that the relay is there [MS-GRVHENC 3.2.2.3]. */
export const KEEP_ALIVE = 45_000;

/** A connection that has been silent for two keep-alive times and some is dead. */
export const RECEIVE_TIMEOUT = 120_000;

/**
 * How long a live connection may keep an account's messages without acknowledging any while another device of the account
 * waits: as long as the edge gives it when nothing is set.
 */
export const ACKNOWLEDGE_TIME = 120_000;

/** A connection that has sent no Connect by then is not going to. */
export const CONNECT_TIMEOUT = 30_000;

/** Seconds after which a device tries again when nobody could say whether its token is good. */
export const DECISION_RETRY = 10;

/** How often what is too old is purged. */
export const PURGE_INTERVAL = 3600_000;

/** Sessions that the relay keeps open towards one device. Beyond it the one that has been idle longest is closed. */
export const OPEN_SESSIONS = 64;

/**
 * The same towards another relay, which has a session for each sender and recipient there: half of what an edge lets one
 * connection have. A sender has a share of them.
 */
export const RELAY_SESSIONS = 2048;

/** Messages without their bodies that a session which is not ready, or a slow one, has in memory: what one look brings. */
export const SENDER_PAGE = 64;

/**
 * How far the relay looks for messages of open sessions behind one for whose session there is no room: what is between is
 * looked through again for each session that ends.
 */
export const CROWDED_AHEAD = 1024;

/** How many messages one connection may look at before others have their turn: some milliseconds of work. */
export const LOOKED_AT = 1024;

/**
 * A message that is refused for its length is dropped when it has been refused for so long: a device that is full is
 * emptied by then, and one that will never take it is not asked for ever.
 */
export const REFUSED_FOR = 3600_000;

/** Messages of one peer for which is remembered since when they are refused: the hour of others begins when these are gone. */
export const REFUSED_MESSAGES = 256;

/** After how long a message that was refused for its length is offered again. */
export const LATER = 5 * 60_000;

/**
 * Sessions of one destination that may be closed in a row without an acknowledgement, and messages that may be refused
 * for their length in a row: then the others of that destination wait too, since each costs a session.
 */
export const SESSION_FAILURES = 3;
export const SESSION_REFUSALS = 8;

/** Destinations that a device has refused and that are remembered as such: more are asked for again. */
export const DECLINED_DESTINATIONS = 1024;

/** The same for all devices, so that each message is counted once: those of more are counted again. */
export const DECLINED_COUNTED = 4096;

/** Relays without an entry among the secrets that are known since they have connected: each may have a full queue. */
export const KNOWN_RELAYS = 1000;

/** Queues that one connection takes from: each is looked into whenever there is room for a message. */
export const QUEUES = 256;

/** Recipients of one session: a fanout to more is a mailing list, which has a sender of its own. */
export const RECIPIENTS = 1000;

/**
 * Work that one connection may give a second beside plain messages, and at once: a session that is opened or a copy of a
 * message to many is one. An edge that comes back with sessions to two thousand recipients is not slowed down.
 */
export const WORK_RATE = 5000;
export const WORK_BURST = 10_000;

/** So many octets of a copy are as much work again: a thousand copies of 1 MiB take a minute and not a second. */
export const WORK_OCTETS = 4096;

/** Pauses in reading below this many milliseconds are not worth a timer. */
export const WORK_PAUSE = 5;

/** Somebody who has made a TCP connection for TLS and has not finished its handshake by then is not going to. */
export const TLS_TIMEOUT = 15_000;
