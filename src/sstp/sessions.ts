/** The sessions of a connection [MS-GRVSSTP 3.1.1.3]. Attach and register sessions share their id space. */

import type { AddressingEntry, FanoutAddressing, SessionKind } from "./events.ts";

/** SessionState. 'blocked' is treated as 'suspended', since the difference is unknown. */
export type SessionState = "opening" | "suspended" | "ready";

/** A session on which this side sends. */
export interface OutboundSession {
  readonly kind: "outbound";
  readonly sessionId: number;
  readonly addressing: AddressingEntry | FanoutAddressing;
  state: SessionState;
  /** Progress of the current message: not begun, begun, or some Data sent. */
  sending: "idle" | "begun" | "data";
  /** Indexes of fanout entries removed by SessionStatus, ascending. */
  lost: number[];
}

/** A session on which the peer sends. */
export interface InboundSession {
  readonly kind: "inbound";
  readonly sessionId: number;
  readonly addressing: AddressingEntry | FanoutAddressing;
  state: SessionState;
  /** MessageReceiver; 'none' until OpenResponse has been sent [3.1.5.5]. */
  receiver: "none" | "waiting" | "ready" | "buffering";
  /** Flag A of the message being received. */
  immediate: boolean;
  /** Indexes of fanout entries reported by SessionStatus, ascending. */
  lost: number[];
}

/** A session of security messages: an EventId in AttachSessionIds or RegisterSessionIds [3.3.1]. */
export interface SecuritySession {
  readonly kind: "attach" | "register";
  readonly sessionId: number;
  /** Whether this side opened it. */
  readonly own: boolean;
}

export type Session = OutboundSession | InboundSession | SecuritySession;

/** How many ids of closed sessions are remembered. A peer rarely has data in transit on more. */
const REMEMBERED_SESSIONS = 1024;

const MAX_SESSION_ID = 0xffffffff;

/** The session table as plain data. */
export interface SessionsSnapshot {
  readonly nextId: number;
  readonly sessions: readonly Session[];
  readonly closedByUs: readonly number[];
}

/** Whether this side opened the session. */
export function isOwn(session: Session): boolean {
  return session.kind === "outbound" || (session.kind !== "inbound" && session.own);
}

/** Cost of an entry of a fanout beside its characters: the object that keeps it takes some 200 bytes. */
export const ENTRY_COST = 64;

/** What a session keeps in memory, in characters. */
function weigh(session: Session): number {
  if (session.kind !== "inbound" && session.kind !== "outbound") return 0;
  const { addressing } = session;
  if (!("entries" in addressing)) {
    return addressing.resourceURL.length + addressing.identityURL.length + addressing.deviceURL.length;
  }
  return addressing.entries.reduce(
    (sum, entry) => sum + entry.identityURL.length + entry.deviceURL.length + entry.relayURL.length + ENTRY_COST,
    addressing.resourceURL.length,
  );
}

/** The sessions by id. Allocates ids and tracks how much the peer uses. */
export class SessionTable {
  readonly #sessions = new Map<number, Session>();
  readonly #closedByUs = new Set<number>();
  #nextId: number;
  #own = 0;
  #peerWeight = 0;

  /**
   * @param outbound whether this side made the connection: it uses odd ids, the other even ones (assumed) [3.1.4.3.1]
   */
  constructor(outbound: boolean) {
    this.#nextId = outbound ? 1 : 2;
  }

  /** How many sessions this side opened. */
  get own(): number {
    return this.#own;
  }

  /** How many sessions the peer opened. */
  get peers(): number {
    return this.#sessions.size - this.#own;
  }

  /** Characters of addressing kept for sessions that the peer opened. */
  get peerWeight(): number {
    return this.#peerWeight;
  }

  get(sessionId: number): Session | undefined {
    return this.#sessions.get(sessionId);
  }

  /** The session, if it is of that kind. */
  find<K extends SessionKind>(sessionId: number, kind: K): Extract<Session, { kind: K }> | undefined {
    const session = this.#sessions.get(sessionId);
    return session?.kind === kind ? (session as Extract<Session, { kind: K }>) : undefined;
  }

  /** The id for this side's next session; undefined when all 2^31 are used. Ids are never reused. */
  freeId(): number | undefined {
    while (this.#sessions.has(this.#nextId)) this.#nextId += 2;
    return this.#nextId > MAX_SESSION_ID ? undefined : this.#nextId;
  }

  /** Whether this side has used the id before, so that a command for it may have crossed a Close. */
  wasOwn(sessionId: number): boolean {
    return sessionId % 2 === this.#nextId % 2 && sessionId > 0 && sessionId < this.#nextId;
  }

  /** Whether this side closed a session of the peer with that id, among the last {@link REMEMBERED_SESSIONS}. */
  wasClosedByUs(sessionId: number): boolean {
    return this.#closedByUs.has(sessionId);
  }

  add(session: Session): void {
    this.#sessions.set(session.sessionId, session);
    if (isOwn(session)) {
      this.#own += 1;
      if (session.sessionId === this.#nextId) this.#nextId += 2;
    } else {
      this.#closedByUs.delete(session.sessionId);
      this.#peerWeight += weigh(session);
    }
  }

  /** @param byUs whether this side closed it: later commands of the peer for it are ignored */
  remove(session: Session, byUs: boolean): void {
    this.#sessions.delete(session.sessionId);
    if (isOwn(session)) {
      this.#own -= 1;
      return;
    }
    this.#peerWeight -= weigh(session);
    if (byUs) this.rememberClosed(session.sessionId);
  }

  /** Records that this side closed or refused a session of the peer. */
  rememberClosed(sessionId: number): void {
    this.#closedByUs.add(sessionId);
    if (this.#closedByUs.size > REMEMBERED_SESSIONS) {
      for (const oldest of this.#closedByUs) {
        this.#closedByUs.delete(oldest);
        break;
      }
    }
  }

  clear(): void {
    this.#sessions.clear();
    this.#closedByUs.clear();
    this.#own = 0;
    this.#peerWeight = 0;
  }

  all(): Session[] {
    return [...this.#sessions.values()];
  }

  snapshot(): SessionsSnapshot {
    return {
      nextId: this.#nextId,
      sessions: this.all().map((session) => ("lost" in session ? { ...session, lost: [...session.lost] } : session)),
      closedByUs: [...this.#closedByUs],
    };
  }

  static restore(snapshot: SessionsSnapshot): SessionTable {
    const table = new SessionTable(true);
    for (const session of snapshot.sessions) {
      table.add("lost" in session ? { ...session, lost: [...session.lost] } : { ...session });
    }
    for (const sessionId of snapshot.closedByUs) table.rememberClosed(sessionId);
    table.#nextId = snapshot.nextId;
    return table;
  }
}
