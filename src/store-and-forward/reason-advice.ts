/**
 * What a device does about a failure: one table for all reasons of an edge and its encapsulations. The device library
 * uses it, and the README's tables show it.
 *
 * @module
 */

/**
 * `retry`: the same may succeed later. `another transport`: so it may, but more likely by another transport. `give up`:
 * not before somebody has changed something.
 */
export type Advice = "retry" | "another transport" | "give up";

export const REASON_ADVICE = {
  MalformedTarget: "give up",
  WrongVersion: "give up",
  WrongEncapsulation: "give up",
  WrongRelay: "give up",
  DuplicateConnection: "retry",
  // A proxy has repeated a request that must not be repeated.
  SecondGet: "another transport",
  SecondPost: "another transport",
  DataBeforeEstablished: "retry",
  BodyTooLong: "retry",
  GrownBodyRefused: "retry",
  ContentLengthExceeded: "retry",
  ContentLengthReached: "retry",
  BadEcho: "another transport",
  UnknownConnection: "retry",
  ConnectionClosed: "retry",
  SessionEnded: "retry",
  // A proxy lets one of the two requests through, or holds both back.
  EstablishmentTimeout: "another transport",
  ReceiveTimeout: "retry",
  RepeatedRequest: "retry",
  OldRequest: "retry",
  AnswerForgotten: "retry",
  // A proxy changes what it passes on.
  MalformedPoll: "another transport",
  BadChecksum: "another transport",
  BadSequence: "retry",
  MalformedHead: "another transport",
  HeadTooLong: "another transport",
  MalformedBody: "another transport",
  MethodNotImplemented: "another transport",
  UnexpectedStatus: "retry",
  AuthenticationRequired: "retry",
  ExchangeFailed: "another transport",
  // Only the operator can fix this, and the device connects again once it is fixed.
  NoKeys: "retry",
  KeysUnavailable: "retry",
  TokenNeeded: "give up",
  TokenInvalid: "give up",
  TokenExpired: "give up",
  TokenNotYetValid: "give up",
  TokenRevoked: "give up",
  WrongAudience: "give up",
  ScopeMissing: "give up",
  RelayNotAllowed: "give up",
  MalformedRelay: "give up",
  RelayPrivate: "give up",
  DNSLookupFailed: "retry",
  EdgeMisconfigured: "retry",
  OriginUnreachable: "retry",
  OriginNotDialled: "give up",
  LinkInClear: "give up",
  RelayNotProven: "give up",
  OriginClosed: "retry",
  OriginReset: "retry",
  DeviceGone: "retry",
  ConnectionLost: "retry",
  OriginRefused: "give up",
  WebSocketNotPassed: "another transport",
  // A proxy has taken the header away.
  UpgradeNeeded: "another transport",
  TooManyHalfOpen: "retry",
  TooManyMisses: "retry",
  TooManyOpenFiles: "retry",
  TooManyLookups: "retry",
  ConnectTimeout: "retry",
  HoldIgnored: "retry",
  TooManyMailboxes: "give up",
  OutputNotTaken: "retry",
  NoSignOfLife: "retry",
  NotAcknowledged: "retry",
  EdgeClosed: "retry",
  MalformedAddress: "give up",
  MalformedSender: "give up",
  LockedOut: "give up",
  MalformedRule: "give up",
  UnknownInbox: "give up",
  SignatureMissing: "give up",
  SignatureWrong: "give up",
  SignatureNotCurrent: "give up",
  InboxBusy: "retry",
  InboxFull: "retry",
  RequestTooLong: "give up",
  MalformedInbox: "give up",
  InboxExists: "give up",
  TooManyInboxes: "give up",
  SetAsideFull: "retry",
  AdminTokenNeeded: "give up",
  SessionNeeded: "give up",
  FormRefused: "give up",
  SignInInClear: "give up",
  TooManySignIns: "retry",
  MalformedStreamName: "give up",
  MalformedStreamHeader: "give up",
  MalformedContentType: "give up",
  MalformedOffset: "give up",
  MalformedQuery: "give up",
  EmptyAppend: "give up",
  MalformedJson: "give up",
  EpochWithoutStart: "give up",
  ForkBeyondEnd: "give up",
  ForkTooDeep: "give up",
  StreamNotFound: "give up",
  StreamDiffers: "give up",
  DeletedButForked: "give up",
  StreamDeleted: "give up",
  StreamClosed: "give up",
  ContentTypeDiffers: "give up",
  SequenceConflict: "give up",
  ProducerFenced: "give up",
  ProducerGap: "give up",
  OffsetGone: "give up",
  AppendTooLong: "give up",
  TooManyProducers: "retry",
  TooManyReaders: "retry",
  StreamQuota: "retry",
  EnvelopeRefused: "give up",
  ForkOfMailbox: "give up",
  MailboxNeedsSender: "give up",
  MailboxFull: "retry",
  TokenInQuery: "give up",
  TicketInvalid: "give up",
  MalformedTicketRequest: "give up",
  TooManyTickets: "retry",
  BodyIncomplete: "retry",
  EdgeBusy: "retry",
  StorageTimeout: "retry",
  StorageFull: "retry",
  StorageFailed: "retry",
  // While a proxy is being set up, its prefix may be wrong for a while.
  EdgeStopping: "retry",
  MetricsUnavailable: "retry",
  WrongPrefix: "retry",
  NewerSchema: "retry",
  NotFound: "retry",
  InternalError: "retry",
} as const satisfies Readonly<Record<string, Advice>>;

/** Name of a reason, over HTTP, in SSTP, in logs and in the README. Every edge and relay draws from these. */
export type ReasonName = keyof typeof REASON_ADVICE;

/**
 * What to do about a reason.
 *
 * @param status of the answer that gave it, which decides if a newer edge has given a reason that is not known here
 */
export function adviceOf(reason: string, status?: number): Advice {
  if (isKnown(reason)) return REASON_ADVICE[reason];
  return status === 401 || status === 403 ? "give up" : "retry";
}

function isKnown(reason: string): reason is ReasonName {
  return Object.hasOwn(REASON_ADVICE, reason);
}
