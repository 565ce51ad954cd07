/**
 * What one connection takes out: messages from the queues that it consumes, through sessions that the relay opens, one
 * at a time and each queue in its order, within a window of what its peer has not acknowledged.
 *
 * @module
 */
import { CloseReasonId, type Connection } from "../sstp/index.ts";
import { StoredIds } from "../store-and-forward/vouch.ts";
import { OPEN_SESSIONS, SEND_WINDOW, SEND_WINDOW_MESSAGES, SOCKET_QUEUE, VOLATILE_OCTETS } from "./defaults.ts";
import type { Hub } from "./hub.ts";
import { bodyOf, type Outgoing, Queue } from "./queue.ts";
import type { Envelope } from "./store.ts";

/** A session of ours towards the peer. */
interface Session {
  readonly id: number;
  readonly key: string;
  state: "opening" | "ready" | "suspended";
}

/** The message that is being sent. */
interface Current {
  readonly message: Outgoing;
  readonly session: Session;
  readonly body: Generator<Uint8Array>;
  /** The next part of the body; undefined at its end. */
  part: Uint8Array | undefined;
  /** Octets of the parts until now. */
  octets: number;
}

export class Delivery {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #socketQueue: () => number;
  readonly #queues: Queue[] = [];
  readonly #volatile: Outgoing[] = [];
  #volatileOctets = 0;
  /** Open sessions by their addressing, least recently used first. */
  readonly #sessions = new Map<string, Session>();
  readonly #keys = new Map<number, string>();
  /** Addressings that the peer has refused: their messages wait for another connection. */
  readonly #refused = new Set<string>();
  /** Sent and not acknowledged, by message number. */
  readonly #sent = new Map<number, Outgoing>();
  #sentOctets = 0;
  #current: Current | undefined;
  readonly #ids = new StoredIds();

  constructor(hub: Hub, engine: Connection, socketQueue: () => number) {
    this.#hub = hub;
    this.#engine = engine;
    this.#socketQueue = socketQueue;
  }

  addQueue(peer: string): void {
    if (!this.#queues.some((queue) => queue.peer === peer)) this.#queues.push(new Queue(this.#hub.store, peer));
  }

  removeQueue(peer: string): void {
    const index = this.#queues.findIndex((queue) => queue.peer === peer);
    if (index >= 0) this.#queues.splice(index, 1);
  }

  addVolatile(message: Outgoing): void {
    if (this.#volatile.length > 0 && this.#volatileOctets + message.size > VOLATILE_OCTETS) {
      this.#hub.drop("SlowPeer");
      return;
    }
    this.#volatileOctets += message.size;
    this.#volatile.push(message);
  }

  /** Gives the engine as much as there is room for. True when it stopped for want of room. */
  fill(): boolean {
    if (this.#engine.state !== "established") return false;
    while (this.#hasRoom()) {
      this.#current ??= this.#next();
      const current = this.#current;
      // The peer may suspend a session in the middle of a message: Data may be sent only in 'ready' [3.1.4.6].
      if (current === undefined || current.session.state !== "ready") return false;
      if (current.part !== undefined) {
        this.#engine.data(current.session.id, current.part);
        advance(current);
        continue;
      }
      this.#current = undefined;
      if (current.octets < current.message.size) {
        // The rest is no longer in the store. Only the end of its session ends a message that is not whole.
        this.#sentOctets -= current.message.size;
        this.#forget(current.session);
        this.#engine.closeSession(current.session.id, CloseReasonId.NoReason);
        continue;
      }
      this.#sent.set(this.#engine.endMessage(current.session.id), current.message);
    }
    return true;
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#session(sessionId);
    if (session !== undefined) session.state = state;
  }

  /**
   * The peer has refused or closed one of our sessions; what it did not acknowledge stays in the store. True when it has
   * refused a message for its length: it has to come again on another connection, where it may be refused again.
   */
  sessionLost(sessionId: number, unacknowledged: readonly number[], reasonId?: number): boolean {
    const left = unacknowledged.flatMap((number) => this.#taken(number) ?? []);
    const session = this.#session(sessionId);
    if (session === undefined) return false;
    this.#forget(session);
    const unfinished = this.#current?.session === session ? this.#current : undefined;
    if (reasonId === CloseReasonId.QuotaWouldBeExceeded) {
      // It is refused for its length, so it is the longest; they come in order, so of several it is the first.
      const candidates = [...left, ...(unfinished === undefined ? [] : [unfinished.message])];
      const [longest] = candidates.sort((a, b) => b.size - a.size);
      if (longest?.kind === "stored") {
        this.#hub.refused({ seq: longest.seq, peer: longest.envelope.peer, size: longest.size });
        return true;
      }
    }
    if (unfinished !== undefined) {
      this.#sentOctets -= unfinished.message.size;
      this.#current = undefined;
    }
    // An idle session that the peer tidied away is opened again when there is something to send on it.
    const tidied = reasonId === CloseReasonId.Idle || reasonId === CloseReasonId.NoReason;
    if (!tidied || unfinished !== undefined || unacknowledged.length > 0) this.#refused.add(session.key);
    return false;
  }

  acknowledged(numbers: readonly number[]): void {
    const done = numbers.map((number) => this.#taken(number));
    this.#hub.store.remove(
      done.flatMap((message) =>
        message?.kind === "stored" ? [{ seq: message.seq, peer: message.envelope.peer, size: message.size }] : [],
      ),
    );
  }

  abandon(): void {
    this.#queues.length = 0;
    this.#volatile.length = 0;
    this.#current = undefined;
  }

  #hasRoom(): boolean {
    return this.#engine.closed === undefined && this.#engine.pendingOctets + this.#socketQueue() < SOCKET_QUEUE;
  }

  /** Begins the next message whose session is ready, opening sessions for those that have none. */
  #next(): Current | undefined {
    // Messages with flag D wait for the window like the others: what is not acknowledged is kept in memory.
    if (this.#sentOctets >= SEND_WINDOW || this.#sent.size >= SEND_WINDOW_MESSAGES) return undefined;
    for (let volatile = this.#volatile[0]; volatile !== undefined; volatile = this.#volatile[0]) {
      const session = this.#ready(volatile.envelope);
      if (session === "wait") break;
      this.#volatile.shift();
      this.#volatileOctets -= volatile.size;
      if (session !== "refused") return this.#begin(volatile, session);
    }
    for (let turn = 0; turn < this.#queues.length; turn += 1) {
      // The queues take turns, so that a full one does not keep the others waiting.
      const queue = this.#queues.shift();
      if (queue === undefined) return undefined;
      this.#queues.push(queue);
      for (let message = queue.next(); message !== undefined; message = queue.next()) {
        const session = this.#ready(message.envelope);
        if (session === "wait") break;
        queue.take();
        const current = session === "refused" ? undefined : this.#begin(message, session);
        if (current !== undefined) return current;
      }
    }
    return undefined;
  }

  /** Undefined when the message is no longer in the store. */
  #begin(message: Outgoing, session: Session): Current | undefined {
    const current: Current = {
      message,
      session,
      body: bodyOf(this.#hub.store, message),
      part: undefined,
      octets: 0,
    };
    advance(current);
    if (message.kind === "stored" && current.part === undefined) return undefined;
    const { fields, source } = message.envelope;
    this.#engine.beginMessage(session.id, {
      ...fields,
      userRef: message.kind === "stored" ? this.#ids.id(fields.userRef, source, message.seq) : fields.userRef,
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: message.kind === "volatile",
    });
    this.#sentOctets += message.size;
    return current;
  }

  /** The session for an addressing, opened if there is none. */
  #ready(envelope: Envelope): Session | "wait" | "refused" {
    const { resourceURL, identityURL, deviceURL } = envelope;
    const key = `${resourceURL}\n${identityURL}\n${deviceURL}`;
    if (this.#refused.has(key)) return "refused";
    const session = this.#sessions.get(key);
    if (session === undefined) {
      if (this.#sessions.size >= OPEN_SESSIONS && !this.#closeOldest()) return "wait";
      const id = this.#engine.open({ resourceURL, identityURL, deviceURL });
      this.#sessions.set(key, { id, key, state: "opening" });
      this.#keys.set(id, key);
      return "wait";
    }
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    return session.state === "ready" ? session : "wait";
  }

  /** False when all of them are still being opened: their answers come first. */
  #closeOldest(): boolean {
    for (const session of this.#sessions.values()) {
      if (session.state === "opening") continue;
      this.#forget(session);
      this.#engine.closeSession(session.id, CloseReasonId.Idle);
      return true;
    }
    return false;
  }

  #session(sessionId: number): Session | undefined {
    const key = this.#keys.get(sessionId);
    return key === undefined ? undefined : this.#sessions.get(key);
  }

  #forget(session: Session): void {
    this.#sessions.delete(session.key);
    this.#keys.delete(session.id);
  }

  #taken(number: number): Outgoing | undefined {
    const message = this.#sent.get(number);
    this.#sent.delete(number);
    if (message !== undefined) this.#sentOctets -= message.size;
    return message;
  }
}

function advance(current: Current): void {
  const next = current.body.next();
  current.part = next.done ? undefined : next.value;
  current.octets += current.part?.length ?? 0;
}
