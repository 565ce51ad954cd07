/**
 * The numbers of a mailbox, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Octets of messages in one row. The platform allows 2 MB a row; half of that leaves room for a message's header. */
export const SEGMENT_OCTETS = 1024 * 1024;

/**
 * An envelope longer than this, which is one to many recipients of a relay, stands in a row of its own, once for all
 * segments: each message of a session has the same.
 */
export const LONG_ENVELOPE = 4096;

/** Octets of envelopes in one segment, beyond which all of them stand in rows of their own. */
export const SEGMENT_ENVELOPES = 256 * 1024;

/**
 * The longest envelope that is taken: ten times what the longest FanoutOpen takes in JSON, and far below the 2 MB that the
 * platform allows a row.
 */
export const ENVELOPE_LIMIT = 1024 * 1024;

/** A body longer than this stands in rows of its own, of this size: then one read of a segment stays small. */
export const BODY_ROW_OCTETS = 512 * 1024;

/** Segments of a mailbox that are read in one turn for a sender that takes messages back: some tens of milliseconds of work. */
export const FOUND_SEGMENTS = 16;

/** How long a message waits for its peer: two weeks of holiday. */
export const RETENTION = 14 * 24 * 3600_000;

/** How long the ids of a source are remembered, to drop what is sent again. No device retries for longer. */
export const REMEMBER_IDS = 7 * 24 * 3600_000;

/**
 * Octets of ids that a mailbox remembers. Of a sender that counts 42 ranges of some 100 octets are kept, one for each four
 * hours of a week: room for two hundred and fifty such senders, and for fifteen thousand ids of others.
 */
export const ID_OCTETS = 1024 * 1024;

/** What a row of ids takes beside its texts: three numbers of up to eight octets, and the row's own header. */
export const ID_ROW_OCTETS = 32;

/** How long the ids of a sender that counts are added to the same range: an id is remembered for so much longer at most. */
export const RANGE_TIME = 4 * 3600_000;

/** Senders and ranges of ids that stay in memory, beyond which all are looked up again. */
export const KEPT_RANGES = 5000;

/**
 * How old ids are that an operator's purge forgets: a device that has lost an acknowledgement with its connection has long
 * sent again by then.
 */
export const PURGED_IDS_AGE = 3600_000;

/** Octets that a mailbox has sent to its consumer and that are not acknowledged, beyond which it sends no more. */
export const SEND_WINDOW = 1024 * 1024;

/** The same by number. */
export const SEND_WINDOW_MESSAGES = 2000;

/** After how long a message that was put off is offered to its consumer again. */
export const LATER = 5 * 60_000;

/** A call between two objects that has not come back for so long has failed: a deploy or a crash may swallow it. */
export const CALL_TIMEOUT = 30_000;

/**
 * How long a mailbox that is not in the directory waits to be entered before it turns messages away: above the second or
 * two for which an object restarts, and far below {@link CALL_TIMEOUT}, after which its sender's connection ends. A
 * call that fails is tried again after a pause.
 */
export const ENTER_TIMEOUT = 5000;
export const ENTER_PAUSE = 250;

/** The same for handing messages to a Tunnel, which only puts them into a queue; a call to a mailbox may contain one. */
export const DELIVER_TIMEOUT = 10_000;

/** How long a consumer that has not taken such a message in time is not asked again. */
export const HUNG_TIME = 30_000;

/**
 * Connections that a mailbox remembers as waiting for room, a row of a hundred octets each: more than a collector has
 * sensors. Those beyond are not suspended, and are refused what is over their share.
 */
export const WAITERS = 4096;

/** How many of them are told of room at a time: each may have to be woken. */
export const ROOM_CALLS = 32;

/** How long after a call that has failed one of them is told again: an object that is being moved is there by then. */
export const ROOM_RETRY = 10_000;

/** How long what is acknowledged may stay in a mailbox's log, so that it is taken off together with the next append. */
export const CUT_PAUSE = 10;
/** How long to wait before another try to write on a full disk: the command gives up its ballast within a second. */
export const FULL_PAUSE = 1000;

/** Pauses between tries of a call to a Tunnel that failed: long enough for an object to start, short for a person. */
export const RETRY_PAUSES = [100, 400, 1600] as const;

/**
 * As long as messages wait for a consumer that is there, the mailbox looks so often whether the sending has come to a
 * halt, since an object that was thrown out of memory does not know that it was at work.
 */
export const WATCH_INTERVAL = 30_000;

/** What a question about a sign of life may take: an object that does not answer has shown none. */
export const SIGN_TIMEOUT = 5000;

/** How many devices of an identity a mailbox remembers for when its consumer leaves: more than one person uses. */
export const FORMER_CONSUMERS = 16;

/**
 * A message that is refused for its size is dropped when it has been refused for so long: a device that is full is emptied
 * by then, and one that will never take it is not asked for ever.
 */
export const REFUSED_FOR = 3600_000;

/** Messages for which a mailbox remembers since when they are refused: the hour of others begins when these are gone. */
export const REFUSED_MESSAGES = 256;

/** Ranges of messages set aside, and of those counted as refused, that are kept in a mailbox's facts: a row of 40 KB. */
export const ASIDE_RANGES = 2000;
export const DECLINED_RANGES = 256;

/** Octets of segments that a mailbox keeps in memory: what its consumer has not acknowledged is as much. */
export const CACHED_OCTETS = SEND_WINDOW;

/** The same by number: one is searched for among them. */
export const CACHED_SEGMENTS = 64;

/**
 * How long a mailbox that nobody would miss stays: a device that connects again at once finds it, and a minute after a
 * flood of attachments nothing of it is left.
 */
export const EMPTY_TIME = 30_000;

/** How often a mailbox in which nothing waits asks its consumer whether it is still there: an edge may have been killed. */
export const CONSUMER_CHECK = 24 * 3600_000;
