/**
 * Limits of a mailbox, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */
import { FLIGHT, RESERVE } from "../../store-and-forward/sender-share.ts";

/** Maximum message bytes in one row. The platform allows 2 MB a row; half of that leaves room for message headers. */
export const SEGMENT_OCTETS = 1024 * 1024;

/**
 * Longest envelope stored in its segment. A longer one, which is one to many recipients of a relay, gets a row of its
 * own that all segments share: every message of a session has the same envelope.
 */
export const LONG_ENVELOPE = 4096;

/** Maximum envelope bytes in one segment. Above that, all of its envelopes get rows of their own. */
export const SEGMENT_ENVELOPES = 256 * 1024;

/** Longest envelope accepted: ten times the longest FanoutOpen in JSON, and far below the platform's 2 MB a row. */
export const ENVELOPE_LIMIT = 1024 * 1024;

/** A longer body is stored in rows of its own, so that reading a segment stays cheap. */
export const LONG_BODY_OCTETS = 512 * 1024;

/**
 * Maximum bytes of a body in one row: one part of a file with its header, at half of the 2 MB that the platform allows a
 * row. Each row has a page of its own for its end, and an entry in the index.
 */
export const BODY_ROW_OCTETS = 1024 * 1024 + 16 * 1024;

/** Segments scanned per turn when a sender withdraws messages: some tens of milliseconds of work. */
export const FOUND_SEGMENTS = 16;

/** How long a message waits for its peer: two weeks of holiday. */
export const RETENTION = 14 * 24 * 3600_000;

/** How long ids are remembered to drop duplicates. No device retries for longer. */
export const REMEMBER_IDS = 7 * 24 * 3600_000;

/**
 * Bytes of ids that a mailbox remembers. A sender with sequential ids takes 42 ranges of some 100 bytes, one per four
 * hours of a week. That is room for 250 such senders, and for 15,000 other ids.
 */
export const ID_OCTETS = 1024 * 1024;

/** Overhead of an id row beside its texts: three numbers of up to eight bytes, and the row's own header. */
export const ID_ROW_OCTETS = 32;

/** How long a range of sequential ids keeps growing. An id may be remembered for that much longer. */
export const RANGE_TIME = 4 * 3600_000;

/** Senders and id ranges cached in memory. Above that, the cache is emptied. */
export const KEPT_RANGES = 5000;

/**
 * What a mailbox may append before it writes how far the sequential ids of its senders have grown. Until then the
 * waiting messages are the record, and reading them back when the object wakes takes a few milliseconds.
 */
export const UNWRITTEN_SEGMENTS = 64;
export const UNWRITTEN_OCTETS = 256 * 1024;

/**
 * Bytes of settled messages that a mailbox keeps for readers over HTTP, whatever may wait: a quarter of what may, by
 * default. They count against nobody's quota, so it is what an owner who reads over HTTP may cost the edge besides.
 */
export const KEPT_OCTETS = 64 * 1024 * 1024;

/** Part of it that is left when it is exceeded, and part of the time beyond which what is too old may stay. */
export const KEPT_REST = 7 / 8;

/** How often it is noted that a mailbox is read over HTTP: a row a day. Two weeks after the last one it keeps nothing. */
export const NOTE_INTERVAL = 24 * 3600_000;

/**
 * Producers that a mailbox remembers, of all senders and of one with all of its devices. A row each; a fleet of servers
 * has fewer, and ten senders that invent names leave room for others.
 */
export const PRODUCERS = 1000;
export const SENDER_PRODUCERS = 100;

/** How long a silent producer is remembered: as long as the ids of its messages, the week of [PROTOCOL 5.2.1]. */
export const PRODUCER_AGE = REMEMBER_IDS;

/** Age of the ids that an operator's purge forgets. A device that lost an acknowledgement has resent by then. */
export const PURGED_IDS_AGE = 3600_000;

/** Unacknowledged bytes that every consumer may have been sent: one part of a file. */
export const SEND_WINDOW = 1024 * 1024;

/**
 * What a quick consumer may have been sent beyond that: seven parts of a file, with the headers of all. Parts that arrive
 * while its disk syncs others are acknowledged together, so half of them are with its disk while the rest is on its way.
 */
export const EXTRA_WINDOW = 7 * 1024 * 1024 + 16 * 1024;

/**
 * The same for all mailboxes of an isolate together: an eighth of its 128 MiB. Every mailbox beyond that still has its
 * own window.
 */
export const EXTRA_WINDOWS = 16 * 1024 * 1024;

/**
 * A consumer is quick if its last acknowledgement came within this time of the message. At 4 MB/s that is the larger
 * window, and on a slower line the smaller one costs nothing.
 */
export const QUICK = 1000;

/** Maximum unacknowledged messages sent to the consumer. */
export const SEND_WINDOW_MESSAGES = 2000;

/** When a deferred message is offered to its consumer again. */
export const LATER = 5 * 60_000;

/** Timeout of an RPC call between objects, which a deploy or crash can swallow. */
export const CALL_TIMEOUT = 30_000;

/**
 * How long an unregistered mailbox waits for the directory before it refuses messages. Longer than the second or two
 * that an object takes to restart, and far shorter than {@link CALL_TIMEOUT}, after which the sender's connection ends.
 * A failed call is retried after a pause.
 */
export const ENTER_TIMEOUT = 5000;
export const ENTER_PAUSE = 250;

/** Timeout for delivering to a Tunnel, which only queues the messages. A call to a mailbox may contain one. */
export const DELIVER_TIMEOUT = 10_000;

/** How long a consumer that timed out on a message with flag D is skipped for such messages. */
export const HUNG_TIME = 30_000;

/**
 * How long an isolate goes by what an account has said, and of how many senders. In that time a thousand new mailboxes
 * may be made on a small machine: see AMPLE_OCTETS.
 */
export const KNOWN_TIME = 10_000;
export const KNOWN_SENDERS = 10_000;

/**
 * What may wait for a connected consumer without being reserved: one connection's messages in flight, and one message
 * of maximum length. A consumer that drains has no more waiting, and nothing that has waited for SETTLE_PAUSE.
 */
export const UNRESERVED = RESERVE.octets;

/** When reservations are adjusted after the mailbox has emptied or its consumer has left; it may soon be back. */
export const SETTLE_PAUSE = 10_000;

/**
 * When a new mailbox asks the accounts of the senders of its first messages, which were stored without asking. By then
 * most recipients that are there have fetched theirs. It is soon, because the runtime keeps an object for ten seconds after
 * its last event: with {@link SETTLE_PAUSE} every new mailbox would take its 350 KB for twenty seconds. A mailbox that is
 * in use asks after SETTLE_PAUSE, since each alarm is a write to its disk.
 */
export const NEW_PAUSE = 2000;

/** Accounts that are asked at a time when reservations are adjusted. Each may have to be woken. */
export const SETTLE_CALLS = 32;

/**
 * Connections that a mailbox remembers as waiting for room, at a hundred bytes of row each: more than a collector has
 * sensors. Connections beyond that are not suspended; what exceeds their share is refused.
 */
export const WAITERS = 4096;

/** Waiting connections notified of room at a time. Each may have to be woken. */
export const ROOM_CALLS = 32;

/** Delay before a failed room notification is retried. An object that is being moved is back by then. */
export const ROOM_RETRY = 10_000;

/** How long acknowledged messages may stay in the log, so that the next append removes them in the same write. */
export const CUT_PAUSE = 10;
/** Delay before a write to a full disk is retried. The command gives up its ballast within a second. */
export const FULL_PAUSE = 1000;

/** Delays between retries of a Tunnel call: long enough for an object to start, short for a person. */
export const RETRY_PAUSES = [100, 400, 1600] as const;

/**
 * While messages wait for a connected consumer, the mailbox checks this often that delivery has not stalled: an evicted
 * object does not know that it was at work.
 */
export const WATCH_INTERVAL = 30_000;

/** Timeout for asking an object for its last sign of life. No answer counts as none. */
export const SIGN_TIMEOUT = 5000;

/** Devices of an identity that a mailbox remembers for when its consumer leaves: more than one person uses. */
export const FORMER_CONSUMERS = 16;

/**
 * A message refused for its size is dropped after this long. A full device is emptied by then, and a device that will
 * never take the message is not asked forever.
 */
export const REFUSED_FOR = 3600_000;

/** Messages whose first refusal is remembered. The hour of others begins when these are gone. */
export const REFUSED_MESSAGES = 256;

/** Ranges of messages set aside, and of messages counted as refused, kept in a mailbox's facts: a row of 40 KB. */
export const ASIDE_RANGES = 2000;
export const DECLINED_RANGES = 256;

/** Bytes of segments cached in memory: as much as the consumer may leave unacknowledged. */
export const CACHED_OCTETS = SEND_WINDOW;

/**
 * Bytes that wait for a quick consumer and are not sent to it, above which long messages are acknowledged only when it has
 * caught up. It has a window in flight meanwhile, so it does not run out. A sender that is faster than its recipient
 * would fill its share, and every byte would be read back from disk: with this, `bench --only files` takes a sixth less
 * of the processor.
 */
export const AHEAD_OCTETS = 3 * 1024 * 1024;

/**
 * The longest that an acknowledgement waits for that. It is what a consumer at 8 MB/s takes for all that one device has in
 * flight, and short enough for a device that sends to several such consumers, and is not read meanwhile.
 */
export const AHEAD_PATIENCE = QUICK / 2;

/**
 * Bytes of messages with long bodies that a mailbox keeps as they came until it has sent them, so that it need not read
 * them back: what may wait, and what one device has in flight beyond that. And the same for all mailboxes of an isolate,
 * an eighth of its 128 MiB.
 */
export const UNSENT_OCTETS = AHEAD_OCTETS + FLIGHT.octets + SEND_WINDOW;
export const UNSENT_IN_ISOLATE = 16 * 1024 * 1024;

/** Bytes of long messages that a mailbox has not written: what one device has in flight, with the headers of its messages. */
export const HELD_OCTETS = FLIGHT.octets + 64 * 1024;

/**
 * A consumer is near if an acknowledgement of it has ever come within this time. What one device has in flight then allows
 * 40 MB/s while messages are held until they are acknowledged; from far away it would allow less than writing them does.
 */
export const NEAR = 100;

/** How long a message may stay unwritten, and its sender without an answer: as long as for a consumer that is behind. */
export const HOLD_TIME = AHEAD_PATIENCE;

/** How long every message is written at once after one was held for too long: a tenth of the time at most is lost. */
export const HOLD_PAUSE = 10 * HOLD_TIME;

/** Numbers that are reserved before a held message is sent: a write for so many messages. */
export const RESERVED_NUMBERS = 4096;

/** Maximum cached segments. A lookup scans them. */
export const CACHED_SEGMENTS = 64;

/**
 * How long an unused mailbox stays. A device that reconnects at once finds it, and a minute after a flood of
 * attachments nothing of it is left.
 */
export const EMPTY_TIME = 30_000;

/** How often an idle mailbox asks its consumer whether it is still there: the edge may have been killed. */
export const CONSUMER_CHECK = 24 * 3600_000;

/** Restores of which a mailbox remembers the numbers that were lost: a reader from before more than these is long gone. */
export const LOST_RANGES = 8;
