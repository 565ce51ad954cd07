/**
 * The numbers of the end of SSTP, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */
import { SEND_WINDOW, SEND_WINDOW_MESSAGES } from "../mailbox/limits.ts";
import { MESSAGE_LIMIT } from "../policy/limits.ts";

/**
 * What waits in a Tunnel for sessions that its device has not made ready, of each mailbox: so little of what the mailbox
 * sends ahead that there is room for sessions that are, envelopes included.
 */
export const SUSPENDED_OCTETS = SEND_WINDOW / 4;
export const SUSPENDED_MESSAGES = SEND_WINDOW_MESSAGES / 4;

/**
 * Octets of messages that were begun on sessions which were then suspended: two of the longest, since only the end of its
 * session ends a message that is not whole.
 */
export const STUCK_OCTETS = 2 * MESSAGE_LIMIT;

/**
 * Sessions of one destination that may be closed in a row without an acknowledgement, and messages that may be refused
 * for their size in a row: then the others of that destination wait too, since each costs a session.
 */
export const SESSION_FAILURES = 3;
export const SESSION_REFUSALS = 8;

/** Destinations that a device has refused and that are remembered as such: more are asked for again. */
export const DECLINED_DESTINATIONS = 1024;

/** Octets of messages that wait in a Tunnel for their mailboxes, beyond which its device is not read. */
export const UNSTORED_OCTETS = 4 * 1024 * 1024;

/** Messages that wait in a Tunnel for their mailboxes: below what the engine lets wait, so that it never has to end. */
export const UNSTORED_MESSAGES = 8000;

/** The most that one call to a mailbox carries beyond a single long message: a quarter of what the platform allows. */
export const BATCH_OCTETS = 8 * 1024 * 1024;

/**
 * The same for messages with flag D: as much as may wait for a slow device, beyond which the next are dropped in any case.
 */
export const VOLATILE_BATCH_OCTETS = 1024 * 1024;

/** The same by number: a call must not keep a mailbox from its other senders for long. */
export const BATCH_MESSAGES = 1000;

/**
 * Octets of all the calls of one Tunnel to mailboxes, beyond which no other is begun: a long message to a thousand
 * recipients is as many copies, and an object has 128 MB for everything.
 */
export const CALL_OCTETS = 2 * BATCH_OCTETS;

/**
 * Mailboxes that one Tunnel calls at a time to have something stored: so many that a message to each of a hundred costs no more
 * than without a limit, and so few that a thousand calls of one device do not stand before everybody else's.
 */
export const CALLS_AT_ONCE = 128;

/** How many of them a Tunnel remembers: more than the recipients of the largest fanout, at a hundred bytes each. */
export const WOKEN_MAILBOXES = 4096;

/** A Noop on a link that is otherwise silent: below the 45 s that the specification allows, and below most firewalls'. */
export const LINK_KEEP_ALIVE = 25_000;

/** A relay that is silent for so long is gone: it sends a Noop of its own each 45 s. */
export const LINK_RECEIVE_TIMEOUT = 120_000;

/** Sessions on a link: one for each recipient there, and half of what a relay lets one connection have. */
export const LINK_SESSIONS = 2048;

/** Octets with flag D that wait in a Tunnel for a slow device, beyond which the next are dropped. */
export const VOLATILE_OCTETS = 1024 * 1024;

/** What a message that waits in memory costs beside its body: its fields, and what the runtime adds. */
export const MESSAGE_COST = 512;

/** Sessions that the edge keeps open towards one device. Beyond it the one that has been idle longest is closed. */
export const OPEN_SESSIONS = 64;

/** Octets for a device that its engine makes ahead: one bulk read. */
export const SESSION_OUTPUT = 256 * 1024;

/** Entries of a fanout session in one SessionStatus: the command must fit into one KeepAlive answer. */
export const STATUS_INDEXES = 8000;

/**
 * Seconds that a device is asked to stay away when its connection ends because a message was refused whose session it had
 * closed: it brings the message again, and perhaps closes the session again.
 */
export const REFUSED_REST = 5;

/**
 * Octets made for a peer that it has not taken, above which it is not read: more than messages ever put there, so that only
 * answers to a peer that asks and does not read get so far.
 */
export const UNTAKEN_OCTETS = 1024 * 1024;

/** How long a peer that is not read for that may take nothing, before it is given up: as a connection that is silent. */
export const UNTAKEN_TIMEOUT = 60_000;

/** Octets of messages that have arrived in part, over all sessions of a device: two of the longest. */
export const UNFINISHED_OCTETS = 2 * MESSAGE_LIMIT;

/** A device that was let in without a token has this time to show one in its Connect: as long as a slow proxy takes. */
export const CONNECT_PATIENCE = 30_000;

/** A decision about a Connect or a session that takes longer is none: the device tries again. */
export const DECISION_TIMEOUT = 10_000;

/** Seconds after which a device tries again when nobody could decide about it. */
export const DECISION_RETRY = 10;

/** Octets that a device may send before its Connect is answered: a Connect of full length and what an eager one adds. */
export const HELD_OCTETS = 256 * 1024;

/** What a command counts as at least, in octets: as it costs as much time as so many octets of a message. */
export const COMMAND_OCTETS = 32;

/** Octets of copies of one message that are paid for and given to their mailboxes at a time. */
export const COPIES_OCTETS = 1024 * 1024;

/** What a copy costs beside its body, in octets: a call to a mailbox, which may have to be started. */
export const COPY_COST = 4096;

/** What an Attach counts as, in messages, after the first: calls to a mailbox that write to disk, and to its last consumer. */
export const ATTACH_MESSAGES = 50;

/**
 * Mailboxes that one connection takes from: each may have a window of messages in its Tunnel's memory. A device has its
 * own, and one for each account that its person has.
 */
export const CONSUMED_MAILBOXES = 16;
