/**
 * The metrics of the edge: their names, what they count, and every value that a label can have. What is not listed here
 * is not counted, so no request can add a series. Reasons and drops are those of ../reasons.ts and
 * ../../store-and-forward/drop-reasons.ts.
 *
 * Names follow Prometheus: base units, and `_total` for counters, which `exposition.ts` adds.
 *
 * @module
 */
import { DROPS, type Drop } from "../../store-and-forward/drop-reasons.ts";
import { REASONS, type Reason } from "../reasons.ts";
import { DELIVERY_BOUNDS } from "./limits.ts";

/** The ways in which a device's bytes come over HTTP. */
export const ENCAPSULATIONS = ["LongLived", "KeepAlive", "Polling", "WebSocket"] as const;

/** How messages pass: `stored` until they are acknowledged, or `passed` on with flag D. */
export const CLASSES = ["stored", "passed"] as const;

/** Directions of what is passed through. */
export const DIRECTIONS = ["to relay", "from relay"] as const;

/** What the tries to link a relay come to. */
export const LINK_RESULTS = ["connected", "DNSLookupFailed", "HostNotReachable", "ConnectionClosed"] as const;

/** States of a link. One that nobody needs is in none. */
export const LINK_STATES = ["connected", "failed"] as const;

/** A family of series: one for each value of its label, or a single one without a label. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  readonly values: readonly string[];
}

const NO_LABEL = [""] as const;
const REASON_NAMES = Object.keys(REASONS) as Reason[];
const DROP_NAMES = Object.keys(DROPS) as Drop[];

export const COUNTERS = {
  connectionsOpened: {
    name: "grooveway_connections_opened",
    help: "Virtual connections whose device was admitted, or that were passed through to an origin relay.",
    label: "encapsulation",
    values: ENCAPSULATIONS,
  },
  connectionsClosed: {
    name: "grooveway_connections_closed",
    help: "Virtual connections that ended, admitted or not, by reason.",
    label: "reason",
    values: REASON_NAMES,
  },
  requestsRefused: {
    name: "grooveway_requests_refused",
    help: "HTTP requests that were refused, by reason.",
    label: "reason",
    values: REASON_NAMES,
  },
  messagesReceived: {
    name: "grooveway_messages_received",
    help: "Messages that mailboxes have accepted. Copies for several recipients count each.",
    label: "class",
    values: CLASSES,
  },
  bytesReceived: {
    name: "grooveway_message_received_bytes",
    help: "Bytes of these messages.",
    label: "class",
    values: CLASSES,
  },
  messagesDelivered: {
    name: "grooveway_messages_delivered",
    help: "Messages that their recipients have acknowledged, or were handed with flag D.",
    label: "class",
    values: CLASSES,
  },
  bytesDelivered: {
    name: "grooveway_message_delivered_bytes",
    help: "Bytes of these messages.",
    label: "class",
    values: CLASSES,
  },
  streamBytes: {
    name: "grooveway_stream_bytes",
    help: "Bytes of streams that the edge has handed to a device, to a link, or to its own end of TCP destinations.",
    values: NO_LABEL,
  },
  passedThroughBytes: {
    name: "grooveway_passed_through_bytes",
    help: "Bytes between devices and origin relays. What LongLived sends in bulk is not counted: the platform copies it.",
    label: "direction",
    values: DIRECTIONS,
  },
  plainStreamAppends: {
    name: "grooveway_plain_stream_appends",
    help: "Appends that plain streams have stored. What a producer repeats counts once.",
    values: NO_LABEL,
  },
  plainStreamBytes: {
    name: "grooveway_plain_stream_appended_bytes",
    help: "Bytes of these appends.",
    values: NO_LABEL,
  },
  messagesDropped: {
    name: "grooveway_messages_dropped",
    help: "Messages that were not kept or not delivered, by reason.",
    label: "reason",
    values: DROP_NAMES,
  },
  linkTries: {
    name: "grooveway_link_tries",
    help: "Tries to connect to an origin relay, by result.",
    label: "result",
    values: LINK_RESULTS,
  },
  throttleWaits: {
    name: "grooveway_throttle_waits",
    help: "How often a device was read more slowly because it had used up its rate.",
    values: NO_LABEL,
  },
  throttledSeconds: {
    name: "grooveway_throttled_seconds",
    help: "How long devices were read more slowly.",
    values: NO_LABEL,
  },
} as const satisfies Readonly<Record<string, Family>>;

export type CounterKey = keyof typeof COUNTERS;

/** The values that the label of a counter can have. */
export type ValueOf<K extends CounterKey> = (typeof COUNTERS)[K]["values"][number];

/** Seconds from the storing of a message to its acknowledgement, which is when the recipient has handled it. */
export const DELIVERY = {
  name: "grooveway_delivery_seconds",
  help: "Time from storing a message to its acknowledgement by the recipient.",
  /** Upper bounds of the buckets, in seconds. There is one more, without a bound. */
  bounds: DELIVERY_BOUNDS,
} as const;

/** What is true of the edge at one time. `reading.ts` makes these of what objects have reported. */
export const GAUGES = {
  connections: {
    name: "grooveway_connections",
    help: "Virtual connections whose device is admitted, or that are passed through to an origin relay.",
    label: "encapsulation",
    values: ENCAPSULATIONS,
  },
  halfOpen: {
    name: "grooveway_half_open_connections",
    help: "Virtual connections whose device has not identified itself yet.",
    values: NO_LABEL,
  },
  waitingMailboxes: {
    name: "grooveway_waiting_mailboxes",
    help: "Mailboxes in which messages wait.",
    values: NO_LABEL,
  },
  waitingMessages: { name: "grooveway_waiting_messages", help: "Messages that wait in mailboxes.", values: NO_LABEL },
  waitingBytes: { name: "grooveway_waiting_bytes", help: "Bytes of the messages that wait.", values: NO_LABEL },
  oldestWaiting: {
    name: "grooveway_oldest_waiting_seconds",
    help: "For how long the oldest message has waited; 0 if none waits.",
    values: NO_LABEL,
  },
  links: {
    name: "grooveway_links",
    help: "Links to origin relays, by state.",
    label: "state",
    values: LINK_STATES,
  },
  keysFailing: {
    name: "grooveway_keys_failing",
    help: "1 while the keys of tokens cannot be fetched. The last ones count for an hour; then no device is admitted.",
    values: NO_LABEL,
  },
  storageFull: {
    name: "grooveway_storage_full",
    help: "1 while new messages are refused because the disk of the edge is nearly full.",
    values: NO_LABEL,
  },
} as const satisfies Readonly<Record<string, Family>>;

export type GaugeKey = keyof typeof GAUGES;

/** The id of one series of a counter, by which batches and collectors name it. */
export function seriesId(key: CounterKey, value: string): string {
  return value === "" ? key : `${key} ${value}`;
}

/** Ids of the buckets of the delivery times, in order, and of their sum. */
export const DELIVERY_BUCKETS: readonly string[] = [...DELIVERY.bounds, "+Inf"].map((bound) => `delivery ${bound}`);
export const DELIVERY_SUM = "deliverySum";

/** The ids of all series that objects count. */
export const SERIES: ReadonlySet<string> = new Set([
  ...Object.entries(COUNTERS).flatMap(([key, { values }]) => values.map((value) => seriesId(key as CounterKey, value))),
  ...DELIVERY_BUCKETS,
  DELIVERY_SUM,
]);
