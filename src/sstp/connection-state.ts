/**
 * The state of a connection and the steps that both its methods (`connection.ts`) and its reception of commands
 * (`inbound.ts`) take.
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

/** How to make a {@link Connection}. Times are milliseconds of whatever clock gives `now`. */
export interface ConnectionOptions {
  /** A relay takes Attach, Register and ConnectAuthenticate; a client takes them for violations. */
  readonly role: "client" | "relay";
  /** This side made the transport connection: it sends Connect, and its sessions have odd ids. */
  readonly outbound: boolean;
  /** The URLs of this device, at least one; the originator sends them, the responder checks its target by them. */
  readonly localDeviceURLs: readonly string[];
  /** The time of making. */
  readonly now: number;
  /** The highest version to speak. Default 1.6. */
  readonly version?: Version | undefined;
  /** `<vendor> <product> <version> <build>` [2.2.1.1]. Default `Grooveway Client 0.1 1`, or `Grooveway Relay 0.1 1`. */
  readonly productVersion?: string | undefined;
  /** PeerProductCapabilities: what this side says of itself in Connect or ConnectResponse. Default none [2.2.1.1]. */
  readonly capabilities?: string | undefined;
  /** Message Acknowledgment Timer: how long processed messages may stay unacknowledged. Default 5000 [3.1.2.1]. */
  readonly acknowledgeAfter?: number | undefined;
  /** A Noop is sent when nothing else was for so long. Default 0: never. */
  readonly keepAlive?: number | undefined;
  /** The same while received messages are not processed: others may wait to be asked instead. Default 0: as `keepAlive`. */
  readonly busyKeepAlive?: number | undefined;
  /** The connection is given up when nothing was received for so long. Default 0: never. */
  readonly receiveTimeout?: number | undefined;
  /** MultidropSupported: fanout to recipients of this relay. Default false; MUST be false on a client [3.1.1.1]. */
  readonly multidropSupported?: boolean | undefined;
  /** SingleHopSupported: fanout through other relays. Default false; MUST be false on a client [3.1.1.1]. */
  readonly singleHopSupported?: boolean | undefined;
  /**
   * Sessions that each side may have open. Default 4096. A session of the peer above it is refused alone, by
   * OpenResponse Unknown or Close InternalError, so that the sessions below it live on.
   */
  readonly maxSessions?: number | undefined;
  /** Characters of URLs kept for sessions of the peer. Default 4 Mi; above it OpenResponse Unknown. */
  readonly maxAddressing?: number | undefined;
  /**
   * Inbound messages that may wait to be processed. Default 16384. Above it the connection ends by ConnectClose
   * Resting: slow down the peer before that, by `setAvailability(..., "notReady")` or by not reading the transport.
   */
  readonly maxUnprocessed?: number | undefined;
}

/** Options with their defaults. */
export type Settings = { readonly [K in keyof ConnectionOptions]-?: Exclude<ConnectionOptions[K], undefined> };

/** ConnectionState [3.1.1.2]; a connection that is over stays 'aborting'. */
export type ConnectionState = "transport layer connected" | "connecting" | "established" | "aborting";

/** Seconds that a peer is asked to stay away when it has sent more than is allowed to wait here. */
const OVERLOAD_RETURN_SECONDS = 5;

export interface Core {
  readonly settings: Settings;
  state: ConnectionState;
  /** Of the connection once 'established', before that our highest. */
  version: Version;
  closed: Closed | undefined;
  now: number;
  lastSent: number;
  lastReceived: number;
  /** When the Message Acknowledgment Timer fires; Infinity when it does not run. */
  acknowledgeAt: number;
  /** A Noop is to be made when output is next taken, unless a Message acknowledges first. */
  acknowledgeNow: boolean;
  sessions: SessionTable;
  ledger: Ledger;
  decoder: Decoder;
  readonly output: Output;
  /** Where events go; taken by the call that is running. */
  events: ConnectionEvent[];
}

/** For an object that is being made: fields that are absent must not be there as undefined. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** @throws StateError `invalid-argument`, always. */
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

/** Answers Connect: in the version of the connection when Ok, otherwise saying the highest version of this side. */
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

/** The connection is 'established' in this version. */
export function establish(core: Core, version: Version): void {
  core.state = "established";
  core.version = version;
  core.decoder.version = version;
}

/** The MessageCount was written: nothing is due, and the timer MUST stop [3.1.4.6]. */
export function acknowledgementSent(core: Core): void {
  core.ledger.acknowledgementSent();
  core.acknowledgeAt = Number.POSITIVE_INFINITY;
  core.acknowledgeNow = false;
}

/** Sends what is due, if anything, by Noop [3.1.4.7]. */
export function flushAcknowledgement(core: Core): void {
  if (core.ledger.due === 0) return;
  send(core, { command: "Noop", messageCount: core.ledger.due });
  acknowledgementSent(core);
}

/** Messages may have become due: sees to it that they are acknowledged in time [3.1.4.7]. */
export function scheduleAcknowledgement(core: Core): void {
  if (core.closed !== undefined || core.ledger.due === 0) return;
  if (core.ledger.urgent) core.acknowledgeNow = true;
  if (core.acknowledgeAt === Number.POSITIVE_INFINITY) core.acknowledgeAt = core.now + core.settings.acknowledgeAfter;
}

/** This side closes a session of the peer, or refuses it after all; see `ledger.ts` for its messages. */
export function dropInboundSession(core: Core, session: InboundSession): void {
  // Before OpenResponse the peer cannot have sent a message, so there is nothing to ignore later.
  core.sessions.remove(session, session.receiver !== "none");
  core.ledger.dropInbound(session.sessionId);
  scheduleAcknowledgement(core);
}

/** Ends the connection in this engine; what is in the output may still be taken. */
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

/** Sends ConnectClose with the acknowledgement that is due [3.1.4.2] and ends the connection. */
export function sendConnectClose(
  core: Core,
  reasonId: number,
  returnTime: number,
  why: Pick<Closed, "cause" | "detail" | "wireError">,
): Closed {
  send(core, { command: "ConnectClose", messageCount: core.ledger.due, reasonId, returnTime });
  return finish(core, { by: "self", reasonId, ...(returnTime > 0 ? { returnTime } : {}), ...why });
}

/** The peer broke a rule. */
export function violation(core: Core, reasonId: number, detail: string, wireError?: WireErrorCode): void {
  const why = { cause: "violation" as const, detail, ...(wireError === undefined ? {} : { wireError }) };
  core.events.push({ type: "closed", ...sendConnectClose(core, reasonId, 0, why) });
}

/** The peer has sent more messages than may wait; Resting is the one reason that asks it to come again (assumed). */
export function overload(core: Core): void {
  const why = { cause: "limit" as const, detail: `more than ${core.settings.maxUnprocessed} messages unprocessed` };
  const closed = sendConnectClose(core, ConnectCloseReasonId.Resting, OVERLOAD_RETURN_SECONDS, why);
  core.events.push({ type: "closed", ...closed });
}
