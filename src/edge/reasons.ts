/**
 * The edge's vocabulary of failure, for code, logs, answers and the README:
 *
 *   REASONS    why a request is refused, or a virtual connection or link ends. The encapsulations and tokens have
 *              registries of their own; the edge adds the rest
 *   FINDINGS   what can be wrong with the settings, and what that prevents
 *   DROPS      why a message is not kept or delivered: ../store-and-forward/drop-reasons.ts, which the relay shares
 *
 * @module
 */
import { TOKEN_PROBLEMS } from "../auth/token-problems.ts";
import { REASONS as ENCAPSULATION, type ReasonRule } from "../encapsulation/index.ts";
import type { ReasonName } from "../store-and-forward/reason-advice.ts";

/** Statuses that the encapsulations do not have, and their titles. */
export const MORE_STATUSES = {
  409: "Conflict",
  410: "Gone",
  413: "Content Too Large",
  429: "Too Many Requests",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  507: "Insufficient Storage",
} as const;

/** The meaning of a reason, with any of the statuses. */
export interface EdgeReasonRule extends Omit<ReasonRule, "status"> {
  readonly status: ReasonRule["status"] | keyof typeof MORE_STATUSES;
}

export const REASONS = {
  ...ENCAPSULATION,
  ...TOKEN_PROBLEMS,
  RelayNotAllowed: {
    status: 403,
    cause: "The relay named in the request is not on this edge's allow list.",
    cure: "Name an allowed relay, or ask the operator to add it to ORIGIN_RELAYS (--relay-allow).",
  },
  MalformedRelay: {
    status: 400,
    cause: "The relay named in the request is neither a host name nor an IP address, with or without a port.",
    cure: "Write HOST, HOST:PORT or [IPV6]:PORT in ASCII.",
  },
  RelayPrivate: {
    status: 403,
    cause: "The relay is on the allow list, but its name or one of its addresses is not public.",
    cure: "Give the relay a public address; for development, set DEV=private (--dev-private) at the edge.",
  },
  DNSLookupFailed: {
    status: 500,
    cause: "The origin relay's name has no address, or the resolver did not answer.",
    cure: "Check the name in DNS, and the edge's RESOLVER setting.",
  },
  EdgeMisconfigured: {
    status: 500,
    cause: "A setting of this edge is malformed or insecure, so the edge dials no relay, or serves no request.",
    cure: "The edge's log names the setting and what to write instead.",
  },
  OriginUnreachable: {
    status: 500,
    cause: "The origin relay refused the TCP connection, or did not answer in time.",
    cure: "Check that the relay is running, that its port is open, and that its name is not proxied by Cloudflare.",
  },
  OriginNotDialled: {
    status: null,
    cause:
      "A device asked for a TCP destination that STREAM_ORIGINS or its token does not allow, or that did not answer.",
    cure: "The log says which of these; correct STREAM_ORIGINS (--stream-allow), the token, or the service.",
  },
  LinkInClear: {
    status: 403,
    cause: "The relay is on the public internet, and the link to it would not be encrypted.",
    cure: "Set LINK_WAYS=tls:PORT (--link-ways), or permit it with LINK_PLAIN (--link-plain) or NAME=none in LINK_SECRETS (--link-secret).",
  },
  RelayNotProven: {
    status: 403,
    cause: "The relay has not proved that it shares a secret with this edge.",
    cure: "Configure the same secret on both sides: LINK_SECRETS (--link-secret) here, --link-secret at the bundled relay.",
  },
  OriginClosed: {
    status: 404,
    cause: "The origin relay closed its connection.",
    cure: "Connect again; the relay's own message says why.",
  },
  OriginReset: {
    status: 404,
    cause: "The connection to the origin relay was reset.",
    cure: "Connect again; if it happens often, check the network between the edge and the relay.",
  },
  DeviceGone: {
    status: 404,
    cause:
      "The device reset or ended one of the two requests of its virtual connection, or announced that it was leaving.",
    cure: "Connect again.",
  },
  ConnectionLost: {
    status: 404,
    cause: "The edge restarted and no longer knows this virtual connection.",
    cure: "Connect again; unacknowledged messages are sent again.",
  },
  OriginRefused: {
    status: 403,
    cause: "The request comes from a web page of another origin, and this edge admits anybody without a token.",
    cure: "Configure keys (--keys), and give the page a token; for development, load the page from localhost.",
  },
  WebSocketNotPassed: {
    status: 501,
    cause: "A WebSocket virtual connection cannot be passed through to an origin relay.",
    cure: "Use the edge itself as the relay, or use LongLived or KeepAlive (--transport).",
  },
  UpgradeNeeded: {
    status: 400,
    cause: "The target says ConnType=WebSocket, but the request does not ask for an upgrade.",
    cure: "Send Upgrade: websocket. If a proxy removes it, use KeepAlive (--transport keepalive).",
  },
  TooManyHalfOpen: {
    status: 500,
    cause: "Too many virtual connections from this source have not yet sent the Connect of SSTP.",
    cure: "Send Connect on them, and try again after the number of seconds in Retry-After.",
  },
  TooManyMisses: {
    status: 500,
    cause: "Too many requests from this source named virtual connections that do not exist.",
    cure: "Open a new virtual connection after the number of seconds in Retry-After.",
  },
  TooManyOpenFiles: {
    status: 500,
    cause: "The edge has nearly as many files open as its system allows: new connections are refused.",
    cure: "Connect again after the number of seconds in Retry-After. The operator raises the limit of open files.",
  },
  TooManyLookups: {
    status: 429,
    cause: "Too many requests from this source named streams, mailboxes, tickets or inboxes that do not exist.",
    cure: "Ask again after the number of seconds in Retry-After, and less often.",
  },
  ConnectTimeout: {
    status: 408,
    cause: "The device opened a virtual connection to this edge and did not send the Connect of SSTP in time.",
    cure: "Send Connect within 30 seconds.",
  },
  HoldIgnored: {
    status: 404,
    cause:
      "The device kept sending over its WebSocket after it was told to hold, sent too much at once while much was waiting from others, or sent many messages before Connect.",
    cure: "After the text message hold, send nothing until go on arrives; send less than 256 KiB at a time.",
  },
  TooManyMailboxes: {
    status: 403,
    cause: "The Connect names more devices than one connection may receive for.",
    cure: "Open a connection for each device.",
  },
  OutputNotTaken: {
    status: 404,
    cause: "The device kept sending, but did not read the edge's replies.",
    cure: "Read while sending; over a WebSocket, answer marks as the README describes.",
  },
  NoSignOfLife: {
    status: 404,
    cause:
      "Messages were waiting for the device, and its WebSocket, which had pinged before, was silent for over a minute.",
    cure: "Connect again; unacknowledged messages are sent again.",
  },
  NotAcknowledged: {
    status: null,
    cause:
      "The device acknowledged none of the messages of its identity for ACKNOWLEDGE_TIME, so another device gets them.",
    cure: "Acknowledge what is handled; the operator may set a longer ACKNOWLEDGE_TIME (--acknowledge-time).",
  },
  EdgeClosed: {
    status: 404,
    cause: "This edge has closed the SSTP connection.",
    cure: "Connect again, unless the edge's last command says otherwise.",
  },
  MalformedAddress: {
    status: 400,
    cause: "The address is not identity or identity/device.",
    cure: "Write identity or identity/device, percent-encoded in the URL: bob%2Flaptop.",
  },
  MalformedSender: {
    status: 400,
    cause: "The query does not name the sending device, or the ids of its messages.",
    cure: "Write from=identity/device; to take messages back, add id= and the beginning of their ids.",
  },
  LockedOut: {
    status: 403,
    cause: "The mailbox accepts no messages from this sender: it is locked, or its rule excludes the sender.",
    cure: "Ask the recipient to change the rule, or the operator to unlock it (grooveway mailbox rule, unlock).",
  },
  MalformedRule: {
    status: 400,
    cause: "The body is not a JSON object whose member senders is a rule of who may send.",
    cure: 'Write {"senders": "everyone"}, "nobody", or patterns separated by spaces, such as "alice bob/phone".',
  },
  UnknownInbox: {
    status: 404,
    cause: "There is no inbox at this URL: it was removed, or given another URL, or there never was one.",
    cure: "Ask its owner for the URL, which grooveway inbox create has printed (inbox rotate --url makes another).",
  },
  SignatureMissing: {
    status: 403,
    cause: "The request does not have the signature that the inbox asks for.",
    cure: "Set the secret at the provider, or make the inbox with the --verify that fits the provider.",
  },
  SignatureWrong: {
    status: 403,
    cause: "The signature of the request was not made with the secret of the inbox, or over other bytes.",
    cure: "Set the same secret at the provider and here (grooveway inbox rotate --secret).",
  },
  SignatureNotCurrent: {
    status: 403,
    cause: "The signed time of the request is more than five minutes from the edge's clock.",
    cure: "Check the clocks of the provider and of the edge; a request that was kept must be signed again.",
  },
  InboxBusy: {
    status: 500,
    cause: "The inbox gets more requests a second than it takes, or its mailbox cannot store any at the moment.",
    cure: "Send it again after the number of seconds in Retry-After; its owner may set a higher --rate.",
  },
  InboxFull: {
    status: 500,
    cause: "So much waits for the owner of the inbox that no more is stored, or the disk of this edge is nearly full.",
    cure: "Send it again later; its owner fetches what waits (grooveway recv --forward).",
  },
  RequestTooLong: {
    status: 400,
    cause: "The body of the request is longer than the inbox takes.",
    cure: "Let the provider send less; its owner may make an inbox with a larger --max-size.",
  },
  MalformedInbox: {
    status: 400,
    cause: "What an inbox is to be, or what is to be done with it, is not understood.",
    cure: "The detail says what to change; grooveway inbox --help has the options.",
  },
  InboxExists: {
    status: 400,
    cause: "There is an inbox of this name.",
    cure: "Give the new one another name, or remove the old one first (grooveway inbox rm).",
  },
  TooManyInboxes: {
    status: 403,
    cause: "There are as many inboxes for this address as there may be.",
    cure: "Remove some (grooveway inbox rm).",
  },
  SetAsideFull: {
    status: 507,
    cause: "As many requests are set aside for this address as there may be.",
    cure: "Replay or remove some (grooveway inbox replay, grooveway inbox rm --failed).",
  },
  AdminTokenNeeded: {
    status: 401,
    cause: "The request has no admin token, or a wrong one.",
    cure: "Send the edge's ADMIN_TOKEN (--admin-token), or a token with the scope admin (for /metrics: metrics), as Authorization: Bearer.",
  },
  SessionNeeded: {
    status: 401,
    cause: "The request has no session of an operator, or its session or the token of it has ended.",
    cure: "Sign in on the page /status.",
  },
  FormRefused: {
    status: 403,
    cause: "The form comes from a page of another origin, is older than an hour, or was sent before.",
    cure: "Load the page again and send its form once. A reverse proxy must pass on Host and X-Forwarded-Proto.",
  },
  SignInInClear: {
    status: 403,
    cause: "The page is reached by plain HTTP from another machine, which would show the token on the way.",
    cure: "Use https, or http://localhost on the machine of the edge. A reverse proxy must send X-Forwarded-Proto.",
  },
  TooManySignIns: {
    status: 429,
    cause: "This source has tried to sign in too often.",
    cure: "Wait for the time in Retry-After, then sign in with the edge's ADMIN_TOKEN or a token with the scope admin.",
  },
  MalformedStreamName: {
    status: 400,
    cause: "The path after /mailboxes/ is neither an address nor the name of a stream.",
    cure: "Write three or more segments that are not empty, percent-encoded: /mailboxes/app/logs/today.",
  },
  MalformedStreamHeader: {
    status: 400,
    cause: "A header of the Durable Streams protocol has a value that it cannot have.",
    cure: "Correct the header that the detail names.",
  },
  MalformedContentType: {
    status: 400,
    cause: "The request has a body, but no Content-Type, or a malformed one.",
    cure: "Send the Content-Type with which the stream was created.",
  },
  MalformedOffset: {
    status: 400,
    cause: "The offset is missing or malformed.",
    cure: "Read from -1, from now, or from the Stream-Next-Offset of an earlier answer.",
  },
  MalformedQuery: {
    status: 400,
    cause: "The query has a parameter twice, or with a value that it cannot have.",
    cure: "Correct the parameter that the detail names.",
  },
  EmptyAppend: {
    status: 400,
    cause: "The request appends nothing and closes nothing: its body is empty, or an empty array of JSON.",
    cure: "Send a body, or Stream-Closed: true.",
  },
  MalformedJson: {
    status: 400,
    cause: "The stream is one of JSON, and the body is not JSON in UTF-8.",
    cure: "Send one value, or an array whose elements are the messages.",
  },
  EpochWithoutStart: {
    status: 400,
    cause: "The first request of a producer's new epoch does not have Producer-Seq: 0.",
    cure: "Begin each epoch with 0.",
  },
  ForkBeyondEnd: {
    status: 400,
    cause: "The place to fork at is not in the source, or is past the next end of an append.",
    cure: "Use an offset that the source has given, and a sub-offset within the append that follows it.",
  },
  ForkTooDeep: {
    status: 400,
    cause: "The source is a fork of a fork, too many times over.",
    cure: "Fork one of the streams that it was made of.",
  },
  StreamNotFound: {
    status: 404,
    cause: "There is no stream of this name: it was never created, was deleted, or has expired.",
    cure: "Create it with PUT.",
  },
  StreamDiffers: {
    status: 409,
    cause: "A stream of this name exists with another content type, lifetime, closure or source.",
    cure: "Create it as it is, delete it first, or use another name.",
  },
  DeletedButForked: {
    status: 409,
    cause: "The stream was deleted, and its data is kept for its forks.",
    cure: "Use another name, or delete the forks first.",
  },
  StreamDeleted: {
    status: 410,
    cause: "The stream was deleted; its name is free again when its forks are deleted too.",
    cure: "Read one of its forks.",
  },
  StreamClosed: {
    status: 409,
    cause: "The stream is closed, so nothing can be appended any more.",
    cure: "Append to another stream.",
  },
  ContentTypeDiffers: {
    status: 409,
    cause: "The Content-Type is not that of the stream.",
    cure: "Send the Content-Type with which the stream was created.",
  },
  SequenceConflict: {
    status: 409,
    cause: "The Stream-Seq is not greater than that of the last append.",
    cure: "Another writer was faster: read what it has appended, and decide anew.",
  },
  ProducerFenced: {
    status: 403,
    cause: "A newer instance of this producer has begun: the Producer-Epoch is older than its.",
    cure: "Stop, or begin an epoch above the one in the header Producer-Epoch.",
  },
  ProducerGap: {
    status: 409,
    cause: "Requests of this producer are missing before this one.",
    cure: "Send the one in the header Producer-Expected-Seq first.",
  },
  OffsetGone: {
    status: 410,
    cause: "The offset is of an earlier stream of this name, or of data that is no longer kept.",
    cure: "Read from -1, or from now.",
  },
  AppendTooLong: {
    status: 413,
    cause: "The body, or one message of JSON in it, is longer than one append may be.",
    cure: "Append it in several requests.",
  },
  TooManyProducers: {
    status: 429,
    cause: "The stream has heard of as many producers in the last days as it remembers.",
    cure: "Keep one Producer-Id for each writer, and count its starts in Producer-Epoch.",
  },
  TooManyReaders: {
    status: 429,
    cause: "As many readers wait at this stream as one object can hold.",
    cure: "Read again later, or without live.",
  },
  StreamQuota: {
    status: 507,
    cause: "The streams that this stream's creator has made are as large as QUOTA allows.",
    cure: "Delete streams, or ask the operator for a larger sender= in QUOTA (--quota).",
  },
  EnvelopeRefused: {
    status: 400,
    cause: "The message has the members id, from and time, which the edge itself writes around a message.",
    cure: "Send what is to be its body.",
  },
  ForkOfMailbox: {
    status: 400,
    cause:
      "The mailbox of a peer cannot be forked or be a fork: what is acknowledged leaves it, and each message is from a device.",
    cure: "Read the mailbox, and append what you have read to a stream.",
  },
  MailboxNeedsSender: {
    status: 400,
    cause: "The PUT of a mailbox has a body, but each message in a mailbox is from a device.",
    cure: "Send the body with POST.",
  },
  MailboxFull: {
    status: 507,
    cause: "The mailbox holds as much as QUOTA allows, of all senders or of this one.",
    cure: "Send again when the recipient has taken some of it.",
  },
  TokenInQuery: {
    status: 400,
    cause: "The query has a token, which would be in the logs of every server on the way.",
    cure: "Send the token as Authorization: Bearer, or get a ticket for the stream with it.",
  },
  TicketInvalid: {
    status: 401,
    cause: "The ticket is not for this stream, was not used within a minute, or is older than an hour.",
    cure: "Get another one: POST /tickets with a token.",
  },
  MalformedTicketRequest: {
    status: 400,
    cause: "The body is not a JSON object whose member mailbox names a stream or a mailbox.",
    cure: 'Write {"mailbox": "app/logs/today"}.',
  },
  TooManyTickets: {
    status: 429,
    cause: "As many tickets of this stream are valid as it keeps, or as one reader may have.",
    cure: "Use the tickets that there are: one serves a page for an hour.",
  },
  BodyIncomplete: {
    status: 400,
    cause: "The body ended before all of it had come, or its chunks were malformed: nothing of it is stored.",
    cure: "Send it again; if it happens often, check the proxies on the way.",
  },
  EdgeBusy: {
    status: 503,
    cause:
      "The edge has no memory for the body now: long bodies of this sender, or of all, take up what there is for them.",
    cure: "Send it again after the number of seconds in Retry-After, fewer at once, or in pieces of up to 64 KiB.",
  },
  StorageTimeout: {
    status: 504,
    cause:
      "What keeps the stream, mailbox or inbox did not answer in time. It may have done what was asked, or may do it later.",
    cure: "Send it again. With a Producer-Id or Idempotency-Key it is stored once; without them, read first whether it is there.",
  },
  StorageFull: {
    status: 507,
    cause: "The disk of this edge is nearly full: new messages are refused, and /health answers 503.",
    cure: "Free disk space, or lower --min-free; waiting messages can still be read and purged.",
  },
  StorageFailed: {
    status: 507,
    cause: "The disk of this edge takes no writes: nothing new is accepted, and /health answers 503.",
    cure: "The operator looks whether the system has made the disk read-only, and repairs it; what was accepted is kept.",
  },
  EdgeStopping: {
    status: 500,
    cause: "The edge is stopping, to be started again or for good.",
    cure: "Connect again after the number of seconds in Retry-After.",
  },
  MetricsUnavailable: {
    status: 500,
    cause: "A part of the counters did not answer in time, and without it the others would be misleading.",
    cure: "Scrape again; if it persists, the edge's log says why its objects fail.",
  },
  WrongPrefix: {
    status: 404,
    cause: "The request is for an edge under another path of this host.",
    cure: "Give the whole URL of the edge, with its path; the operator sets PREFIX (--prefix) unless the proxy removes the path.",
  },
  NewerSchema: {
    status: 500,
    cause: "The stored data was written by a newer release of Grooveway.",
    cure: "Run that release or a later one: stored data cannot be downgraded.",
  },
  NotFound: { status: 404, cause: "There is nothing at this path.", cure: "See / for the paths of this edge." },
  InternalError: {
    status: 500,
    cause: "An unexpected error occurred at the edge.",
    cure: "Try again; if it persists, tell the operator the time, the path and the header Grooveway-Request, if there is one.",
  },
} as const satisfies Record<ReasonName, EdgeReasonRule>;

/** Name of a reason. Names are stable, and listed in the README. */
export type Reason = keyof typeof REASONS;

/** What can be wrong with the settings. */
interface FindingRule {
  /** Its settings. */
  readonly settings: readonly string[];
  /**
   * What it prevents. `start`: the command does not start an edge; a deployed one, which has started anyway, logs it.
   * `service`: that edge serves no request either, because it cannot guess the setting.
   */
  readonly prevents: "nothing" | "start" | "service";
}

export const FINDINGS = {
  NoKeys: { settings: ["KEYS", "JWKS_URL"], prevents: "start" },
  InsecureKeys: { settings: ["JWKS_URL", "REVOKED_URL"], prevents: "start" },
  WildcardRelays: { settings: ["ORIGIN_RELAYS"], prevents: "start" },
  MalformedRelays: { settings: ["ORIGIN_RELAYS"], prevents: "start" },
  InsecureResolver: { settings: ["RESOLVER"], prevents: "start" },
  DevelopmentSettings: { settings: ["DEV"], prevents: "nothing" },
  MalformedDev: { settings: ["DEV"], prevents: "start" },
  MalformedRate: { settings: ["RATE"], prevents: "service" },
  MalformedQuota: { settings: ["QUOTA"], prevents: "service" },
  MalformedLinks: { settings: ["LINKS"], prevents: "start" },
  ForbiddenLinks: { settings: ["LINKS"], prevents: "start" },
  MalformedWays: { settings: ["LINK_WAYS"], prevents: "start" },
  MalformedLinkSecrets: { settings: ["LINK_SECRETS"], prevents: "start" },
  MalformedLinkPlain: { settings: ["LINK_PLAIN"], prevents: "start" },
  LinkInClear: { settings: ["LINKS", "LINK_SECRETS"], prevents: "start" },
  MalformedName: { settings: ["RELAY_NAME"], prevents: "start" },
  MalformedProxies: { settings: ["TRUSTED_PROXIES"], prevents: "start" },
  MalformedPrefix: { settings: ["PREFIX"], prevents: "start" },
  MalformedAcknowledgeTime: { settings: ["ACKNOWLEDGE_TIME"], prevents: "service" },
  MalformedKeepTime: { settings: ["KEEP_TIME"], prevents: "service" },
  MalformedAuthOrigin: { settings: ["AUTH_ORIGIN"], prevents: "start" },
  MalformedRevoked: { settings: ["REVOKED"], prevents: "service" },
  MalformedStreamOrigins: { settings: ["STREAM_ORIGINS"], prevents: "start" },
  MalformedStreamResume: { settings: ["STREAM_RESUME"], prevents: "start" },
} as const satisfies Record<string, FindingRule>;

/** Code of a finding: stable, in the log and the README. */
export type FindingCode = keyof typeof FINDINGS;

/** Whether a text, such as the close reason of a doorbell, is the name of a reason. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(REASONS, text);
}
