/**
 * Why a relay did not keep or deliver a message. One enumeration for the origin relay, the edge's mailboxes, their
 * counters and the README. Every drop counted here was also reported to the sender, if the protocol has a code for it.
 *
 * @module
 */

export const DROPS = {
  DuplicateMessage:
    "The sender has already sent this peer a message with this id; it is acknowledged and not stored again.",
  QuotaWouldBeExceeded:
    "The peer's quota is used up, or the sender went on beyond its share; the session is closed with that reason.",
  MessageTooLong: "The message is longer than the relay accepts; the session is closed with QuotaWouldBeExceeded.",
  StorageFull:
    "The disk of the edge or relay is nearly full, so new messages are refused; the session is closed with QuotaWouldBeExceeded.",
  DirectoryUnavailable:
    "The peer has no mailbox yet, and the directory of mailboxes did not answer within 5 s. The session is closed with InternalError, or a fanout gets SessionStatus QuotaWouldBeExceeded; the message may be sent again at once.",
  LockedOut: "The mailbox is locked; a fanout gets SessionStatus LockedOut, and a session is closed with EmptySession.",
  SenderNotAllowed:
    "The mailbox's rule does not admit this sender; a fanout gets SessionStatus LockedOut, and a session is closed with EmptySession.",
  StreamClosed:
    "The owner has closed the mailbox; a fanout gets SessionStatus LockedOut, and a session is closed with EmptySession.",
  PeerOffline: "A message with flag D arrived for a peer that is not connected.",
  SlowPeer: "A message with flag D arrived for a peer that has too many of them waiting.",
  RefusedByPeer:
    "The peer's device refused the message with QuotaWouldBeExceeded for an hour, or an origin relay refused it for its recipient.",
  ResourceRefused:
    "The peer's device accepts nothing for the message's resource. The message waits for a device that does, until the retention time is over.",
  Expired: "No device fetched the message within the retention time, or before the mailbox ended as its owner has set.",
  Withdrawn: "The sender took the message back before it was fetched.",
  Purged: "The owner or an operator emptied the mailbox.",
} as const;

/** Name of a drop reason: stable, and listed in the README. */
export type Drop = keyof typeof DROPS;

/** Dropped messages by reason. */
export type DropCounts = Readonly<Record<Drop, number>>;

/** Returns zeroed counters. */
export function noDrops(): Record<Drop, number> {
  return Object.fromEntries(Object.keys(DROPS).map((drop) => [drop, 0])) as Record<Drop, number>;
}
