/**
 * The state of a connection, and the steps shared by its methods (`connection.ts`) and its command handlers
 * (`command-handlers.ts`).
 */

import { Decoder } from "./decoder.ts";
import type { Closed, ConnectionEvent } from "./events.ts";
import { StateError } from "./events.ts";
import { Ledger } from "./message-ledger.ts";
import { Output } from "./output-buffer.ts";
import type { InboundSession } from "./sessions.ts";
import { SessionTable } from "./sessions.ts";
import type { Command, Version } from "./wire.ts";
import { ConnectCloseReasonId, ConnectResponseId, VERSION_1_6 } from "./wire.ts";
import type { WireErrorCode } from "./wire-error.ts";

/** Options of a {@link Connection}. Times are milliseconds of the clock that gives `now`. */
export interface ConnectionOptions {
  /** A relay accepts Attach, Register and ConnectAuthenticate; for a client they are violations. */
  readonly role: "client" | "relay";
  /** Whether this side made the transport connection. If so, it sends Connect and uses odd session ids. */
  readonly outbound: boolean;
  /** URLs of this device, at least one. The originator sends them; the responder checks its target against them. */
  readonly localDeviceURLs: readonly string[];
  /** The current time. */
  readonly now: number;
  /** Highest version to use. Default 1.6. */
  readonly version?: Version | undefined;
  /** `<vendor> <product> <version> <build>` [2.2.1.1]. Default `Grooveway Client 0.1 1`, or `Grooveway Relay 0.1 1`. */
  readonly productVersion?: string | undefined;
  /** PeerProductCapabilities sent in Connect or ConnectResponse. Default: empty [2.2.1.1]. */
  readonly capabilities?: string | undefined;
  /** Message Acknowledgment Timer: how long processed messages may stay unacknowledged. Default 5000 [3.1.2.1]. */
  readonly acknowledgeAfter?: number | undefined;
  /** Silence after which a Noop is sent. Default 0: never. */
  readonly keepAlive?: number | undefined;
  /**
   * The same while received messages are unprocessed, since others may be waiting for them. Default 0: as `keepAlive`.
   */
  readonly busyKeepAlive?: number | undefined;
  /** Time without receiving anything after which the connection is given up. Default 0: never. */
  readonly receiveTimeout?: number | undefined;
  /** MultidropSupported: fanout to this relay's recipients. Default false; MUST be false on a client [3.1.1.1]. */
  readonly multidropSupported?: boolean | undefined;
  /** SingleHopSupported: fanout through other relays. Default false; MUST be false on a client [3.1.1.1]. */
  readonly singleHopSupported?: boolean | undefined;
  /**
   * Maximum open sessions per side. Default 4096. A further session of the peer is refused by OpenResponse Unknown or
   * Close InternalError; the others continue.
   */
  readonly maxSessions?: number | undefined;
  /**
   * Maximum characters of URLs kept for the peer's sessions; each entry of a fanout counts 64 more. Default 4 Mi;
   * beyond it OpenResponse Unknown.
   */
  readonly maxAddressing?: number | undefined;
  /**
   * Maximum unprocessed inbound messages. Default 16384. More end the connection by ConnectClose Resting, so slow the
   * peer down earlier: call `setAvailability(..., "notReady")` or stop reading the transport.
   */
  readonly maxUnprocessed?: number | undefined;
}

/** Options with defaults applied. */
export type Settings = { readonly [K in keyof ConnectionOptions]-?: Exclude<ConnectionOptions[K], undefined> };

/** ConnectionState [3.1.1.2]. A closed connection stays 'aborting'. */
export type ConnectionState = "transport layer connected" | "connecting" | "established" | "aborting";

/** Seconds that a peer is asked to stay away after it exceeded maxUnprocessed. */
const OVERLOAD_RETURN_SECONDS = 5;

export interface Core {
  readonly settings: Settings;
  state: ConnectionState;
  /** The connection's version once 'established'; before that, our highest. */
  version: Version;
  closed: Closed | undefined;
  now: number;
  lastSent: number;
  lastReceived: number;
  /** When the Message Acknowledgment Timer fires; Infinity if it is stopped. */
  acknowledgeAt: number;
  /** Whether the next `output` must produce a Noop, unless a Message acknowledges first. */
  acknowledgeNow: boolean;
  sessions: SessionTable;
  ledger: Ledger;
  decoder: Decoder;
  readonly output: Output;
  /** Events of the current call, which returns them. */
  events: ConnectionEvent[];
}

/** For building an object: absent optional fields must be missing, not undefined. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** @throws StateError `invalid-argument`, always */
export function invalid(message: string): never {
  throw new StateError("invalid-argument", message);
}

function settle(options: ConnectionOptions): Settings {
  const settings: Settings = {
    role: options.role,
    outbound: options.outbound,
    localDeviceURLs: options.localDeviceURLs,
    now: options.now,
    version: options.version ?? VERSION_1_6,
    productVersion:
      options.productVersion ?? (options.role === "relay" ? "Grooveway Relay 0.1 1" : "Grooveway Client 0.1 1"),
    capabilities: options.capabilities ?? "",
    acknowledgeAfter: options.acknowledgeAfter ?? 5000,
    keepAlive: options.keepAlive ?? 0,
    busyKeepAlive: options.busyKeepAlive ?? 0,
    receiveTimeout: options.receiveTimeout ?? 0,
    multidropSupported: options.multidropSupported ?? false,
    singleHopSupported: options.singleHopSupported ?? false,
    maxSessions: options.maxSessions ?? 4096,
    maxAddressing: options.maxAddressing ?? 4 * 1024 * 1024,
    maxUnprocessed: options.maxUnprocessed ?? 16384,
  };
  if (settings.localDeviceURLs.length === 0) invalid("localDeviceURLs is empty: give the URL of this device");
  if (settings.role === "client" && (settings.multidropSupported || settings.singleHopSupported)) {
    invalid("a client supports neither multi-drop nor single-hop: leave both out, or take the role of a relay");
  }
  for (const name of ["acknowledgeAfter", "keepAlive", "busyKeepAlive", "receiveTimeout", "maxSessions"] as const) {
    if (!(settings[name] >= 0)) invalid(`${name} is ${settings[name]}: give a number from 0 on`);
  }
  return settings;
}

export function createCore(options: ConnectionOptions): Core {
  const settings = settle(options);
  return {
    settings,
    state: "transport layer connected",
    version: settings.version,
    closed: undefined,
    now: settings.now,
    lastSent: settings.now,
    lastReceived: settings.now,
    acknowledgeAt: Number.POSITIVE_INFINITY,
    acknowledgeNow: false,
    sessions: new SessionTable(settings.outbound),
    ledger: new Ledger(),
    output: new Output(),
    decoder: new Decoder(settings.version),
    events: [],
  };
}

export function send(core: Core, command: Command): void {
  core.output.command(command, core.version);
}

/** Sends ConnectResponse: with the connection's version if Ok, otherwise with this side's highest. */
export function sendConnectResponse(core: Core, responseId: number, retryTime: number, token: Uint8Array): void {
  const version = responseId === ConnectResponseId.Ok ? core.version : core.settings.version;
  send(core, {
    command: "ConnectResponse",
    responseId,
    majorVersionNumber: version.major,
    minorVersionNumber: version.minor,
    retryTime,
    authenticationToken: token,
    peerProductVersion: core.settings.productVersion,
    peerProductCapabilities: core.settings.capabilities,
  });
}

/** Marks the connection 'established' in this version. */
export function establish(core: Core, version: Version): void {
  core.state = "established";
  core.version = version;
  core.decoder.version = version;
}

/** Call when a MessageCount has been written: nothing is due, and the timer MUST stop [3.1.4.6]. */
export function acknowledgementSent(core: Core): void {
  core.ledger.acknowledgementSent();
  core.acknowledgeAt = Number.POSITIVE_INFINITY;
  core.acknowledgeNow = false;
}

/** Sends a due acknowledgement by Noop [3.1.4.7]. */
export function flushAcknowledgement(core: Core): void {
  if (core.ledger.due === 0) return;
  send(core, { command: "Noop", messageCount: core.ledger.due });
  acknowledgementSent(core);
}

/** Ensures that due messages are acknowledged in time [3.1.4.7]. */
export function scheduleAcknowledgement(core: Core): void {
  if (core.closed !== undefined || core.ledger.due === 0) return;
  if (core.ledger.urgent) core.acknowledgeNow = true;
  if (core.acknowledgeAt === Number.POSITIVE_INFINITY) core.acknowledgeAt = core.now + core.settings.acknowledgeAfter;
}

/** Drops a session of the peer that this side closes or refuses. For its messages see `message-ledger.ts`. */
export function dropInboundSession(core: Core, session: InboundSession): void {
  // Before OpenResponse the peer cannot have sent messages, so there are none to ignore later.
  core.sessions.remove(session, session.receiver !== "none");
  core.ledger.dropInbound(session.sessionId);
  scheduleAcknowledgement(core);
}

/** Ends the connection. Pending output can still be taken. */
export function finish(core: Core, closed: Omit<Closed, "unacknowledged">): Closed {
  const done: Closed = { ...closed, unacknowledged: core.ledger.unacknowledged };
  core.state = "aborting";
  core.closed = done;
  core.sessions.clear();
  core.ledger.acknowledgementSent();
  core.acknowledgeAt = Number.POSITIVE_INFINITY;
  core.acknowledgeNow = false;
  return done;
}

/** Sends ConnectClose with the due acknowledgement [3.1.4.2] and ends the connection. */
export function sendConnectClose(
  core: Core,
  reasonId: number,
  returnTime: number,
  why: Pick<Closed, "cause" | "detail" | "wireError">,
): Closed {
  send(core, { command: "ConnectClose", messageCount: core.ledger.due, reasonId, returnTime });
  return finish(core, { by: "self", reasonId, ...(returnTime > 0 ? { returnTime } : {}), ...why });
}

/** Ends the connection because the peer violated the protocol. */
export function violation(core: Core, reasonId: number, detail: string, wireError?: WireErrorCode): void {
  const why = { cause: "violation" as const, detail, ...(wireError === undefined ? {} : { wireError }) };
  core.events.push({ type: "closed", ...sendConnectClose(core, reasonId, 0, why) });
}

/** Ends the connection because too many messages are unprocessed. Only Resting asks the peer to return (assumed). */
export function overload(core: Core): void {
  const why = { cause: "limit" as const, detail: `more than ${core.settings.maxUnprocessed} messages unprocessed` };
  const closed = sendConnectClose(core, ConnectCloseReasonId.Resting, OVERLOAD_RETURN_SECONDS, why);
  core.events.push({ type: "closed", ...closed });
}
