/**
 * Every reason for which the edge refuses or ends something: one enumeration for code, logs, answers and the README.
 * The encapsulations and tokens have registries of their own; the edge adds the rest.
 *
 * @module
 */
import { TOKEN_PROBLEMS } from "../auth/token-problems.ts";
import { REASONS as ENCAPSULATION, type ReasonRule } from "../encapsulation/index.ts";

export const REASONS = {
  ...ENCAPSULATION,
  ...TOKEN_PROBLEMS,
  RelayNotAllowed: {
    status: 403,
    cause: "The relay that the request names is not on this edge's allow list.",
    cure: "Name a relay that is allowed, or let the operator add it to ORIGIN_RELAYS (--relay-allow).",
  },
  MalformedRelay: {
    status: 400,
    cause: "The relay that the request names is neither a host name nor an address, with a port or without.",
    cure: "Write HOST, HOST:PORT or [IPV6]:PORT in ASCII.",
  },
  RelayPrivate: {
    status: 403,
    cause: "The relay is allowed, and its name or one of its addresses is not public.",
    cure: "Give the relay a public address; for development let the operator set DEV=private (--dev).",
  },
  DNSLookupFailed: {
    status: 500,
    cause: "The name of the origin relay has no address, or the resolver did not answer.",
    cure: "Check the name in DNS, and the edge's setting RESOLVER.",
  },
  EdgeMisconfigured: {
    status: 500,
    cause: "A setting of this edge is malformed or insecure, so it dials no relay, or serves nobody.",
    cure: "The operator finds the setting in the log, with what to write instead.",
  },
  OriginUnreachable: {
    status: 500,
    cause: "The origin relay refused the TCP connection, or did not answer in time.",
    cure: "Check that the relay runs, that its port is open, and that its name is not a proxied one.",
  },
  LinkInClear: {
    status: 403,
    cause: "The relay is on the public internet, and the link to it would not be encrypted.",
    cure: "The operator sets LINK_WAYS to tls:PORT, or permits it by LINK_PLAIN or by NAME=none in LINK_SECRETS.",
  },
  RelayNotProven: {
    status: 403,
    cause: "The relay has not proved that it shares a secret with this edge.",
    cure: "Give both sides the same secret: LINK_SECRETS here, --link-secret at the bundled relay.",
  },
  OriginClosed: {
    status: 404,
    cause: "The origin relay closed its connection.",
    cure: "Connect again; the relay's own message says why.",
  },
  OriginReset: {
    status: 404,
    cause: "The connection to the origin relay was reset.",
    cure: "Connect again; if it happens often, look at the way between the edge and the relay.",
  },
  DeviceGone: {
    status: 404,
    cause: "The device reset or ended one of the two requests of its virtual connection, or said that it goes.",
    cure: "Connect again.",
  },
  ConnectionLost: {
    status: 404,
    cause: "The edge restarted and has forgotten this virtual connection.",
    cure: "Connect again; what was not acknowledged is sent again.",
  },
  WebSocketNotPassed: {
    status: 501,
    cause: "A WebSocket virtual connection cannot be passed through to an origin relay.",
    cure: "Name this edge itself, or use LongLived or KeepAlive.",
  },
  UpgradeNeeded: {
    status: 400,
    cause: "The target says ConnType=WebSocket, and the request does not ask for one.",
    cure: "Send Upgrade: websocket; a proxy may have taken it away: use KeepAlive then.",
  },
  TooManyHalfOpen: {
    status: 500,
    cause: "Too many virtual connections from this source are begun and have not said the Connect of SSTP.",
    cure: "Finish those that are begun, and try again after the seconds that Retry-After says.",
  },
  TooManyMisses: {
    status: 500,
    cause: "Too many requests from this source named virtual connections or mailboxes that do not exist.",
    cure: "Make a new virtual connection after the seconds that Retry-After says.",
  },
  ConnectTimeout: {
    status: 408,
    cause: "The device has opened a virtual connection to this edge and has not said the Connect of SSTP in time.",
    cure: "Say Connect within 30 seconds.",
  },
  HoldIgnored: {
    status: 404,
    cause:
      "The device went on sending over its WebSocket after it was told to hold, or sent too much at once for what others had sent.",
    cure: "Send nothing after the text message hold until go on has come, and less than 256 KiB at a time.",
  },
  TooManyMailboxes: {
    status: 403,
    cause: "The Connect names more devices than one connection may take messages for.",
    cure: "Make a connection for each device.",
  },
  OutputNotTaken: {
    status: 404,
    cause: "The device went on sending, and did not read what the edge had to answer.",
    cure: "Read while you send; over a WebSocket answer marks, as the README says.",
  },
  NoSignOfLife: {
    status: 404,
    cause:
      "Messages waited for the device, and its WebSocket, which had pinged before, had been silent for over a minute.",
    cure: "Connect again; what was not acknowledged is sent again.",
  },
  MalformedAddress: {
    status: 400,
    cause: "The address is not identity or identity/device.",
    cure: "Write it as in grooveway mailbox --help, percent-encoded in the URL.",
  },
  MalformedSender: {
    status: 400,
    cause: "The query does not name the device that sends, or not the ids of its messages.",
    cure: "Write from=identity/device, and to take messages back also id= with what their ids begin with.",
  },
  LockedOut: {
    status: 403,
    cause: "The mailbox takes no messages of this sender: it is locked, or its rule shuts the sender out.",
    cure: "Ask the recipient.",
  },
  MalformedRule: {
    status: 400,
    cause: "The body is not a JSON object with the rule of who may send as its member senders, or the rule is none.",
    cure: 'Write {"senders": "everyone"}, "nobody", or patterns separated by spaces, such as "alice bob/phone".',
  },
  AdminTokenNeeded: {
    status: 401,
    cause: "The request has no admin token, or another one.",
    cure: "Give the edge's admin token as Authorization: Bearer.",
  },
  StorageFull: {
    status: null,
    cause: "The disk of this edge is nearly full: it takes no new messages, and answers /health with 503.",
    cure: "Make room on the disk; what waits can be read and purged meanwhile.",
  },
  WrongPrefix: {
    status: 404,
    cause: "The request is for an edge under another path of this host.",
    cure: "Give the whole URL of the edge, with its path; the operator sets PREFIX (--prefix) unless the proxy takes the path away.",
  },
  NewerSchema: {
    status: 500,
    cause: "What is stored was written by a newer release of Grooveway.",
    cure: "Run that release or a newer one: what is stored does not go back.",
  },
  NotFound: { status: 404, cause: "Nothing is at this path.", cure: "See / for the paths of this edge." },
  InternalError: {
    status: 500,
    cause: "Something unexpected happened at the edge.",
    cure: "Try again; if it stays, send the operator the time and the path.",
  },
} as const satisfies Record<string, ReasonRule>;

/** Name of a reason. Names are stable, and listed in the README. */
export type Reason = keyof typeof REASONS;

/** Whether a text, such as the close reason of a doorbell, is the name of a reason. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(REASONS, text);
}
