/**
 * One SSTP connection [MS-GRVSSTP 3.1], for either side and either role. Uses no socket and no clock: bytes and the
 * time go in; bytes, events and the next deadline come out.
 */

import { handleCommand } from "./command-handlers.ts";
import type { ConnectionOptions, ConnectionState, Core, Mutable } from "./connection-state.ts";
import {
  acknowledgementSent,
  createCore,
  dropInboundSession,
  establish,
  finish,
  flushAcknowledgement,
  invalid,
  scheduleAcknowledgement,
  send,
  sendConnectClose,
  sendConnectResponse,
  violation,
} from "./connection-state.ts";
import type { AddressingEntry, Closed, ConnectionEvent, FanoutAddressing, MessageFields } from "./events.ts";
import { StateError } from "./events.ts";
import { loseEntries, statusCommands } from "./fanout.ts";
import {
  addOutbound,
  answering,
  established,
  inbound,
  newId,
  noMessage,
  notClosed,
  outbound,
  requireReady,
  requireSecurity,
  unknownSession,
} from "./preconditions.ts";
import type { Session } from "./sessions.ts";
import type { ConnectionSnapshot } from "./snapshot.ts";
import { restoreCore, saveCore } from "./snapshot.ts";
import type { Command, Message, Version } from "./wire.ts";
import {
  AttachResponseId,
  ConnectCloseReasonId,
  ConnectResponseId,
  DATA_HEADER_OCTETS,
  MAX_DATA_OCTETS,
  MessageFlag,
  OpenResponseId,
  RegisterResponseId,
  WAN_DPP_RESOURCE_URL,
} from "./wire.ts";
import { WireError } from "./wire-error.ts";

/** ResourceHandlerAvailability [3.1.5.5]: accepts messages, accepts none for now, or never will. */
export type Availability = "ready" | "notReady" | "fault";

const NO_TOKEN = new Uint8Array(0);
/** Octets of a message beside its data, with long URLs in its id, and of what is sent with it. */
const MESSAGE_OCTETS = 1024;
/** Octets of the Noop that will carry a pending acknowledgement. */
const NOOP_OCTETS = 7;

/**
 * The engine of one connection.
 *
 * The owner passes received bytes to `receive`, sends what `output` returns, and calls `advance` at `deadline`. After
 * any call, `pendingOctets` tells whether there is output. The engine never refuses data: back-pressure is up to the
 * owner, who must stop sending while `pendingOctets` grows.
 *
 * Calls throw {@link StateError} if the state forbids them and `WireError` if an argument cannot be encoded; the state
 * is then unchanged. Received data never makes a call throw: a violation closes the connection and is reported in
 * `closed`.
 *
 * Every connection ends with one `closed` event, or with a call of `close`, `refuseConnect` or `acceptConnect({
 * tooMany: true })`, which set the `closed` property without an event. Afterwards `receive` and `advance` return
 * nothing, `output` still returns what was written, and the owner must end the transport.
 */
export class Connection {
  readonly #core: Core;
  readonly #sink = (command: Command): boolean => {
    handleCommand(this.#core, command);
    return this.#core.closed === undefined;
  };

  /** @throws StateError `invalid-argument` for options that contradict the protocol */
  constructor(options: ConnectionOptions) {
    this.#core = createCore(options);
  }

  // ------------------------------------------------------------------------------------------------ octets and time

  /**
   * Handles bytes from the transport, split anywhere. `octets` may be empty.
   *
   * @param now milliseconds of the clock that all calls use
   */
  receive(octets: Uint8Array, now: number): ConnectionEvent[] {
    const core = this.#core;
    if (core.closed !== undefined) return [];
    core.now = now;
    if (octets.length > 0) core.lastReceived = now;
    try {
      core.decoder.push(octets, this.#sink);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      violation(core, ConnectCloseReasonId.ProtocolError, error.message, error.code);
    }
    return this.#takeEvents();
  }

  /** Restarts the timer for silence: the owner has read nothing until now, so silence says nothing. */
  excuseSilence(now: number): void {
    this.#core.lastReceived = now;
  }

  /** Fires due timers. */
  advance(now: number): ConnectionEvent[] {
    const core = this.#core;
    if (core.closed !== undefined) return [];
    core.now = now;
    if (now >= this.#receiveDeadline()) {
      const detail = `nothing was received for ${core.settings.receiveTimeout} ms`;
      core.events.push({ type: "closed", ...finish(core, { by: "self", cause: "timeout", detail }) });
      return this.#takeEvents();
    }
    if (now >= core.acknowledgeAt) {
      core.acknowledgeAt = Number.POSITIVE_INFINITY;
      core.acknowledgeNow = true;
    }
    if (now >= this.#keepAliveDeadline()) {
      core.lastSent = now;
      // Pending output keeps the connection alive too.
      if (this.pendingOctets === 0) {
        send(core, { command: "Noop", messageCount: core.ledger.due });
        acknowledgementSent(core);
      }
    }
    return this.#takeEvents();
  }

  /** When to call `advance` at the latest; Infinity for never. */
  get deadline(): number {
    return Math.min(this.#core.acknowledgeAt, this.#keepAliveDeadline(), this.#receiveDeadline());
  }

  /**
   * Takes the output: blocks of whole commands, at most OUTPUT_BLOCK_OCTETS each, owned by the caller. A due acknowledgement
   * is created here, so that many `complete` calls share one.
   *
   * @param now when the output is sent, for `keepAlive`; default: the time of the last call
   */
  output(now?: number): Uint8Array<ArrayBuffer>[] {
    const core = this.#core;
    if (now !== undefined) core.now = now;
    if (core.acknowledgeNow) flushAcknowledgement(core);
    const blocks = core.output.take();
    if (blocks.length > 0) core.lastSent = core.now;
    return blocks;
  }

  /** Bytes that `output` would return. */
  get pendingOctets(): number {
    const core = this.#core;
    return core.output.pending + (core.acknowledgeNow && core.ledger.due > 0 ? NOOP_OCTETS : 0);
  }

  /**
   * Whether `output` would return only an acknowledgement. Where each write is expensive it may be delayed a little.
   */
  get onlyAcknowledges(): boolean {
    const core = this.#core;
    return core.output.pending === 0 && core.acknowledgeNow && core.ledger.due > 0;
  }

  /** Call when the transport has ended. Closes the connection if it is open. */
  transportLost(): ConnectionEvent[] {
    const core = this.#core;
    if (core.closed !== undefined) return [];
    const detail = "the transport ended without ConnectClose";
    core.events.push({ type: "closed", ...finish(core, { by: "peer", cause: "transport", detail }) });
    return this.#takeEvents();
  }

  // ----------------------------------------------------------------------------------------------------- connection

  /** ConnectionState [3.1.1.2]. */
  get state(): ConnectionState {
    return this.#core.state;
  }

  /** How the connection ended; undefined while it is open. */
  get closed(): Closed | undefined {
    return this.#core.closed;
  }

  /** The connection's version once 'established'; before that, this side's highest. */
  get version(): Version {
    return this.#core.version;
  }

  /** Numbers of the messages sent and not yet acknowledged, oldest first (OutboundMessageList [3.1.1.2]). */
  get unacknowledged(): number[] {
    return [...(this.#core.closed?.unacknowledged ?? this.#core.ledger.unacknowledged)];
  }

  /** Number of inbound messages that are not completed, or behind one that is not (InboundMessageList [3.1.1.2]). */
  get unprocessed(): number {
    return this.#core.ledger.unprocessed;
  }

  /**
   * Sends Connect [2.2.1]. The result is a `connected` or `refused` event.
   *
   * @param token security message for the peer, at most about 65000 octets
   * @throws StateError `cannot-connect` on the side that did not make the transport connection, or on a second call
   */
  connect(targetDeviceURL: string, token: Uint8Array = NO_TOKEN): void {
    const core = notClosed(this.#core);
    if (!core.settings.outbound || core.state !== "transport layer connected") {
      throw new StateError("cannot-connect", "connect is for the side that made the transport connection, once");
    }
    send(core, {
      command: "Connect",
      majorVersionNumber: core.settings.version.major,
      minorVersionNumber: core.settings.version.minor,
      targetDeviceURL,
      sourceDeviceURLs: core.settings.localDeviceURLs,
      authenticationToken: token,
      peerProductVersion: core.settings.productVersion,
      peerProductCapabilities: core.settings.capabilities,
    });
    core.state = "connecting";
  }

  /**
   * Answers `connect` with Ok: the connection is 'established'.
   *
   * @param options.tooMany the device has more connections than NumberOfConcurrentDeviceConnections, counted by the
   *   owner: Ok is followed by ConnectClose CrossedConnections, and the connection is closed [3.1.5.1]
   */
  acceptConnect(options: { token?: Uint8Array | undefined; tooMany?: boolean | undefined } = {}): void {
    const core = answering(this.#core);
    sendConnectResponse(core, ConnectResponseId.Ok, 0, options.token ?? NO_TOKEN);
    establish(core, core.version);
    if (options.tooMany === true) {
      const detail = "the device has too many connections";
      sendConnectClose(core, ConnectCloseReasonId.CrossedConnections, 0, { cause: "close", detail });
    }
  }

  /**
   * Answers `connect` with another ResponseId. Closes the connection without ConnectClose.
   *
   * @param retryTime seconds; MUST be given with TryLater [3.1.5.1]
   */
  refuseConnect(responseId: number, retryTime = 0, token: Uint8Array = NO_TOKEN): void {
    const core = answering(this.#core);
    if (responseId === ConnectResponseId.Ok) invalid("ResponseId Ok does not refuse: call acceptConnect");
    if (responseId === ConnectResponseId.TryLater && retryTime === 0) invalid("TryLater needs a RetryTime in seconds");
    sendConnectResponse(core, responseId, retryTime, token);
    const returnTime = retryTime > 0 ? { returnTime: retryTime } : {};
    const detail = `Connect was refused with ResponseId ${responseId}`;
    finish(core, { by: "self", cause: "refused", responseId, ...returnTime, detail });
  }

  /**
   * Sends ConnectAuthenticate, the answer to the challenge in `connected` [2.2.3]. The token has at most 2050 octets.
   */
  connectAuthenticate(token: Uint8Array): void {
    const core = established(this.#core);
    if (!core.settings.outbound) invalid("ConnectAuthenticate is for the side that sent Connect");
    send(core, { command: "ConnectAuthenticate", authenticationToken: token });
  }

  /**
   * Ends the connection by ConnectClose, which carries the due acknowledgement [3.1.4.2]. No effect if already closed.
   * Before Connect nothing is sent.
   *
   * @param reasonId a ConnectCloseReasonId
   * @param returnTime seconds, with Resting
   */
  close(reasonId: number, returnTime = 0): void {
    const core = this.#core;
    if (core.closed !== undefined) return;
    const detail = `closed with ReasonId ${reasonId}`;
    if (core.state === "transport layer connected") finish(core, { by: "self", cause: "close", reasonId, detail });
    else sendConnectClose(core, reasonId, returnTime, { cause: "close", detail });
  }

  /** Sends Noop with the due acknowledgement, or 0 [2.2.13]. */
  noop(): void {
    const core = established(this.#core);
    send(core, { command: "Noop", messageCount: core.ledger.due });
    acknowledgementSent(core);
  }

  // ------------------------------------------------------------------------------------------------------- sessions

  /** The session with that id, including attach and register sessions. */
  session(sessionId: number): Readonly<Session> | undefined {
    return this.#core.sessions.get(sessionId);
  }

  /** All sessions. */
  sessions(): Readonly<Session>[] {
    return this.#core.sessions.all();
  }

  /**
   * Opens a session to one destination [3.1.4.3.2]. The result is a `sessionState` or `sessionRefused` event. An empty
   * `deviceURL` makes it identity-targeted. `identityURL` may be empty only for the resource `grooveWanDPP`.
   *
   * @returns the SessionId
   */
  open(entry: AddressingEntry): number {
    const { resourceURL, identityURL, deviceURL } = entry;
    if (identityURL === "" && resourceURL !== WAN_DPP_RESOURCE_URL) {
      invalid("identityURL is empty: name the destination's identity");
    }
    const sessionId = newId(this.#core);
    const addressing = { resourceURL, identityURL, deviceURL };
    send(this.#core, { command: "Open", sessionId, ...addressing });
    addOutbound(this.#core, sessionId, addressing);
    return sessionId;
  }

  /**
   * Opens a fanout session through a relay [3.1.4.3.3]. The result is a `sessionState` or `sessionRefused` event.
   * `sessionStatus` events report unreachable entries by their index in `entries`.
   *
   * @returns the SessionId
   */
  openFanout(addressing: FanoutAddressing): number {
    if (addressing.entries.length === 0) invalid("a fanout session needs an entry: the receiver removes one without");
    const sessionId = newId(this.#core);
    const { resourceURL } = addressing;
    const entries = addressing.entries.map((entry) => ({ ...entry }));
    send(this.#core, { command: "FanoutOpen", sessionId, resourceURL, fanoutDeviceEntries: entries });
    addOutbound(this.#core, sessionId, { resourceURL, entries });
    return sessionId;
  }

  /**
   * Answers `open` and `fanoutOpen` and reports later changes, each by OpenResponse (later ones assumed) [3.1.5.5].
   * ready sends Ok. notReady sends OkStopSending; the sender may finish what is in progress, so a few messages may
   * still arrive. fault sends Unknown and drops the session with its unacknowledged messages.
   */
  setAvailability(sessionId: number, availability: Availability): void {
    const core = established(this.#core);
    const session = inbound(core, sessionId);
    if (availability === "fault") {
      flushAcknowledgement(core);
      send(core, { command: "OpenResponse", sessionId, responseId: OpenResponseId.Unknown });
      dropInboundSession(core, session);
      return;
    }
    const state = availability === "ready" ? "ready" : "suspended";
    if (session.state === state) return;
    const responseId = state === "ready" ? OpenResponseId.Ok : OpenResponseId.OkStopSending;
    send(core, { command: "OpenResponse", sessionId, responseId });
    session.state = state;
    if (session.receiver === "none") session.receiver = "waiting";
  }

  /**
   * Closes a session of either side, including attach and register sessions [3.1.4.4]. Its state is dropped at once.
   *
   * On a session of ours this is the only way to abandon a message that has begun; complete messages stay outstanding
   * and will be acknowledged. On a session of the peer, incomplete messages are dropped and the peer learns that they
   * are unacknowledged; whatever it still sends on that session is ignored.
   *
   * @param reasonId a CloseReasonId
   */
  closeSession(sessionId: number, reasonId: number): void {
    const core = established(this.#core);
    const session = core.sessions.get(sessionId);
    if (session === undefined) throw unknownSession(sessionId);
    if (session.kind === "inbound") flushAcknowledgement(core);
    send(core, { command: "Close", sessionId, reasonId });
    if (session.kind === "inbound") dropInboundSession(core, session);
    else core.sessions.remove(session, true);
  }

  /**
   * Tells the originator of a fanout session that entries are permanently unreachable [2.2.8]. Entries already reported
   * are skipped. Statuses 1 to 3 concern a relay and include all entries through it.
   *
   * @param statusId a SessionStatusId
   * @param indexes of entries of `fanoutOpen`
   * @returns the indexes reported, and how many entries remain
   */
  sessionStatus(
    sessionId: number,
    statusId: number,
    indexes: readonly number[],
  ): { indexes: number[]; remaining: number } {
    const core = established(this.#core);
    const session = inbound(core, sessionId);
    const { addressing } = session;
    if (!("entries" in addressing)) invalid(`session ${sessionId} is no fanout session`);
    if (indexes.some((index) => addressing.entries[index] === undefined)) {
      invalid(`session ${sessionId} has ${addressing.entries.length} entries: give indexes below that`);
    }
    const status = statusCommands(session, statusId, indexes, core.version);
    for (const command of status.commands) send(core, command);
    return { indexes: status.indexes, remaining: loseEntries(session, status.indexes) };
  }

  // ------------------------------------------------------------------------------------------------------- messages

  /**
   * Begins a message on a 'ready' session [3.1.4.6]. Messages of different sessions may interleave. The only way to
   * abandon a message is to close its session.
   *
   * The engine numbers messages but does not keep their data. To resend on another connection, the owner needs its own
   * copy; one here would be lost with the connection.
   */
  beginMessage(sessionId: number, fields: MessageFields = {}): void {
    const core = established(this.#core);
    const session = outbound(core, sessionId);
    requireReady(session);
    if (session.sending !== "idle") {
      throw new StateError("message-open", `session ${sessionId} is in the middle of a message: end it first`);
    }
    const { ephemeral, streamSize, fragmentation } = fields;
    const message: Mutable<Message> = {
      command: "Message",
      sessionId,
      messageCount: core.ledger.due,
      flags:
        (fields.track === true ? MessageFlag.Track : 0) |
        (fields.acknowledgeImmediately === true ? MessageFlag.AcknowledgeImmediately : 0) |
        (fields.doNotDeliverIfOffline === true ? MessageFlag.DoNotDeliverIfOffline : 0),
      userRef: fields.userRef ?? "",
    };
    if (ephemeral !== undefined) message.ephemeral = ephemeral;
    if (streamSize !== undefined) message.streamSize = streamSize;
    if (fragmentation !== undefined) message.fragmentation = fragmentation;
    send(core, message);
    acknowledgementSent(core);
    session.sending = "begun";
  }

  /**
   * Makes room for a message with so many bytes of data, so that it leaves as one block if it fits into one. Calling this
   * before `beginMessage` saves time and memory, and changes nothing else.
   */
  expectMessage(octets: number): void {
    established(this.#core).output.expect(octets + (octets / MAX_DATA_OCTETS) * DATA_HEADER_OCTETS + MESSAGE_OCTETS);
  }

  /** Sends part of the message, of any length. It is copied and split into Data commands of up to 2048 octets. */
  data(sessionId: number, octets: Uint8Array): void {
    const core = established(this.#core);
    const session = outbound(core, sessionId);
    if (session.sending === "idle") throw noMessage(sessionId);
    requireReady(session);
    if (octets.length === 0) return;
    core.output.data(sessionId, octets);
    session.sending = "data";
  }

  /**
   * Ends the message, which is outstanding from then on. Allowed even if the session was suspended meanwhile. A message
   * without data gets one empty Data command, since the command order requires at least one.
   *
   * @returns its number, as reported by `acknowledged`; counted from 1 per connection
   */
  endMessage(sessionId: number): number {
    const core = established(this.#core);
    const session = outbound(core, sessionId);
    if (session.sending === "idle") throw noMessage(sessionId);
    if (session.sending === "begun") core.output.data(sessionId, NO_TOKEN);
    send(core, { command: "EndMessage", sessionId });
    session.sending = "idle";
    return core.ledger.sent(sessionId);
  }

  /**
   * Marks the message of an `endMessage` event as processed [3.1.4.7]. Messages are acknowledged in order of arrival,
   * so an incomplete one holds up those behind it. The acknowledgement goes out with the next Message, at the next
   * `output` if flag A asked for that, or after `acknowledgeAfter`.
   *
   * @param now for the timer; default: the time of the last call
   * @returns false if it no longer matters: the session or connection is closed, or the message was completed before
   */
  complete(message: number, now?: number): boolean {
    const core = this.#core;
    if (core.closed !== undefined) return false;
    if (now !== undefined) core.now = now;
    const done = core.ledger.complete(message);
    if (done === undefined) invalid(`there was no message ${message}: give the number of an endMessage event`);
    scheduleAcknowledgement(core);
    return done;
  }

  // ------------------------------------------------------------------------------------------------------- security

  /**
   * Asks a relay to attach an account [2.2.14]. The result is an `attached`, `attachRefused` or `sessionClosed` event.
   *
   * @returns the EventId
   */
  attach(options: { accountURL: string; resourceURL?: string | undefined; token?: Uint8Array | undefined }): number {
    const { accountURL, resourceURL = "", token = NO_TOKEN } = options;
    const eventId = newId(this.#core);
    send(this.#core, { command: "Attach", eventId, resourceURL, accountURL, authenticationToken: token });
    this.#core.sessions.add({ kind: "attach", sessionId: eventId, own: true });
    return eventId;
  }

  /** Answers `attach`, and again after `attachAuthenticate` if necessary. To refuse, call `closeSession`. */
  acceptAttach(eventId: number, token: Uint8Array = NO_TOKEN): void {
    requireSecurity(this.#core, eventId, "attach", false);
    send(this.#core, {
      command: "AttachResponse",
      eventId,
      responseId: AttachResponseId.Ok,
      authenticationToken: token,
    });
  }

  /** Answers the challenge in `attached` [2.2.16]. */
  attachAuthenticate(eventId: number, token: Uint8Array): void {
    requireSecurity(this.#core, eventId, "attach", true);
    send(this.#core, { command: "AttachAuthenticate", eventId, authenticationToken: token });
  }

  /**
   * Sends Register [2.2.17]. The result is a `registered` or `sessionClosed` event.
   *
   * @returns the EventId
   */
  register(token: Uint8Array): number {
    const eventId = newId(this.#core);
    send(this.#core, { command: "Register", eventId, authenticationToken: token });
    this.#core.sessions.add({ kind: "register", sessionId: eventId, own: true });
    return eventId;
  }

  /** Answers `register`. To refuse, call `closeSession`. */
  acceptRegister(eventId: number, token: Uint8Array = NO_TOKEN): void {
    requireSecurity(this.#core, eventId, "register", false);
    send(this.#core, {
      command: "RegisterResponse",
      eventId,
      responseId: RegisterResponseId.Ok,
      authenticationToken: token,
    });
  }

  // ------------------------------------------------------------------------------------------------------- snapshot

  /**
   * The whole state as plain data (JSON or structured clone), including the bytes of an incomplete command.
   *
   * @throws StateError `unsent-output`: take and send the output first
   */
  snapshot(): ConnectionSnapshot {
    return saveCore(this.#core);
  }

  /**
   * Restores a connection from a snapshot.
   *
   * @param options as for the saved connection; `now` is ignored
   * @throws StateError `snapshot-format` if another release wrote the snapshot; make a new connection then
   */
  static restore(snapshot: ConnectionSnapshot, options: ConnectionOptions): Connection {
    const connection = new Connection(options);
    restoreCore(connection.#core, snapshot);
    return connection;
  }

  // ------------------------------------------------------------------------------------------------------- internals

  #takeEvents(): ConnectionEvent[] {
    const { events } = this.#core;
    this.#core.events = [];
    return events;
  }

  #keepAliveDeadline(): number {
    const { settings, state, lastSent, ledger } = this.#core;
    const isBusy = settings.busyKeepAlive > 0 && ledger.unprocessed > 0;
    const after = isBusy ? settings.busyKeepAlive : settings.keepAlive;
    return after > 0 && state === "established" ? lastSent + after : Number.POSITIVE_INFINITY;
  }

  #receiveDeadline(): number {
    const { settings, closed, lastReceived } = this.#core;
    return settings.receiveTimeout > 0 && closed === undefined
      ? lastReceived + settings.receiveTimeout
      : Number.POSITIVE_INFINITY;
  }
}
