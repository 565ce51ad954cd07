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
 * A relay that vouches for its devices is one sender, whatever it says about them. Within its share, its identities share
 * in the same way: each may fill that part of what the relay may still add.
 *
 * @module
 */
import { encodeBase64url } from "../lib/base64url.ts";
import { sha256 } from "../lib/sha256.ts";
import { isRelay } from "../sstp/index.ts";

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

/** Characters of an identity above which its hash is used: a relay must not choose how much memory its names take. */
const LONGEST_NAME = 64;

/**
 * Returns the sender that a message counts as: as {@link senderOf}, but of a relay that vouches, an identity at that
 * relay.
 *
 * @param id the message's id, as a {@link Voucher} wrote it
 */
export function senderOfMessage(source: string, id: string): string {
  if (!isRelay(source)) return senderOf(source);
  const at = id.indexOf("@");
  const relay = at < 0 ? -1 : id.indexOf("@", at + 1);
  if (relay < 0) return source;
  const device = id.indexOf("/", at);
  const identity = id.slice(at + 1, device < 0 || device > relay ? relay : device);
  return `${source} ${identity.length > LONGEST_NAME ? encodeBase64url(sha256(encoder.encode(identity))) : identity}`;
}

const encoder = new TextEncoder();

/** Returns the relay that speaks for a sender that {@link senderOfMessage} returned; undefined if none does. */
export function relayOfSender(sender: string): string | undefined {
  const end = sender.indexOf(" ");
  return end < 0 || !isRelay(sender) ? undefined : sender.slice(0, end);
}

/**
 * Returns the relay by which a sender's messages come; undefined if by none. A relay is also the sender of messages that
 * it does not vouch for. They count with those of its identities: otherwise it would have two shares.
 */
export function relayBehind(sender: string): string | undefined {
  return isRelay(sender) ? (relayOfSender(sender) ?? sender) : undefined;
}

/** What waits. */
export interface Held {
  /** Of one sender. */
  readonly own: Amount;
  /** Of all senders that the same relay speaks for; undefined if none does. */
  readonly ofRelay?: Amount | undefined;
  readonly all: Amount;
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
 * Whether a sender that a relay speaks for may add something, if the relay may.
 *
 * @param own what the sender has, including the addition
 * @param ofRelay what all senders of the relay have, including the addition
 * @param all what all senders have, including the addition
 */
export function isWithinRelaysShare(own: number, ofRelay: number, all: number, capacity: number): boolean {
  return own <= shareOf(leftOf(ofRelay, capacity - all, QUOTA.share), QUOTA.share);
}

/**
 * Whether a sender may add a message to a queue.
 *
 * @param held what waits, including the message
 * @param reserve whether the sender can be suspended, which grants it the reserve for messages in flight
 */
export function hasRoom(held: Held, quota: Quota, reserve: boolean): boolean {
  return KINDS.every((kind) => {
    // What is added beyond the share also reduces the share.
    const beyond = RESERVE[kind] / (1 - quota.share);
    // What a relay has in flight is of any of its identities, whatever they have. The relay's own limit bounds it.
    const most = ({ mark, isOfIdentity }: Mark) =>
      isOfIdentity ? mark + beyond : Math.min(mark + beyond, mark * RESERVE_FACTOR);
    const isWithin = (one: Mark) => one.has <= (reserve ? most(one) : one.mark) + ROUNDING;
    return held.all[kind] <= quota[kind] && marksOf(held, quota, kind).every(isWithin);
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

/** Whether no sender can have reached its share, because all together have less than one alone may that a relay speaks for. */
export function isPlenty(all: Amount, quota: Quota): boolean {
  const share = quota.share ** 2;
  return all.messages < quota.messages * share && all.octets < quota.octets * share;
}

/** Whether no sender can have more than half of its share. */
export function isEasy(all: Amount, quota: Quota): boolean {
  return isPlenty({ messages: all.messages * 2, octets: all.octets * 2 }, quota);
}

/** Whether a sender, or the relay that speaks for it, has reached its share, so that the sender must be suspended. */
export function isAtMark(held: Held, quota: Quota): boolean {
  if ((held.ofRelay ?? held.own).messages === 0) return false;
  return KINDS.some((kind) => marksOf(held, quota, kind).some(({ has, mark }) => has >= mark));
}

/** Whether a suspended sender is down to half of its share and may continue. */
export function mayGoOn(held: Held, quota: Quota): boolean {
  return KINDS.every((kind) => marksOf(held, quota, kind).every(({ has, mark }) => has * 2 <= mark));
}

/** What a sender may add before it reaches its share. */
export function roomFor(own: Amount, all: Amount, quota: Quota): Amount {
  const room = (kind: keyof Amount) => Math.floor(leftOf(own[kind], quota[kind] - all[kind], quota.share));
  return { octets: room("octets"), messages: room("messages") };
}

/** The longest message, in bytes, that an empty queue takes. */
export function longestIn(quota: Quota): number {
  return Math.floor(quota.octets * quota.share);
}

const KINDS = ["octets", "messages"] as const;

/** Far more than floating-point numbers of this size are off, and far less than a byte. */
const ROUNDING = 1e-3;

/** What somebody has, and its share at this moment. */
interface Mark {
  readonly has: number;
  readonly mark: number;
  /** Whether a relay speaks for it, which has a mark of its own. */
  readonly isOfIdentity: boolean;
}

/** The share of a sender, and that of the relay that speaks for it. */
function marksOf({ own, ofRelay, all }: Held, { share, ...quota }: Quota, kind: keyof Amount): readonly Mark[] {
  const free = quota[kind] - all[kind];
  const mark = shareOf(free, share);
  if (ofRelay === undefined) return [{ has: own[kind], mark, isOfIdentity: false }];
  const left = leftOf(ofRelay[kind], free, share);
  return [
    { has: ofRelay[kind], mark, isOfIdentity: false },
    { has: own[kind], mark: shareOf(left, share), isOfIdentity: true },
  ];
}

function shareOf(free: number, share: number): number {
  return (free * share) / (1 - share);
}

/** What a sender may add. Whatever it adds is no longer free, so the share shrinks while it is filled. */
function leftOf(own: number, free: number, share: number): number {
  return Math.max(0, free * share - own * (1 - share));
}
