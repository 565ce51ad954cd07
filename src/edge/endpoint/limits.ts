/**
 * Limits of the SSTP endpoint, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

import { READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { DATA_HEADER_OCTETS, MAX_DATA_OCTETS, OUTPUT_BLOCK_OCTETS } from "../../sstp/index.ts";
import { FLIGHT } from "../../store-and-forward/sender-share.ts";
import { SEND_WINDOW, SEND_WINDOW_MESSAGES } from "../mailbox/limits.ts";
import { MESSAGE_LIMIT } from "../policy/limits.ts";

/**
 * Messages of one mailbox that may wait in a Tunnel for sessions that the device has not made ready, envelopes
 * included. A quarter of the window, so that sessions that are ready still have room.
 */
export const SUSPENDED_OCTETS = SEND_WINDOW / 4;
export const SUSPENDED_MESSAGES = SEND_WINDOW_MESSAGES / 4;

/**
 * Bytes of messages begun on sessions that were then suspended: two of the longest. An incomplete message can only be
 * ended by ending its session.
 */
export const STUCK_OCTETS = 2 * MESSAGE_LIMIT;

/**
 * After this many closed sessions of one destination without an acknowledgement, or this many messages in a row refused
 * for their size, the destination's other messages wait too, because each try costs a session.
 */
export const SESSION_FAILURES = 3;
export const SESSION_REFUSALS = 8;

/** Destinations remembered as refused by a device. Above that, the oldest is forgotten and tried again. */
export const DECLINED_DESTINATIONS = 1024;

/**
 * Bytes of messages waiting in a Tunnel for their mailboxes, above which the device is not read. More than our devices
 * have in flight to one recipient, whose mailbox may keep them waiting.
 */
export const UNSTORED_OCTETS = FLIGHT.octets + 1024 * 1024;

/**
 * Messages waiting in a Tunnel for their mailboxes: fewer than the engine allows, so that it never ends the connection.
 */
export const UNSTORED_MESSAGES = 8000;

/**
 * Maximum batch of one call to a mailbox, unless a single message is longer. A mailbox stores a batch in one turn, and
 * delivers nothing meanwhile, so the parts of a file go one by one.
 */
export const BATCH_OCTETS = 2 * 1024 * 1024;

/** The same for messages with flag D: as much as may wait for a slow device. More would be dropped in any case. */
export const VOLATILE_BATCH_OCTETS = 1024 * 1024;

/** Maximum messages in one call, which must not keep a mailbox from its other senders for long. */
export const BATCH_MESSAGES = 1000;

/**
 * Bytes in all of a Tunnel's calls to mailboxes, above which no further call is started. A long message to a thousand
 * recipients is as many copies, and an object has 128 MB for everything: an eighth of it.
 */
export const CALL_OCTETS = 16 * 1024 * 1024;

/**
 * Mailboxes that one Tunnel calls at a time to store messages. A message to a hundred recipients costs no more than
 * without the limit, and a thousand calls of one device do not queue ahead of those of other devices.
 */
export const CALLS_AT_ONCE = 128;

/** Woken mailboxes that a Tunnel remembers: more than the recipients of the largest fanout, at a hundred bytes each. */
export const WOKEN_MAILBOXES = 4096;

/**
 * Interval of Noops on a silent link: below the 45 s that the specification allows, and below most firewalls' timeouts.
 */
export const LINK_KEEP_ALIVE = 25_000;

/** A relay that is silent for this long is gone: it sends a Noop of its own every 45 s. */
export const LINK_RECEIVE_TIMEOUT = 120_000;

/** Sessions on a link: one per recipient there, and half of what a relay allows one connection. */
export const LINK_SESSIONS = 2048;

/**
 * Addressing of the sessions on a link: the characters of their URLs and `ENTRY_COST` for each recipient, half of what a
 * relay keeps for one connection. The relay would refuse a session beyond that, and its messages would count as refused
 * by their recipients.
 */
export const LINK_ADDRESSING = 2 * 1024 * 1024;

/**
 * How soon after another a batch must follow for a WebSocket to be opened to its consumer. That costs as much as three
 * calls: too much for somebody who types now and then, and nothing for bulk data or a program that asks and answers.
 */
export const BATCHES_SOON = 250;

/** How long it stays open without a batch: half of the time after which the platform lets an object hibernate. */
export const BATCHES_IDLE = 5_000;

/** How long after an attempt to open it there is no other. */
export const BATCHES_RETRY = 10_000;

/** Bytes with flag D that wait in a Tunnel for a slow device. More are dropped. */
export const VOLATILE_OCTETS = 1024 * 1024;

/**
 * The longest message that is streamed to another device, and the most that one call to its Tunnel carries: a call costs
 * a third of a millisecond, which a batch of this size hides, and the edge keeps few of them.
 */
export const STREAM_BATCH = 256 * 1024;

/**
 * The longest streamed message that is packed before it is known whether it can be passed on at once: many keystrokes, and
 * packed again in no time if not.
 */
export const SHORT_MESSAGE = 4096;

/**
 * Bytes that a Tunnel holds of what its device streams, and of what is streamed to it: one batch on its way, and one
 * behind it. Beyond that its device is not read, or its senders wait. The same holds for each destination behind a relay.
 */
export const STREAM_HELD = 2 * STREAM_BATCH;

/**
 * How long a batch waits for its destination before that counts as stalled: its session is suspended, and what came on it
 * is acknowledged and no longer keeps the rest of the connection waiting. A batch within this time is 0.8 MB/s, and with
 * that little nothing is lost by the round trip that a suspension costs.
 */
export const STREAM_STALL = 300;

/**
 * Bytes for stalled destinations that a Tunnel holds beside {@link STREAM_HELD}: what was on its way when their sessions
 * were suspended, which for our devices is no more. Beyond that the device is not read.
 */
export const STALLED_HELD = 4 * 1024 * 1024;

/** Tunnels that wait at one Tunnel for room, each with a batch: 4 MiB of the isolate's memory. More are turned away. */
export const STREAM_WAITING = 16;

/**
 * Messages streamed to a device or relay that it has not acknowledged. It need not, for more to be sent: its
 * acknowledgements may wait behind what it streams itself. Each is an entry of some hundred bytes.
 */
export const STREAM_UNACKNOWLEDGED = 4096;

/**
 * Bytes of all channels that one end of a link holds, in either direction. A destination that is not ready has at most one
 * batch more, while all such have less than half of it; the first message to a destination finds room in three quarters.
 * What is in flight when a session is suspended is held as well.
 */
export const LINK_STREAMS_HELD = 8 * 1024 * 1024;

/** What a destination behind a relay may have in that case. */
export const LINK_STALLED_HELD = STREAM_BATCH;

/**
 * How long the senders of streams are told that a device behind a relay has refused them: until they have tried again,
 * since the first message is lost, and no longer, since its owner may change that.
 */
export const REFUSED_TIME = 10_000;

/** Tunnels that wait at one Link, each with a batch; at most half of them for destinations that are not ready. */
export const LINK_STREAMS_WAITING = 32;

/**
 * What is streamed to a destination whose session is suspended for this long is dropped, so that the next one finds room.
 * The devices send it again. Longer than a busy device takes to read a batch.
 */
export const STALLED_TIME = 10_000;

/** How long a destination is skipped for which there was no room within HAND_TIMEOUT: others should not wait again. */
export const STALLED_PAUSE = 2_000;

/**
 * How long the answer of a mailbox is used, who consumes it and that the sender may send to it: as long as a judgement
 * about a token.
 */
export const ATTACHED_TIME = 30_000;

/**
 * Pauses in milliseconds before a device that could not be told that the token of another has ended is told again: a
 * device is back within half a minute after a restart of the edge.
 */
export const TOLD_AGAIN = [2000, 4000, 8000, 16_000] as const;

/** Devices that are told at a time. An object that ends should not burden the others of its machine. */
export const TOLD_AT_ONCE = 16;

/** Peers of one device whose Tunnels are remembered: as many as there are sessions towards a device. */
export const STREAM_PEERS = 64;

/** Memory cost of a waiting message beside its body: its fields, and the runtime's overhead. */
export const MESSAGE_COST = 512;

/** Sessions that the edge keeps open towards one device. Above that, the one that has been idle longest is closed. */
export const OPEN_SESSIONS = 64;

/**
 * Bytes that the engine makes ahead for a device. With the headers of their commands they fill one block of its output,
 * which is one bulk read; a few more would leave a second block, and so a second write, for each piece.
 */
export const SESSION_OUTPUT =
  Math.floor(OUTPUT_BLOCK_OCTETS / (MAX_DATA_OCTETS + DATA_HEADER_OCTETS)) * MAX_DATA_OCTETS;

/** Entries of a fanout session in one SessionStatus. The command must fit into one KeepAlive answer. */
export const STATUS_INDEXES = 8000;

/**
 * Seconds that a device is asked to stay away when its connection ends because a message was refused on a session that
 * it had closed. It sends the message again, and may close the session again.
 */
export const REFUSED_REST = 5;

/**
 * Bytes made for a peer but not taken, above which the peer is not read. Messages alone never reach this, so it affects
 * only a peer that requests answers and does not read them.
 */
export const UNTAKEN_OCTETS = 1024 * 1024;

/** A peer that is not read for that reason, and takes nothing for this long, is given up like a silent connection. */
export const UNTAKEN_TIMEOUT = 60_000;

/**
 * Bytes of partly received messages, over all sessions of a device: two of the longest. Above the same for all
 * connections of a principal, which may be 200, only one of them is read.
 */
export const UNFINISHED_OCTETS = 2 * MESSAGE_LIMIT;

/** What every connection may hold of them in any case: one read. */
export const UNFINISHED_SMALL = READ_SIZE;

/** How long the first may make no progress until the second is read too: a device that is there sends something. */
export const UNFINISHED_STALL = 30_000;

/** How often a connection that is not read for that reason asks whether it may go on: no delay beside 32 MiB. */
export const UNFINISHED_PAUSE = 100;

/**
 * A device admitted without a token must present one in its Connect within this time, which suffices for a slow proxy.
 */
export const CONNECT_PATIENCE = 30_000;

/** Timeout of a decision about a Connect or a session. The device tries again. */
export const DECISION_TIMEOUT = 10_000;

/** Seconds after which a device tries again when no decision was reached. */
export const DECISION_RETRY = 10;

/**
 * Bytes that a device may send before its Connect is answered: a Connect of full length and what an eager device adds.
 */
export const HELD_OCTETS = 256 * 1024;

/** Minimum size that a command is charged for, in bytes. It takes as much time as that much of a message. */
export const COMMAND_OCTETS = 32;

/** Bytes of copies of one message that are charged and queued for their mailboxes at a time. */
export const COPIES_OCTETS = 1024 * 1024;

/** Cost of a copy beside its body, in bytes: a call to a mailbox, which may have to be started. */
export const COPY_COST = 4096;

/**
 * Cost of every Attach after the first, in messages: calls to a mailbox that write to disk, and to its last consumer.
 */
export const ATTACH_MESSAGES = 50;

/**
 * Mailboxes that one connection consumes. Each may hold a window of messages in the Tunnel's memory. A device has its
 * own mailbox, and one for each account of its user.
 */
export const CONSUMED_MAILBOXES = 16;
