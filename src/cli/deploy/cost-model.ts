/**
 * What an edge on Cloudflare costs in a month: a model. Every figure of USE is what the edge itself was counted to use, in a
 * test that fails when it uses another amount (test/cli/deploy/cost-model.test.ts); prices and assumptions are named here.
 * Pure.
 *
 * @module
 */

/** Hours of the month that prices are for: 30 days. */
const HOURS = 720;

/**
 * Prices of Workers Paid in US dollars, as developers.cloudflare.com gave them in November 2026: workers/platform/pricing
 * and durable-objects/platform/pricing. What is included comes with the plan, once for an account.
 */
export const PRICES = {
  plan: 5,
  /** Requests to the Worker. The time that they wait costs nothing. */
  requests: { included: 10_000_000, perMillion: 0.3 },
  /** Milliseconds of the Worker's CPU. */
  cpu: { included: 30_000_000, perMillion: 0.02 },
  /** Requests to objects: calls, alarms, and each 20 WebSocket messages that they receive. */
  objectRequests: { included: 1_000_000, perMillion: 0.15 },
  /** GB-seconds of objects in memory, at 128 MB each. */
  objectTime: { included: 400_000, perMillion: 12.5 },
  rowsWritten: { included: 50_000_000, perMillion: 1 },
} as const;

/** WebSocket messages that are billed as one request. */
const MESSAGES_PER_REQUEST = 20;

/** GB of each object in memory, whatever it uses. */
const OBJECT_GB = 0.128;

/** What the model assumes, and cannot know. */
export const ASSUMPTIONS = {
  /**
   * Seconds for which an object that was active is in memory: until its state is saved, a second after the last event
   * (REST_AFTER). The documentation of Cloudflare can also be read so that it is billed for ten.
   */
  activeSeconds: 1,
  activeSecondsAtMost: 10,
  /**
   * Pings of a WebSocket device in an hour. The platform answers them without waking an object; whether it bills them as
   * messages is not said, so they are taken to be billed.
   */
  pings: 144,
  /** Milliseconds of CPU for a request to the Worker: mostly the check of its token, which is remembered. */
  cpuMilliseconds: 1,
  /** Messages of a chatty device in an hour, each of 1 KiB, to another device that is connected: one a minute. */
  chattyMessages: 60,
  /** MiB that a bulk device sends in an hour to another one that is connected: 1 GiB a day. */
  bulkMiB: 1024 / 24,
} as const;

/** What is billed. */
export interface Use {
  readonly requests: number;
  /** Calls of objects, and their alarms. */
  readonly objectCalls: number;
  /** WebSocket messages that objects receive. */
  readonly objectMessages: number;
  /** How often an object becomes active. */
  readonly wakes: number;
  readonly rowsWritten: number;
}

export const TRANSPORTS = ["websocket", "longlived", "keepalive", "polling"] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** What was counted. */
export const USE: {
  /** In an hour of a device that is connected and idle. */
  readonly idle: Readonly<Record<Transport, Use>>;
  /** For each message of 1 KiB beyond that, stored and delivered, both devices on WebSocket. */
  readonly message: Use;
  /** For each MiB of messages of 64 KiB, likewise, as fast as they go. */
  readonly mebibyte: Use;
} = {
  idle: {
    websocket: { requests: 0, objectCalls: 0, objectMessages: 0, wakes: 0, rowsWritten: 0 },
    longlived: { requests: 0, objectCalls: 0, objectMessages: 0, wakes: 0, rowsWritten: 0 },
    // A GET is held for 55 s after the first ones; the object wakes for each.
    keepalive: { requests: 64, objectCalls: 129, objectMessages: 64, wakes: 67, rowsWritten: 4 },
    // A poll each 30 s. Between two, the state of the virtual connection is in storage.
    polling: { requests: 124, objectCalls: 182, objectMessages: 0, wakes: 163, rowsWritten: 310 },
  },
  message: { requests: 0, objectCalls: 5, objectMessages: 2, wakes: 5.2, rowsWritten: 7.5 },
  mebibyte: { requests: 0, objectCalls: 24, objectMessages: 56, wakes: 1, rowsWritten: 16 },
};

/** A kind of device: what it uses in an hour, and the seconds in which its objects cannot leave memory. */
export interface DeviceKind {
  readonly name: string;
  readonly use: Use;
  readonly residentSeconds: number;
}

/** The kinds of devices that the model knows. */
export function deviceKinds(): DeviceKind[] {
  const { chattyMessages, bulkMiB, pings } = ASSUMPTIONS;
  const pinging: Use = { ...USE.idle.websocket, objectMessages: USE.idle.websocket.objectMessages + pings };
  const idle = TRANSPORTS.map((transport) => ({
    name: `idle, ${transport}`,
    use: transport === "websocket" ? pinging : USE.idle[transport],
    residentSeconds: 0,
  }));
  return [
    ...idle,
    {
      name: "chatty, websocket",
      use: sum(pinging, USE.message, chattyMessages),
      residentSeconds: 0,
    },
    { name: "bulk, websocket", use: sum(pinging, USE.mebibyte, bulkMiB), residentSeconds: 0 },
    // The connection to its relay keeps its Tunnel in memory.
    { name: "passed through, keepalive", use: USE.idle.keepalive, residentSeconds: 3600 },
  ];
}

function sum(one: Use, other: Use, times: number): Use {
  return {
    requests: one.requests + other.requests * times,
    objectCalls: one.objectCalls + other.objectCalls * times,
    objectMessages: one.objectMessages + other.objectMessages * times,
    wakes: one.wakes + other.wakes * times,
    rowsWritten: one.rowsWritten + other.rowsWritten * times,
  };
}

/** Dollars a month, with the plan, and the share of each thing in it. */
export interface Cost {
  readonly total: number;
  readonly requests: number;
  readonly cpu: number;
  readonly objectRequests: number;
  readonly objectTime: number;
  readonly rowsWritten: number;
}

/**
 * What so many devices of one kind cost in a month, if the account has nothing else.
 *
 * @param activeSeconds for which an object is billed after it was active
 */
export function monthlyCost(
  { use, residentSeconds }: DeviceKind,
  devices: number,
  activeSeconds: number = ASSUMPTIONS.activeSeconds,
): Cost {
  const month = devices * HOURS;
  // An object cannot be in memory for longer than all the time.
  const seconds = Math.min(3600, residentSeconds + use.wakes * activeSeconds);
  const requests = price("requests", use.requests * month);
  const cpu = price("cpu", use.requests * month * ASSUMPTIONS.cpuMilliseconds);
  const objectRequests = price("objectRequests", (use.objectCalls + use.objectMessages / MESSAGES_PER_REQUEST) * month);
  const objectTime = price("objectTime", seconds * OBJECT_GB * month);
  const rowsWritten = price("rowsWritten", use.rowsWritten * month);
  const total = PRICES.plan + requests + cpu + objectRequests + objectTime + rowsWritten;
  return { total, requests, cpu, objectRequests, objectTime, rowsWritten };
}

function price(of: Exclude<keyof typeof PRICES, "plan">, amount: number): number {
  const { included, perMillion } = PRICES[of];
  return (Math.max(0, amount - included) / 1_000_000) * perMillion;
}
