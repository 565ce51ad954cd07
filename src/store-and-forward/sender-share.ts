/**
 * How much of a queue one sender may fill: a part of what is still free, so that no sender can fill it for all. A
 * single sender gets `share` of the whole, the next one the same part of the rest. A new sender always finds as much
 * room as the largest one has. These are the dynamic thresholds of shared switch buffers (Choudhury and Hahne, 1998),
 * which need no list of senders.
 *
 *     nothing ──── half of the share ──────────────── share ──────────── share and reserve ──── refused
 *              suspended sessions are made ready    sessions suspended    for messages in flight
 *
 * The share is a mark: what a sender has in flight when it is suspended is still accepted, within a reserve. The
 * reserve is a part of what is free as well, so senders that ignore the suspension also leave room for the next.
 *
 * @module
 */

const DEVICE = "grooveDevice://";

/** A number of messages, and the bytes that they take. */
export interface Amount {
  readonly octets: number;
  readonly messages: number;
}

/** What a queue may hold. */
export interface Quota extends Amount {
  /** The part of it that one sender alone may fill; above 0 and below 1. */
  readonly share: number;
}

/** What an edge or relay may hold. */
export interface StorageQuota extends Quota {
  /** Bytes that one sender may have waiting in all queues together. */
  readonly sender: number;
}

/**
 * The default quota of one peer. It fits a device that was away for a fortnight of ordinary use, but not a flood; small
 * messages count by number. One sender alone may use half of it, and the other half is for all others.
 *
 * One sender may have 4 GiB waiting in all queues: 4 MiB for each of a thousand absent devices, or the full share of
 * thirty, and two such senders do not yet fill a small disk.
 */
export const QUOTA: StorageQuota = {
  octets: 256 * 1024 * 1024,
  messages: 100_000,
  share: 0.5,
  sender: 4 * 1024 ** 3,
};

/**
 * What our devices have in flight to one recipient, above which they start no further message. At a round trip of 200
 * ms that allows 20 MB/s, and more messages a second than the rate of one token.
 */
export const FLIGHT: Amount = { octets: 4 * 1024 * 1024, messages: 2000 };

/** The longest message of our devices, in bytes. */
const LONGEST_MESSAGE = 16 * 1024 * 1024;

/** What a sender may have beyond its share: one connection's messages in flight, and one message of maximum length. */
export const RESERVE: Amount = { octets: FLIGHT.octets + LONGEST_MESSAGE, messages: FLIGHT.messages };

/**
 * How many times what one sender may have waiting in all queues is stored at most: as much again for connected
 * recipients, which may be slow, as for absent ones. Without this limit a sender could fill the disk by way of recipients
 * of its own that connect, take nothing and leave.
 */
const SPENT_TIMES = 2;

/** A sender that ignores the suspension gets at most this many times the share of one that does not. */
const RESERVE_FACTOR = 4;

/**
 * Returns the sender that a source counts as. The devices of an identity are one sender, since one token may name all
 * of them. A relay is one sender, whatever devices it speaks for.
 */
export function senderOf(source: string): string {
  if (!source.startsWith(DEVICE)) return source;
  const end = source.indexOf("/", DEVICE.length);
  return end < 0 ? source : source.slice(0, end);
}

/**
 * Whether a sender may add something.
 *
 * @param own what the sender has, including the addition
 * @param all what all senders have, including the addition
 */
export function isWithinShare(own: number, all: number, capacity: number, share = QUOTA.share): boolean {
  return own <= shareOf(capacity - all, share);
}

/**
 * Whether a sender may add a message to a queue.
 *
 * @param own what the sender has, including the message
 * @param all what all senders have, including the message
 * @param reserve whether the sender can be suspended, which grants it the reserve for messages in flight
 */
export function hasRoom(own: Amount, all: Amount, quota: Quota, reserve: boolean): boolean {
  return KINDS.every((kind) => {
    const free = quota[kind] - all[kind];
    const mark = shareOf(free, quota.share);
    // What is added beyond the share also reduces the share.
    const beyond = RESERVE[kind] / (1 - quota.share);
    const limit = reserve ? Math.min(mark + beyond, mark * RESERVE_FACTOR) : mark;
    return free >= 0 && own[kind] <= limit + ROUNDING;
  });
}

/**
 * Whether so much of a sender waits in all queues that connected recipients are no longer exempt.
 *
 * @param all what waits of it, in bytes
 * @param most what it may have waiting for absent recipients
 */
export function isSpent(all: number, most: number): boolean {
  return all >= SPENT_TIMES * most;
}

/** Whether no sender can have reached its share, because all together have less than one alone may. */
export function isPlenty(all: Amount, quota: Quota): boolean {
  return all.messages < quota.messages * quota.share && all.octets < quota.octets * quota.share;
}

/** Whether no sender can have more than half of its share. */
export function isEasy(all: Amount, quota: Quota): boolean {
  return isPlenty({ messages: all.messages * 2, octets: all.octets * 2 }, quota);
}

/** Whether a sender has reached its share and must be suspended. */
export function isAtMark(own: Amount, all: Amount, quota: Quota): boolean {
  return own.messages > 0 && KINDS.some((kind) => own[kind] >= shareOf(quota[kind] - all[kind], quota.share));
}

/** Whether a suspended sender is down to half of its share and may continue. */
export function mayGoOn(own: Amount, all: Amount, quota: Quota): boolean {
  return KINDS.every((kind) => own[kind] * 2 <= shareOf(quota[kind] - all[kind], quota.share));
}

/** What a sender may add before it reaches its share. */
export function roomFor(own: Amount, all: Amount, quota: Quota): Amount {
  // Whatever is added is no longer free, so the share shrinks while it is filled.
  const room = (kind: keyof Amount) =>
    Math.max(0, Math.floor((quota[kind] - all[kind]) * quota.share - own[kind] * (1 - quota.share)));
  return { octets: room("octets"), messages: room("messages") };
}

/** The longest message, in bytes, that an empty queue takes. */
export function longestIn(quota: Quota): number {
  return Math.floor(quota.octets * quota.share);
}

const KINDS = ["octets", "messages"] as const;

/** Far more than floating-point numbers of this size are off, and far less than a byte. */
const ROUNDING = 1e-3;

function shareOf(free: number, share: number): number {
  return (free * share) / (1 - share);
}
