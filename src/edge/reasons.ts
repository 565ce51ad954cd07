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
    cause: "Too many requests from this source named virtual connections or mailboxes that do not exist.",
    cure: "Open a new virtual connection after the number of seconds in Retry-After.",
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
  AdminTokenNeeded: {
    status: 401,
    cause: "The request has no admin token, or a wrong one.",
    cure: "Send the edge's ADMIN_TOKEN (--admin-token), or a token with the scope admin, as Authorization: Bearer.",
  },
  StorageFull: {
    status: null,
    cause: "The disk of this edge is nearly full: new messages are refused, and /health answers 503.",
    cure: "Free disk space, or lower --min-free; waiting messages can still be read and purged.",
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
    cure: "Try again; if it persists, tell the operator the time and the path.",
  },
} as const satisfies Record<ReasonName, ReasonRule>;

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
  MalformedAuthOrigin: { settings: ["AUTH_ORIGIN"], prevents: "start" },
  MalformedRevoked: { settings: ["REVOKED"], prevents: "service" },
} as const satisfies Record<string, FindingRule>;

/** Code of a finding: stable, in the log and the README. */
export type FindingCode = keyof typeof FINDINGS;

/** Whether a text, such as the close reason of a doorbell, is the name of a reason. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(REASONS, text);
}
