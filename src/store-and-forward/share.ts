/**
 * How much of a queue one sender may fill: a part of what is still free, so that nobody can fill it for all. One alone gets
 * `share` of the whole, the next the same part of what is left; a newcomer always finds as much room as the largest has.
 * These are the dynamic thresholds of shared switch buffers (Choudhury and Hahne, 1998): they need no list of who will come.
 *
 *     nothing ──── half of the share ──────────────── share ──────────── share and reserve ──── refused
 *              its sessions are made ready again   they are suspended    for what is on its way
 *
 * The share is a mark: what a sender has on its way when it is suspended is still taken, within a reserve. That is a part of
 * what is free as well: senders that go on regardless leave room for the next like all others.
 *
 * @module
 */

const DEVICE = "grooveDevice://";

/** An amount of messages, and of what they take. */
export interface Amount {
  readonly octets: number;
  readonly messages: number;
}

/** What a queue may hold. */
export interface Quota extends Amount {
  /** The part of it that one sender alone may fill; above 0 and below 1. */
  readonly share: number;
}

/**
 * What may wait for one peer when nobody says otherwise. A device that was away for a fortnight of ordinary use fits, a flood
 * does not; small messages cost by number. One sender alone may have half of it, and the other half is for all others.
 */
export const QUOTA: Quota = { octets: 256 * 1024 * 1024, messages: 100_000, share: 0.5 };

/**
 * What a device of ours has on its way to one recipient and not acknowledged, beyond which it begins no other message: at a
 * round trip of 200 ms the 20 MB/s and more messages a second than the rate of one token allows.
 */
export const FLIGHT: Amount = { octets: 4 * 1024 * 1024, messages: 2000 };

/** The longest message of a device of ours. */
const LONGEST_MESSAGE = 16 * 1024 * 1024;

/** What a sender may have beyond its share: what one connection of ours has on its way, and a message of the longest. */
export const RESERVE: Amount = { octets: FLIGHT.octets + LONGEST_MESSAGE, messages: FLIGHT.messages };

/** A sender that goes on regardless has at most so many times the share of one that does not. */
const RESERVE_FACTOR = 4;

/**
 * Who a source counts as: the devices of an identity are one sender, since one token may name all of them; a relay is one,
 * whomever it speaks for.
 */
export function senderOf(source: string): string {
  if (!source.startsWith(DEVICE)) return source;
  const end = source.indexOf("/", DEVICE.length);
  return end < 0 ? source : source.slice(0, end);
}

/**
 * Whether a sender may add something.
 *
 * @param own what the sender has, with what is added
 * @param all what everybody has, with what is added
 */
export function isWithinShare(own: number, all: number, capacity: number, share = QUOTA.share): boolean {
  return own <= shareOf(capacity - all, share);
}

/**
 * Whether a sender may add a message to a queue.
 *
 * @param own what the sender has, with the message
 * @param all what everybody has, with the message
 * @param reserve whether the sender can be suspended, so that it has the reserve for what is on its way
 */
export function hasRoom(own: Amount, all: Amount, quota: Quota, reserve: boolean): boolean {
  return KINDS.every((kind) => {
    const free = quota[kind] - all[kind];
    const mark = shareOf(free, quota.share);
    // What is added beyond the share takes from the share as well.
    const beyond = RESERVE[kind] / (1 - quota.share);
    const limit = reserve ? Math.min(mark + beyond, mark * RESERVE_FACTOR) : mark;
    return free >= 0 && own[kind] <= limit;
  });
}

/** Whether nobody can have as much as its share, since all together have less than one alone may. */
export function isPlenty(all: Amount, quota: Quota): boolean {
  return all.messages < quota.messages * quota.share && all.octets < quota.octets * quota.share;
}

/** Whether nobody can have more than half of its share. */
export function isEasy(all: Amount, quota: Quota): boolean {
  return isPlenty({ messages: all.messages * 2, octets: all.octets * 2 }, quota);
}

/** Whether a sender has as much as its share or more, and is to be suspended. */
export function isAtMark(own: Amount, all: Amount, quota: Quota): boolean {
  return own.messages > 0 && KINDS.some((kind) => own[kind] >= shareOf(quota[kind] - all[kind], quota.share));
}

/** Whether a sender that was suspended has half of its share or less, and may go on. */
export function mayGoOn(own: Amount, all: Amount, quota: Quota): boolean {
  return KINDS.every((kind) => own[kind] * 2 <= shareOf(quota[kind] - all[kind], quota.share));
}

/** What a sender may add before it has its share. */
export function roomFor(own: Amount, all: Amount, quota: Quota): Amount {
  // What is added is no longer free: the share becomes smaller while it is filled.
  const room = (kind: keyof Amount) =>
    Math.max(0, Math.floor((quota[kind] - all[kind]) * quota.share - own[kind] * (1 - quota.share)));
  return { octets: room("octets"), messages: room("messages") };
}

/** The longest message that a queue takes when nothing else is in it. */
export function longestIn(quota: Quota): number {
  return Math.floor(quota.octets * quota.share);
}

const KINDS = ["octets", "messages"] as const;

function shareOf(free: number, share: number): number {
  return (free * share) / (1 - share);
}
