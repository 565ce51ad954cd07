/**
 * Every number of the origin relay, with its reason. Units are bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * The longest message accepted. Every receiver holds a whole message in memory, so keep it small compared with memory.
 */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** How long a message waits for its peer before it is purged: two weeks of holiday. */
export const RETENTION = 14 * 24 * 3600_000;

/** How long a source's ids are remembered, to drop duplicates. No device retries for longer. */
export const REMEMBER_IDS = 7 * 24 * 3600_000;

/** Bytes of ids remembered per peer, row overhead included: about fifty thousand ids of this library. */
export const ID_OCTETS = 8 * 1024 * 1024;

/** Peers whose sum of ids is cached. Beyond this the oldest is forgotten; most are read again in less than a millisecond. */
export const KNOWN_IDS = 10_000;

/**
 * Senders in that cache, some two hundred bytes each: six times the ids that fit in one peer's half of a relay, which may
 * give each a sender of its own.
 */
export const KNOWN_ID_SENDERS = 200_000;

/**
 * Peers' queues in which messages may wait, counted once per sender: each takes some 700 bytes of memory. One sender may
 * have half of what is left. That is a hundred thousand absent recipients, and no memory is lost to a sender that makes
 * up names.
 */
export const WAITING_QUEUES = 200_000;

/** Row size for long messages. Smaller than SQLite's best blob size gains nothing; larger wastes memory. */
export const CHUNK_SIZE = 256 * 1024;

/** A row's body that arrives in more pieces than this is joined: each piece costs more than its bytes. */
export const PIECES = 512;

/** Bytes in flight to one device beyond which no new message begins: several round trips of bulk data. */
export const SEND_WINDOW = 1024 * 1024;

/** Messages in flight to one device: each must be remembered and perhaps resent. */
export const SEND_WINDOW_MESSAGES = 1000;

/** Bytes queued in a socket above which nothing more is taken from the store. */
export const SOCKET_QUEUE = 256 * 1024;

/**
 * Bytes queued in a socket above which its peer is no longer read. Messages never fill this much; only answers to a
 * peer that sends without reading do.
 */
export const ANSWER_QUEUE = 1024 * 1024;

/** How long a peer has to read the rest of a closed connection and end its own side. */
export const LINGER = 2_000;

/** How long acknowledged messages may stay in an open transaction, so that one commit covers many of them. */
export const COMMIT_REMOVALS = 50;

/** Bytes of messages with flag D held for a slow connected device. More are dropped, but one may always wait. */
export const VOLATILE_OCTETS = 4 * 1024 * 1024;

/**
 * The longest message that is streamed to another device, flag D on the resource `stream`: what an edge accepts, and more
 * than our devices send.
 */
export const STREAM_BATCH = 256 * 1024;

/**
 * Bytes that the relay holds of what a device streams. Beyond that the device is not read. Of what another relay streams,
 * the session is suspended, because that relay speaks for many devices.
 */
export const STREAM_HELD = 2 * STREAM_BATCH;

/** The same of another relay, over all sessions, with what is in flight when they are suspended. More is dropped. */
export const RELAY_STREAMS_HELD = 8 * 1024 * 1024;

/** Bytes of streams that wait for one connected peer: of 32 devices, or of two relays. More are dropped. */
export const STREAMS_WAITING = 16 * 1024 * 1024;

/**
 * How long a streamed message waits for a slow peer before it is dropped. Its device's later messages are acknowledged only
 * after it.
 */
export const STREAM_PATIENCE = 4_000;

/**
 * How long it waits before its session is suspended, and what came on that holds up nothing else of the device. A device
 * that reads a batch in this time loses nothing by the round trip that a suspension costs.
 */
export const STREAM_STALL = 300;

/** How often the relay looks for messages that wait: a small part of these times. */
export const STREAM_LOOK = 100;

/** What the relay holds beside STREAM_HELD for such sessions: what was on its way when they were suspended. */
export const STALLED_HELD = 4 * 1024 * 1024;

/** How long the destination of such a message takes no further ones: its senders should not wait again at once. */
export const STALLED_PAUSE = 2_000;

/**
 * Messages streamed to a device that it has not acknowledged. It need not, for more to be sent: its acknowledgements may
 * wait behind what it streams itself. Each is an entry of some hundred bytes.
 */
export const STREAM_UNACKNOWLEDGED = 4096;

/**
 * Bytes of unfinished messages that a connection may hold in memory: two of the longest. Beyond this, messages with
 * flag D are refused and the others go to disk in smaller rows.
 */
export const UNFINISHED_OCTETS = 2 * MESSAGE_LIMIT;

/**
 * Seconds that a peer is asked to stay away after its connection ended over a refused message whose session it had
 * already closed. It will resend the message, and may close the session again.
 */
export const REFUSED_REST = 5;

/** Interval of keep-alives on an idle connection [MS-GRVHENC 3.2.2.3]. */
export const KEEP_ALIVE = 45_000;

/** A connection is dead after this much silence: two keep-alive intervals and a margin. */
export const RECEIVE_TIMEOUT = 120_000;

/**
 * How long a live connection may hold an account's messages without acknowledging any while another device of the
 * account waits: the edge's default.
 */
export const ACKNOWLEDGE_TIME = 120_000;

/** How long a connection may take to send Connect. */
export const CONNECT_TIMEOUT = 30_000;

/** Seconds until a device should retry when its token could not be verified. */
export const DECISION_RETRY = 10;

/** Interval of purges. */
export const PURGE_INTERVAL = 3600_000;

/** Sessions that the relay keeps open to one device. Beyond this it closes the one idle longest. */
export const OPEN_SESSIONS = 64;

/** Sessions to another relay, one per sender and recipient, shared among senders: half of what an edge allows. */
export const RELAY_SESSIONS = 2048;

/** Messages, without bodies, that a sender holds in memory: one page of a lookup. */
export const SENDER_PAGE = 64;

/**
 * How far the relay looks past a message without room for its session, for messages of open sessions. Whenever a
 * session ends, the gap is scanned again.
 */
export const CROWDED_AHEAD = 1024;

/** Messages that a connection may look at before others take their turn: a few milliseconds of work. */
export const LOOKED_AT = 1024;

/**
 * A message that is refused for its length for this long is dropped. By then a full device has been emptied, and one
 * that will never accept the message is not asked forever.
 */
export const REFUSED_FOR = 3600_000;

/** Messages per peer whose first refusal is remembered. The hour of further messages begins when these are gone. */
export const REFUSED_MESSAGES = 256;

/** Delay before a message refused for its length is offered again. */
export const LATER = 5 * 60_000;

/**
 * Consecutive closed sessions without an acknowledgement, and consecutive refusals for length, after which the whole
 * destination pauses: each attempt costs a session.
 */
export const SESSION_FAILURES = 3;
export const SESSION_REFUSALS = 8;

/** Refused destinations remembered per connection. Further ones are asked again. */
export const DECLINED_DESTINATIONS = 1024;

/** Refused destinations remembered for all devices, so that each message is counted once. Further ones count again. */
export const DECLINED_COUNTED = 4096;

/** Relays without a secret that are remembered because they have connected. Each may have a full queue. */
export const KNOWN_RELAYS = 1000;

/** Queues that one connection may consume. All are checked whenever there is room for a message. */
export const QUEUES = 256;

/** Recipients of one session. A longer fanout is a mailing list, which should have a sender of its own. */
export const RECIPIENTS = 1000;

/**
 * Work per second that one connection may cause besides plain messages, and the burst. Opening a session, attaching,
 * registering, or copying a message to one more recipient is one unit. An edge that returns with sessions to two
 * thousand recipients is not slowed.
 */
export const WORK_RATE = 5000;
export const WORK_BURST = 10_000;

/** This many bytes of a copy count as one more unit: a thousand copies of 1 MiB take a minute, not a second. */
export const WORK_OCTETS = 4096;

/** Reading pauses shorter than this are not worth a timer. */
export const WORK_PAUSE = 5;

/** How long a client may take for the TLS handshake. */
export const TLS_TIMEOUT = 15_000;
