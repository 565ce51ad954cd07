/**
 * Why a relay did not keep or deliver a message. One enumeration for the origin relay, the edge's mailboxes, their
 * counters and the README. Every drop counted here was also reported to the sender, if the protocol has a code for it.
 *
 * @module
 */

export const DROPS = {
  DuplicateMessage:
    "The source has sent a message with this id to this peer before; it is acknowledged and not stored again.",
  QuotaWouldBeExceeded:
    "The peer's quota is used up, or its sender has gone on beyond its share; the session is closed with that reason.",
  MessageTooLong: "The message is longer than the relay takes; the session is closed with QuotaWouldBeExceeded.",
  StorageFull:
    "The disk of the edge or the relay is nearly full, so that it takes no new messages; the session is closed with QuotaWouldBeExceeded.",
  DirectoryUnavailable:
    "The peer has no mailbox yet, and the directory of mailboxes did not answer within 5 s. The session is closed with InternalError, a fanout gets SessionStatus QuotaWouldBeExceeded; it may be sent again at once.",
  LockedOut:
    "The mailbox is locked against senders; a fanout gets SessionStatus LockedOut, a session is closed with EmptySession.",
  SenderNotAllowed:
    "The rule of the mailbox does not let this sender in; a fanout gets SessionStatus LockedOut, a session is closed with EmptySession.",
  PeerOffline: "A message with flag D came for a peer that is not connected.",
  SlowPeer: "A message with flag D came for a peer that has too many of them waiting.",
  RefusedByPeer:
    "The peer's device has refused the message with QuotaWouldBeExceeded for an hour, or an origin relay will not have it for its recipient.",
  ResourceRefused:
    "The peer's device takes nothing for the resource of the message. It waits for a device that does, until the retention time is over.",
  Expired: "Nobody fetched the message within the retention time.",
  Withdrawn: "Its sender has taken it back before it was fetched.",
  Purged: "An operator has emptied the mailbox.",
} as const;

/** Name of a drop reason: stable, and listed in the README. */
export type Drop = keyof typeof DROPS;

/** Dropped messages by reason. */
export type DropCounts = Readonly<Record<Drop, number>>;

/** Returns zeroed counters. */
export function noDrops(): Record<Drop, number> {
  return Object.fromEntries(Object.keys(DROPS).map((drop) => [drop, 0])) as Record<Drop, number>;
}
