/** Handles each command that a connection receives [MS-GRVSSTP 3.1.5, 3.2.5, 3.3.5]. */

import { isSameDevice } from "./address.ts";
import type { Core, Mutable } from "./connection-state.ts";
import { establish, finish, overload, send, sendConnectResponse, violation } from "./connection-state.ts";
import type { ReceivedMessageFields } from "./events.ts";
import { affectedIndexes, immediateFanoutResponse, loseEntries } from "./fanout.ts";
import type { InboundSession, SecuritySession } from "./sessions.ts";
import type * as wire from "./wire.ts";
import {
  AttachResponseId,
  CloseReasonId,
  ConnectCloseReasonId,
  ConnectResponseId,
  MessageFlag,
  OpenResponseId,
  VERSION_1_5,
  VERSION_1_6,
  WAN_DPP_RESOURCE_URL,
} from "./wire.ts";

const { ProtocolError, TooManyUnknownSessionCmds } = ConnectCloseReasonId;

type Handlers = { readonly [N in wire.CommandName]: (core: Core, command: wire.CommandOf<N>) => void };

const handlers: Handlers = {
  Connect: handleConnect,
  ConnectResponse: handleConnectResponse,
  ConnectAuthenticate: handleConnectAuthenticate,
  ConnectClose: handleConnectClose,
  Open: handleOpen,
  FanoutOpen: handleFanoutOpen,
  OpenResponse: handleOpenResponse,
  Attach: handleSecurityOpen,
  AttachResponse: handleSecurityResponse,
  AttachAuthenticate: handleAttachAuthenticate,
  Register: handleSecurityOpen,
  RegisterResponse: handleSecurityResponse,
  Message: handleMessage,
  Data: handleData,
  EndMessage: handleEndMessage,
  Noop: (core, { messageCount }) => {
    handleAcknowledgement(core, messageCount);
  },
  Close: handleClose,
  SessionStatus: handleSessionStatus,
};

/** Handles one command. Resulting events and output are left in the core. */
export function handleCommand(core: Core, command: wire.Command): void {
  (handlers[command.command] as (core: Core, command: wire.Command) => void)(core, command);
}

// --------------------------------------------------------------------------------------------------------- connection

function handleConnect(core: Core, connect: wire.Connect): void {
  const { settings } = core;
  // Only the side that made the transport connection sends Connect (assumed).
  if (settings.outbound || core.state !== "transport layer connected") {
    violation(core, ProtocolError, `Connect in state '${core.state}'`);
    return;
  }
  core.state = "connecting";
  const responseId = responseToConnect(core, connect);
  if (responseId !== ConnectResponseId.Ok) {
    sendConnectResponse(core, responseId, 0, new Uint8Array(0));
    const detail = `refused Connect to ${connect.targetDeviceURL} with ResponseId ${responseId}`;
    core.events.push({ type: "closed", ...finish(core, { by: "self", cause: "refused", responseId, detail }) });
    return;
  }
  core.version = commonVersion(settings.version, connect.minorVersionNumber);
  core.events.push({
    type: "connect",
    targetDeviceURL: connect.targetDeviceURL,
    sourceDeviceURLs: connect.sourceDeviceURLs,
    version: core.version,
    token: connect.authenticationToken,
    productVersion: connect.peerProductVersion,
    productCapabilities: connect.peerProductCapabilities,
  });
}

/** The ResponseId as far as the engine can decide [3.1.5.1]. Checks that need a user database are the owner's. */
function responseToConnect({ settings }: Core, connect: wire.Connect): number {
  if (!settings.localDeviceURLs.some((url) => isSameDevice(url, connect.targetDeviceURL))) {
    return ConnectResponseId.WrongDevice;
  }
  const { majorVersionNumber: major, minorVersionNumber: minor } = connect;
  if (major > settings.version.major) {
    // The choice "depends on the sender's minor version"; how is assumed.
    return minor <= settings.version.minor ? ConnectResponseId.WillUpgrade : ConnectResponseId.WontUpgrade;
  }
  // Versions below 1.5 have no known format, so a lower minor version counts like a lower major one (assumed).
  if (major < settings.version.major || minor < VERSION_1_5.minor) return ConnectResponseId.NewVersionRequired;
  return ConnectResponseId.Ok;
}

/** The lower of two versions [4.1.1]. The peer's minor version may be higher than any known here. */
function commonVersion(own: wire.Version, peerMinor: number): wire.Version {
  return own.minor < 6 || peerMinor < 6 ? VERSION_1_5 : VERSION_1_6;
}

function handleConnectResponse(core: Core, response: wire.ConnectResponse): void {
  if (!core.settings.outbound || core.state !== "connecting") {
    violation(core, ProtocolError, `ConnectResponse in state '${core.state}'`);
    return;
  }
  const { responseId, majorVersionNumber: major, minorVersionNumber: minor, authenticationToken: token } = response;
  if (responseId !== ConnectResponseId.Ok) {
    const { retryTime } = response;
    core.events.push({ type: "refused", responseId, retryTime, peerVersion: { major, minor }, token });
    const returnTime = responseId === ConnectResponseId.TryLater ? { returnTime: retryTime } : {};
    const detail = `Connect was refused with ResponseId ${responseId}`;
    const closed = finish(core, { by: "peer", cause: "refused", responseId, ...returnTime, detail });
    core.events.push({ type: "closed", ...closed });
    return;
  }
  if (major !== VERSION_1_5.major || minor < VERSION_1_5.minor) {
    violation(core, ProtocolError, `ConnectResponse Ok in version ${major}.${minor}`);
    return;
  }
  establish(core, commonVersion(core.settings.version, minor));
  core.events.push({
    type: "connected",
    version: core.version,
    token,
    productVersion: response.peerProductVersion,
    productCapabilities: response.peerProductCapabilities,
  });
}

function handleConnectAuthenticate(core: Core, authenticate: wire.ConnectAuthenticate): void {
  const { role, outbound } = core.settings;
  if (role !== "relay" || outbound || core.state !== "established") {
    violation(core, ProtocolError, `ConnectAuthenticate to a ${role} in state '${core.state}'`);
    return;
  }
  core.events.push({ type: "connectAuthenticate", token: authenticate.authenticationToken });
}

function handleConnectClose(core: Core, { messageCount, reasonId, returnTime }: wire.ConnectClose): void {
  // An excessive count cannot be reported any more. Ignoring it only causes messages to be resent.
  const messages = core.ledger.acknowledge(messageCount);
  if (messages !== undefined && messages.length > 0) core.events.push({ type: "acknowledged", messages });
  const resting = reasonId === ConnectCloseReasonId.Resting ? { returnTime } : {};
  const detail = `the peer sent ConnectClose with ReasonId ${reasonId}`;
  core.events.push({ type: "closed", ...finish(core, { by: "peer", cause: "close", reasonId, ...resting, detail }) });
}

/** Handles a MessageCount [3.1.5.19]. False if it was too high and the connection was closed (assumed). */
function handleAcknowledgement(core: Core, messageCount: number): boolean {
  if (messageCount === 0) return true;
  const messages = core.ledger.acknowledge(messageCount);
  if (messages === undefined) {
    violation(core, ProtocolError, `MessageCount ${messageCount} is higher than the number of messages outstanding`);
    return false;
  }
  core.events.push({ type: "acknowledged", messages });
  return true;
}

// ----------------------------------------------------------------------------------------------------------- sessions

/** Whether a session with this id may begin; closes the connection if not [3.1.5.5, 3.3.5.6, 3.3.5.14]. */
function mayBegin(core: Core, what: string, sessionId: number): boolean {
  if (core.state === "established" && core.sessions.get(sessionId) === undefined) return true;
  const problem = core.state === "established" ? "which exists already" : `in state '${core.state}'`;
  violation(core, TooManyUnknownSessionCmds, `${what} of session ${sessionId}, ${problem}`);
  return false;
}

function beginInbound(core: Core, sessionId: number, addressing: InboundSession["addressing"]): boolean {
  core.sessions.add({
    kind: "inbound",
    sessionId,
    addressing,
    state: "opening",
    receiver: "none",
    immediate: false,
    lost: [],
  });
  const { maxSessions, maxAddressing } = core.settings;
  if (core.sessions.peers <= maxSessions && core.sessions.peerWeight <= maxAddressing) return true;
  refuseInbound(core, sessionId, OpenResponseId.Unknown);
  return false;
}

/** Responds to an opening that creates no session. Ok is the response to a FanoutOpen without entries. */
function refuseInbound(core: Core, sessionId: number, responseId: number): void {
  const session = core.sessions.get(sessionId);
  if (session !== undefined) core.sessions.remove(session, false);
  send(core, { command: "OpenResponse", sessionId, responseId });
}

function handleOpen(core: Core, open: wire.Open): void {
  const { sessionId, resourceURL, identityURL, deviceURL } = open;
  if (!mayBegin(core, "Open", sessionId)) return;
  // The identity MUST NOT be empty [2.2.5.1]; the response to an empty one is assumed, after [3.3.5.6].
  if (identityURL === "" && resourceURL !== WAN_DPP_RESOURCE_URL) {
    refuseInbound(core, sessionId, OpenResponseId.Unknown);
    return;
  }
  const addressing = { resourceURL, identityURL, deviceURL };
  if (beginInbound(core, sessionId, addressing)) core.events.push({ type: "open", sessionId, ...addressing });
}

function handleFanoutOpen(core: Core, open: wire.FanoutOpen): void {
  const { sessionId, resourceURL, fanoutDeviceEntries: entries } = open;
  if (!mayBegin(core, "FanoutOpen", sessionId)) return;
  const responseId = immediateFanoutResponse(open, core.settings);
  if (responseId !== undefined) {
    refuseInbound(core, sessionId, responseId);
    return;
  }
  const addressing = { resourceURL, entries };
  if (beginInbound(core, sessionId, addressing)) core.events.push({ type: "fanoutOpen", sessionId, ...addressing });
}

/** A command for a session of ours that is gone: ignored if it may have crossed our Close, otherwise a violation. */
function handleStranger(core: Core, what: string, sessionId: number): void {
  if (core.sessions.get(sessionId) !== undefined) {
    violation(core, ProtocolError, `${what} for session ${sessionId}, which is of another kind`);
    return;
  }
  if (core.sessions.wasOwn(sessionId)) return;
  violation(core, TooManyUnknownSessionCmds, `${what} for session ${sessionId}, which is unknown`);
}

function handleOpenResponse(core: Core, { sessionId, responseId }: wire.OpenResponse): void {
  const session = core.sessions.find(sessionId, "outbound");
  if (session === undefined) {
    // As with Close, messages of a session that both sides ended leave both lists: see message-ledger.ts.
    if (responseId === OpenResponseId.Ok || responseId === OpenResponseId.OkStopSending) {
      handleStranger(core, "OpenResponse", sessionId);
      return;
    }
    const unacknowledged = core.ledger.dropOutbound(sessionId);
    if (unacknowledged.length === 0) {
      handleStranger(core, "OpenResponse", sessionId);
      return;
    }
    core.events.push({ type: "sessionRefused", sessionId, responseId, unacknowledged });
    return;
  }
  if (responseId === OpenResponseId.Ok || responseId === OpenResponseId.OkStopSending) {
    const state = responseId === OpenResponseId.Ok ? "ready" : "suspended";
    if (session.state === state) return;
    session.state = state;
    core.events.push({ type: "sessionState", sessionId, state });
    return;
  }
  core.sessions.remove(session, false);
  const unacknowledged = core.ledger.dropOutbound(sessionId);
  core.events.push({ type: "sessionRefused", sessionId, responseId, unacknowledged });
}

function handleSessionStatus(core: Core, status: wire.SessionStatus): void {
  const { sessionId, statusId, deviceURL, identityURL } = status;
  const session = core.sessions.find(sessionId, "outbound");
  if (session === undefined) {
    handleStranger(core, "SessionStatus", sessionId);
    return;
  }
  const indexes = "entries" in session.addressing ? affectedIndexes(session, status) : undefined;
  if (indexes === undefined) {
    violation(core, ProtocolError, `SessionStatus for session ${sessionId} names entries that it does not have`);
    return;
  }
  const remaining = loseEntries(session, indexes);
  core.events.push({ type: "sessionStatus", sessionId, statusId, deviceURL, identityURL, indexes, remaining });
  if (remaining > 0) return;
  const reasonId = CloseReasonId.NoReason;
  send(core, { command: "Close", sessionId, reasonId });
  core.sessions.remove(session, true);
  core.events.push({
    type: "sessionClosed",
    sessionId,
    kind: "outbound",
    by: "self",
    reasonId,
    unacknowledged: [],
    unfinished: false,
  });
}

function handleClose(core: Core, { sessionId, reasonId }: wire.Close): void {
  if (core.state !== "established") {
    violation(core, TooManyUnknownSessionCmds, `Close of session ${sessionId} in state '${core.state}'`);
    return;
  }
  const session = core.sessions.get(sessionId);
  const ours = session === undefined || session.kind === "outbound";
  const unacknowledged = ours ? core.ledger.dropOutbound(sessionId) : [];
  // Ignore unknown sessions [3.1.5.9], but drop messages sent before our own Close: the peer does not count them.
  if (session === undefined && unacknowledged.length === 0) return;
  if (session !== undefined) core.sessions.remove(session, false);
  core.events.push({
    type: "sessionClosed",
    sessionId,
    kind: session?.kind ?? "outbound",
    by: "peer",
    reasonId,
    unacknowledged,
    unfinished: session?.kind === "inbound" && (session.receiver === "ready" || session.receiver === "buffering"),
  });
}

// ----------------------------------------------------------------------------------------------------------- messages

/**
 * The session of a Message, Data or EndMessage. If there is none, the connection is closed [3.1.5.10, 3.1.5.11], unless
 * this side closed the session recently: the peer may not know yet, so the command is ignored, which the rule on
 * unknown sessions does not forbid (assumed).
 */
function receivingSession(core: Core, what: string, sessionId: number): InboundSession | undefined {
  const session = core.sessions.get(sessionId);
  if (session?.kind === "inbound") return session;
  if (session !== undefined) {
    violation(core, ProtocolError, `${what} on session ${sessionId}, on which only this side sends messages`);
  } else if (!core.sessions.wasClosedByUs(sessionId)) {
    violation(core, TooManyUnknownSessionCmds, `${what} on session ${sessionId}, which is unknown`);
  }
  return undefined;
}

function outOfOrder(core: Core, what: string, session: InboundSession): void {
  const detail = `${what} on session ${session.sessionId}, whose receiver is '${session.receiver}'`;
  violation(core, ProtocolError, detail);
}

function receivedFields(message: wire.Message): ReceivedMessageFields {
  const { flags, userRef, ephemeral, streamSize, fragmentation } = message;
  const fields: Mutable<ReceivedMessageFields> = {
    userRef,
    track: (flags & MessageFlag.Track) !== 0,
    acknowledgeImmediately: (flags & MessageFlag.AcknowledgeImmediately) !== 0,
    doNotDeliverIfOffline: (flags & MessageFlag.DoNotDeliverIfOffline) !== 0,
  };
  if (ephemeral !== undefined) fields.ephemeral = ephemeral;
  if (streamSize !== undefined) fields.streamSize = streamSize;
  if (fragmentation !== undefined) fields.fragmentation = fragmentation;
  return fields;
}

function handleMessage(core: Core, message: wire.Message): void {
  const session = receivingSession(core, "Message", message.sessionId);
  if (session !== undefined && session.receiver !== "waiting") {
    outOfOrder(core, "Message", session);
    return;
  }
  // Acknowledgements belong to the connection, so they count even on a closed session.
  if (core.closed !== undefined || !handleAcknowledgement(core, message.messageCount)) return;
  if (session === undefined) return;
  const fields = receivedFields(message);
  session.receiver = "ready";
  session.immediate = fields.acknowledgeImmediately;
  core.events.push({ type: "message", sessionId: session.sessionId, fields });
}

function handleData(core: Core, { sessionId, data }: wire.Data): void {
  const session = receivingSession(core, "Data", sessionId);
  if (session === undefined) return;
  if (session.receiver !== "ready" && session.receiver !== "buffering") {
    outOfOrder(core, "Data", session);
    return;
  }
  session.receiver = "buffering";
  if (data.length > 0) core.events.push({ type: "data", sessionId, octets: data });
}

// An EndMessage right after Message ends an empty message; order and responses as for Data (assumed) [3.1.5.12].
function handleEndMessage(core: Core, { sessionId }: wire.EndMessage): void {
  const session = receivingSession(core, "EndMessage", sessionId);
  if (session === undefined) return;
  if (session.receiver !== "ready" && session.receiver !== "buffering") {
    outOfOrder(core, "EndMessage", session);
    return;
  }
  session.receiver = "waiting";
  const message = core.ledger.received(sessionId, session.immediate);
  core.events.push({ type: "endMessage", sessionId, message });
  if (core.ledger.unprocessed > core.settings.maxUnprocessed) overload(core);
}

// ----------------------------------------------------------------------------------------------------------- security

function handleSecurityOpen(core: Core, command: wire.Attach | wire.Register): void {
  const { eventId, authenticationToken: token } = command;
  if (core.settings.role !== "relay") {
    violation(core, ProtocolError, `${command.command} to a client: only a relay takes it`);
    return;
  }
  if (!mayBegin(core, command.command, eventId)) return;
  const session: SecuritySession = {
    kind: command.command === "Attach" ? "attach" : "register",
    sessionId: eventId,
    own: false,
  };
  core.sessions.add(session);
  if (core.sessions.peers > core.settings.maxSessions) {
    core.sessions.remove(session, true);
    send(core, { command: "Close", sessionId: eventId, reasonId: CloseReasonId.InternalError });
  } else if (command.command === "Attach") {
    const { accountURL, resourceURL } = command;
    core.events.push({ type: "attach", eventId, accountURL, resourceURL, token });
  } else {
    core.events.push({ type: "register", eventId, token });
  }
}

// The response for an unknown attach session is assumed, by analogy with data sessions.
function handleAttachAuthenticate(core: Core, command: wire.AttachAuthenticate): void {
  const { eventId, authenticationToken: token } = command;
  const session = core.sessions.get(eventId);
  if (session?.kind === "attach" && !session.own) {
    core.events.push({ type: "attachAuthenticate", eventId, token });
  } else if (session !== undefined) {
    violation(core, ProtocolError, `AttachAuthenticate for session ${eventId}, which is of another kind`);
  } else if (!core.sessions.wasClosedByUs(eventId)) {
    violation(core, TooManyUnknownSessionCmds, `AttachAuthenticate for session ${eventId}, which is unknown`);
  }
}

function handleSecurityResponse(core: Core, command: wire.AttachResponse | wire.RegisterResponse): void {
  const { eventId, responseId, authenticationToken: token } = command;
  const kind = command.command === "AttachResponse" ? "attach" : "register";
  const session = core.sessions.find(eventId, kind);
  if (session === undefined || !session.own) {
    handleStranger(core, command.command, eventId);
    return;
  }
  if (kind === "register") {
    core.events.push({ type: "registered", eventId, responseId, token });
  } else if (responseId === AttachResponseId.Ok) {
    core.events.push({ type: "attached", eventId, token });
  } else {
    core.sessions.remove(session, false);
    core.events.push({ type: "attachRefused", eventId, responseId, token });
  }
}
