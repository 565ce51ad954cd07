/**
 * Every number of the device library, with its reason. Octets and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** The longest message. The other side holds a whole message in memory, so it must stay small against memory. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** What `send` keeps until it is acknowledged. More is the caller's to keep: it is told so. */
export const OUTBOX_OCTETS = 256 * 1024 * 1024;

/** A body is given to the engine in slices of this size, so that memory is not filled with a copy of all of it. */
export const SLICE = 64 * 1024;

/** Octets on their way to the socket above which no more are made. */
export const WRITE_AHEAD = 256 * 1024;

/** Octets of answers to the relay that it does not take, above which it is not read: far more than it ever asks for at once. */
export const ANSWERS_AHEAD = 1024 * 1024;

/** Octets from the socket that nobody has read, above which it is paused. */
export const READ_AHEAD = 256 * 1024;

/** Messages that wait for the application are worth this much at most; then the connection is not read. */
export const INBOX_OCTETS = 2 * MESSAGE_LIMIT;

/** From TCP to an attached account. Longer than the encapsulations' own 30 s, so that their reasons are seen first. */
export const CONNECT_TIMEOUT = 35_000;

/**
 * From the name to a connection, TLS included. Shorter than the 30 s of the encapsulations, so that its own reason is seen
 * first. A SYN is repeated after 1, 3, 7 and 15 s, so a line that loses the first four still connects.
 */
export const DIAL_TIMEOUT = 25_000;

/** After this long the next address is tried as well, and a slow name is asked for in another way [RFC 8305 5]. */
export const ATTEMPT_DELAY = 250;

/** Addresses of one name that are tried: with all of them silent the last one begins after 4 s. */
export const DIAL_ADDRESSES = 16;

/** A message that takes a packet of full size: 1,280 octets are the least that each way takes, headers included [RFC 8200 5]. */
export const LARGE_MESSAGE = 1200;

/** Nothing moves for so long on a connection that is stuck: a lost packet has been repeated six times by then. */
export const STALL = 15_000;

/** So many stuck connections in a row are no accident, since another one was made between them. */
export const BLACK_HOLE_STALLS = 2;

/** How long an edge may think about a request that is answered at once: as long as a virtual connection may take. */
export const ANSWER_TIMEOUT = 30_000;

/** The longest answer to such a request: a page of a hundred mailboxes takes 100 KiB. */
export const ANSWER_OCTETS = 4 * 1024 * 1024;

/** What is kept of the beginning of each answer, to tell who answers: the head of a response and the title of a page. */
export const ANSWER_HEAD = 4 * 1024;

/** How long a closing device waits for what it has written to arrive. */
export const CLOSE_TIMEOUT = 2_000;

/** Sessions that a carrier keeps open towards its relay. Beyond it the one that has been idle longest is closed. */
export const OPEN_SESSIONS = 256;

/**
 * Destinations that wait for their sessions at a time, most of which are suspended then: half of what the bundled relay and the
 * edge let one connection have. More than these wait for one of them.
 */
export const SESSIONS_ASKED = 2048;

/**
 * How long a relay that has no room for a recipient, though it was sent one message only, is not asked again: at first, and
 * doubled each time up to the last. It says by itself when there is room; this is for what crosses that.
 */
export const HELD_FIRST = 5000;
export const HELD_LAST = 60_000;

/** Destinations that a device knows to have been suspended on this connection or the last. */
export const HELD_REMEMBERED = 1000;

/** A Noop on an idle connection, so that proxies and the edge know that the device is there (design: 25 s). */
export const KEEP_ALIVE = 25_000;

/** The same while messages wait for the program: a silent device that has some loses its account's to another in 15 s. */
export const BUSY_KEEP_ALIVE = 5_000;

/** A relay that is silent for so long is gone: its own keep-alive is 45 s. */
export const RECEIVE_TIMEOUT = 120_000;

/** How long a first connection is tried again at a relay that is busy and says when: as long as a program waits for a server. */
export const BUSY_PATIENCE = 30_000;

/** Pause before a connection is made again: full jitter up to the first, doubled each time up to the last. */
export const RECONNECT_FIRST = 500;
export const RECONNECT_LAST = 30_000;

/** A connection that stood for so long was of use, though it carried nothing: twice the longest pause. */
export const STOOD = 60_000;

/** A carrier is not replaced while acknowledgements still come; after so long without one it is. */
export const DRAIN_PATIENCE = 5_000;

/** The longest that a relay which rests may keep a device away. */
export const LONGEST_REST = 3600_000;

/** What a LongLived session must still carry when a message has been sent on it: acknowledgements, Noops, ConnectClose. */
export const CONTENT_RESERVE = 64 * 1024;

/** How often a WebSocket is asked whether the edge is still there; the platform answers without waking anybody. */
export const WEBSOCKET_PING = 25_000;

/** The same while this device keeps messages: an edge gives them to another device when it hears nothing for 15 s. */
export const WEBSOCKET_BUSY_PING = 5_000;

/** The most that goes into one WebSocket message, when several blocks wait: as large as the largest block. */
export const WEBSOCKET_MESSAGE = 64 * 1024;

/** Recipients whose addressing a device remembers: more than one program talks to, and little memory. */
export const REMEMBERED_RECIPIENTS = 1000;

/** Random octets in the ids of messages to one recipient, besides their number: no other run of the device has the same. */
export const ID_OCTETS = 12;

/**
 * How long an acknowledgement waits for others by KeepAlive, where it costs a request: well below what anybody notices, and
 * several messages long when they come one after another.
 */
export const ACKNOWLEDGE_PAUSE = 5;
