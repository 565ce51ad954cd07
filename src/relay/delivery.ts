/**
 * What one connection takes out: messages from the queues that it consumes, through sessions that the relay opens, one
 * at a time and each queue in its order, within a window of what its peer has not acknowledged.
 *
 * @module
 */
import { CloseReasonId, type Connection } from "../sstp/index.ts";
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
    if (this.#volatileOctets + message.size > VOLATILE_OCTETS) {
      this.#hub.drop("SlowPeer");
      return;
    }
    this.#volatileOctets += message.size;
    this.#volatile.push(message);
  }

  /** Whether `fill` would find room in the socket's queue and the engine's. */
  mayFill(): boolean {
    return this.#current !== undefined && this.#hasRoom();
  }

  /** Gives the engine as much as there is room for. */
  fill(): void {
    if (this.#engine.state !== "established") return;
    while (this.#hasRoom()) {
      this.#current ??= this.#next();
      const current = this.#current;
      if (current === undefined) return;
      const part = current.body.next();
      if (!part.done) {
        this.#engine.data(current.session.id, part.value);
        continue;
      }
      const number = this.#engine.endMessage(current.session.id);
      this.#sent.set(number, current.message);
      this.#current = undefined;
    }
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#session(sessionId);
    if (session !== undefined) session.state = state;
  }

  /** The peer has refused or closed one of our sessions; what it did not acknowledge stays in the store. */
  sessionLost(sessionId: number, unacknowledged: readonly number[]): void {
    const session = this.#session(sessionId);
    if (session === undefined) return;
    this.#forget(session);
    this.#refused.add(session.key);
    if (this.#current?.session === session) this.#drop(this.#current.message);
    for (const number of unacknowledged) this.#taken(number);
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
    const volatile = this.#volatile[0];
    if (volatile !== undefined) {
      const session = this.#ready(volatile.envelope);
      if (session !== "wait") {
        this.#volatile.shift();
        this.#volatileOctets -= volatile.size;
        if (session !== "refused") return this.#begin(volatile, session);
      }
    }
    if (this.#sentOctets >= SEND_WINDOW || this.#sent.size >= SEND_WINDOW_MESSAGES) return undefined;
    for (let turn = 0; turn < this.#queues.length; turn += 1) {
      // The queues take turns, so that a full one does not keep the others waiting.
      const queue = this.#queues.shift();
      if (queue === undefined) return undefined;
      this.#queues.push(queue);
      for (let message = queue.next(); message !== undefined; message = queue.next()) {
        const session = this.#ready(message.envelope);
        if (session === "wait") break;
        queue.take();
        if (session !== "refused") return this.#begin(message, session);
      }
    }
    return undefined;
  }

  #begin(message: Outgoing, session: Session): Current {
    this.#engine.beginMessage(session.id, {
      ...message.envelope.fields,
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: message.kind === "volatile",
    });
    this.#sentOctets += message.size;
    return { message, session, body: bodyOf(this.#hub.store, message) };
  }

  /** The session for an addressing, opened if there is none. */
  #ready(envelope: Envelope): Session | "wait" | "refused" {
    const { resourceURL, identityURL, deviceURL } = envelope;
    const key = `${resourceURL}\n${identityURL}\n${deviceURL}`;
    if (this.#refused.has(key)) return "refused";
    const session = this.#sessions.get(key);
    if (session === undefined) {
      if (this.#sessions.size >= OPEN_SESSIONS) this.#closeOldest();
      const id = this.#engine.open({ resourceURL, identityURL, deviceURL });
      this.#sessions.set(key, { id, key, state: "opening" });
      this.#keys.set(id, key);
      return "wait";
    }
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    return session.state === "ready" ? session : "wait";
  }

  #closeOldest(): void {
    for (const session of this.#sessions.values()) {
      if (session.state === "opening") continue;
      this.#forget(session);
      this.#engine.closeSession(session.id, CloseReasonId.Idle);
      return;
    }
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

  #drop(message: Outgoing): void {
    this.#sentOctets -= message.size;
    this.#current = undefined;
  }
}
