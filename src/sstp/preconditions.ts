/** State checks of a connection's methods. */

import type { Core } from "./connection-state.ts";
import { StateError } from "./events.ts";
import type { InboundSession, OutboundSession } from "./sessions.ts";
import { isOwn } from "./sessions.ts";

/** @throws StateError `closed` */
export function notClosed(core: Core): Core {
  if (core.closed !== undefined) throw new StateError("closed", `the connection is closed: ${core.closed.detail}`);
  return core;
}

/** @throws StateError `closed` or `not-established` */
export function established(core: Core): Core {
  notClosed(core);
  if (core.state !== "established") {
    throw new StateError("not-established", `the connection is '${core.state}': wait until it is 'established'`);
  }
  return core;
}

/** @throws StateError `closed`, or `no-connect` if no Connect is waiting for an answer */
export function answering(core: Core): Core {
  notClosed(core);
  if (core.settings.outbound || core.state !== "connecting") {
    throw new StateError("no-connect", "there is no Connect to answer: wait for the connect event");
  }
  return core;
}

/** The id for a new session. It is used up when the session is added. @throws StateError also `too-many-sessions` */
export function newId(core: Core): number {
  established(core);
  if (core.sessions.own >= core.settings.maxSessions) {
    throw new StateError("too-many-sessions", `${core.sessions.own} sessions are open: close one first`);
  }
  const sessionId = core.sessions.freeId();
  if (sessionId === undefined) {
    throw new StateError("too-many-sessions", "every session id was used: make a new connection");
  }
  return sessionId;
}

/** Records a session that was just opened. */
export function addOutbound(core: Core, sessionId: number, addressing: OutboundSession["addressing"]): void {
  core.sessions.add({ kind: "outbound", sessionId, addressing, state: "opening", sending: "idle", lost: [] });
}

export function unknownSession(sessionId: number): StateError {
  return new StateError("unknown-session", `session ${sessionId} is unknown, closed, or of another kind`);
}

export function noMessage(sessionId: number): StateError {
  return new StateError("no-message", `session ${sessionId} has no message begun: call beginMessage first`);
}

/** @throws StateError `unknown-session` */
export function outbound(core: Core, sessionId: number): OutboundSession {
  const session = core.sessions.find(sessionId, "outbound");
  if (session === undefined) throw unknownSession(sessionId);
  return session;
}

/** @throws StateError `unknown-session` */
export function inbound(core: Core, sessionId: number): InboundSession {
  const session = core.sessions.find(sessionId, "inbound");
  if (session === undefined) throw unknownSession(sessionId);
  return session;
}

/** @throws StateError `not-ready` [3.1.4.6] */
export function requireReady(session: OutboundSession): void {
  if (session.state === "ready") return;
  throw new StateError("not-ready", `session ${session.sessionId} is '${session.state}': wait until it is 'ready'`);
}

/** @throws StateError `unknown-session` if that side has no such attach or register session */
export function requireSecurity(core: Core, eventId: number, kind: "attach" | "register", own: boolean): void {
  const session = established(core).sessions.find(eventId, kind);
  if (session === undefined || isOwn(session) !== own) throw unknownSession(eventId);
}
