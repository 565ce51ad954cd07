/**
 * What one device takes out: messages of the mailboxes that it consumes, through sessions that the edge opens towards
 * it, each mailbox in its order. How much a mailbox sends is the mailbox's to bound.
 *
 * @module
 */
import { CloseReasonId, ConnectCloseReasonId, type Connection } from "../sstp/index.ts";
import { OPEN_SESSIONS, SESSION_OUTPUT } from "./defaults.ts";
import type { Delivery } from "./mailbox.ts";
import type { Host } from "./terminal.ts";

/** A session of ours towards the device. */
interface Session {
  readonly id: number;
  readonly key: string;
  state: "opening" | "ready" | "suspended";
}

/** A mailbox that this connection consumes. */
interface Consumed {
  /** Settled once the mailbox has said by which number it knows us. */
  generation: number | Promise<number>;
  /** The last message that it has sent us. */
  delivered: number;
  /** The last that the device has acknowledged, and what of that the mailbox was told. */
  acknowledged: number;
  told: number;
  telling: boolean;
  queue: Delivery[];
}

/** The message that is being sent. */
interface Current {
  readonly peer: string;
  readonly session: Session;
  readonly message: Delivery;
  at: number;
}

export interface OutletSnapshot {
  readonly consumed: readonly (readonly [
    string,
    { readonly generation: number; readonly delivered: number; readonly acknowledged: number },
  ])[];
  readonly sessions: readonly Session[];
  readonly sent: readonly (readonly [number, readonly [string, number]])[];
}

export class Outlet {
  readonly #host: Host;
  readonly #engine: Connection;
  readonly #changed: () => void;
  readonly #consumed = new Map<string, Consumed>();
  /** Open sessions by their addressing, least recently used first. */
  readonly #sessions = new Map<string, Session>();
  readonly #keys = new Map<number, string>();
  /** Sent and not acknowledged: whose it is and its number there, by the engine's number. */
  readonly #sent: Map<number, readonly [string, number]>;
  #current: Current | undefined;

  constructor(host: Host, engine: Connection, changed: () => void, snapshot?: OutletSnapshot) {
    this.#host = host;
    this.#engine = engine;
    this.#changed = changed;
    this.#sent = new Map(snapshot?.sent);
    for (const [peer, kept] of snapshot?.consumed ?? []) {
      this.#consumed.set(peer, { ...kept, told: kept.acknowledged, telling: false, queue: [] });
    }
    for (const session of snapshot?.sessions ?? []) {
      this.#sessions.set(session.key, { ...session });
      this.#keys.set(session.id, session.key);
    }
  }

  get quiet(): boolean {
    if (this.#current !== undefined) return false;
    return [...this.#consumed.values()].every(
      ({ queue, generation, telling }) => queue.length === 0 && typeof generation === "number" && !telling,
    );
  }

  snapshot(): OutletSnapshot {
    return {
      consumed: [...this.#consumed].map(([peer, { generation, delivered, acknowledged }]) => [
        peer,
        { generation: Number(generation), delivered, acknowledged },
      ]),
      sessions: [...this.#sessions.values()],
      sent: [...this.#sent],
    };
  }

  /** Asks a mailbox to send what it has to this connection. */
  consume(peer: string): void {
    const mailbox = this.#host.mailbox(peer);
    const attaching = mailbox.attach(this.#host.name).then(async ({ generation }) => {
      consumed.generation = generation;
      await mailbox.ready(generation);
      return generation;
    });
    const consumed: Consumed = {
      generation: attaching,
      delivered: 0,
      acknowledged: 0,
      told: 0,
      telling: false,
      queue: [],
    };
    this.#consumed.set(peer, consumed);
    this.#host.waitUntil(
      attaching.catch(() => {
        // Without its mailbox the device would wait in vain: it connects again.
        this.#engine.close(ConnectCloseReasonId.Resting);
        this.#changed();
      }),
    );
  }

  async deliver(peer: string, generation: number, messages: readonly Delivery[]): Promise<boolean> {
    const consumed = this.#consumed.get(peer);
    if (consumed === undefined || this.#engine.closed !== undefined) return false;
    if (typeof consumed.generation !== "number" && generation > 0) consumed.generation = generation;
    if (consumed.generation !== generation) return false;
    for (const message of messages) {
      // A mailbox that has lost its memory sends again what was not acknowledged.
      if (message.seq !== 0 && message.seq <= consumed.delivered) continue;
      consumed.delivered = Math.max(consumed.delivered, message.seq);
      consumed.queue.push(message);
    }
    this.#changed();
    return true;
  }

  /** The mailbox has another consumer. False when that was known, or is not about us. */
  async lose(peer: string, generation: number): Promise<boolean> {
    const consumed = this.#consumed.get(peer);
    if (consumed === undefined) return false;
    // The answer to our attach may come after the news that another one has followed it.
    const ours = await Promise.resolve(consumed.generation).catch(() => undefined);
    if (ours !== generation || this.#consumed.get(peer) !== consumed) return false;
    this.#consumed.delete(peer);
    return true;
  }

  /** Gives the engine as much as is useful. */
  fill(): void {
    if (this.#engine.state !== "established") return;
    while (this.#engine.pendingOctets < SESSION_OUTPUT) {
      this.#current ??= this.#next();
      const current = this.#current;
      if (current === undefined) return;
      const { body } = current.message.mail;
      if (current.session.state !== "ready" && current.at < body.length) return;
      if (current.at < body.length) {
        this.#engine.data(current.session.id, body.subarray(current.at, current.at + SESSION_OUTPUT));
        current.at += SESSION_OUTPUT;
        continue;
      }
      const number = this.#engine.endMessage(current.session.id);
      this.#sent.set(number, [current.peer, current.message.seq]);
      this.#current = undefined;
    }
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#sessions.get(this.#keys.get(sessionId) ?? "");
    if (session !== undefined) session.state = state;
  }

  /** The device has refused or closed a session: what it did not acknowledge stays, and comes to its next connection. */
  sessionLost(sessionId: number): void {
    const key = this.#keys.get(sessionId);
    if (key === undefined) return;
    this.#keys.delete(sessionId);
    this.#sessions.delete(key);
    if (this.#current?.session.id === sessionId) this.#current = undefined;
    // Whatever follows would overtake what was refused.
    this.#engine.close(ConnectCloseReasonId.Resting);
  }

  acknowledged(numbers: readonly number[]): void {
    for (const number of numbers) {
      const [peer, seq] = this.#sent.get(number) ?? ["", 0];
      this.#sent.delete(number);
      const consumed = this.#consumed.get(peer);
      if (consumed === undefined || seq <= consumed.acknowledged) continue;
      consumed.acknowledged = seq;
      if (!consumed.telling) this.#host.waitUntil(this.#tell(peer, consumed));
    }
  }

  abandon(): void {
    for (const [peer, consumed] of this.#consumed) {
      this.#host.waitUntil(this.#release(peer, consumed).catch(() => undefined));
    }
    this.#consumed.clear();
    this.#current = undefined;
  }

  /** Gives a mailbox back. The last acknowledgement often comes with the end of the connection: it must not be lost. */
  async #release(peer: string, consumed: Consumed): Promise<void> {
    const generation = await consumed.generation;
    const mailbox = this.#host.mailbox(peer);
    if (consumed.told < consumed.acknowledged) await mailbox.acknowledge(generation, consumed.acknowledged);
    await mailbox.detach(generation);
  }

  /** Tells a mailbox how far the device is, one call at a time, the newest state each time. */
  async #tell(peer: string, consumed: Consumed): Promise<void> {
    consumed.telling = true;
    try {
      // What is acknowledged in this turn goes in one call.
      await Promise.resolve();
      while (consumed.told < consumed.acknowledged && this.#consumed.get(peer) === consumed) {
        const generation = await consumed.generation;
        const { acknowledged } = consumed;
        const ours = await this.#host.mailbox(peer).acknowledge(generation, acknowledged);
        consumed.told = acknowledged;
        if (!ours) this.#consumed.delete(peer);
      }
    } catch {
      // It was not told: the messages come again, and the device knows their ids.
      this.#engine.close(ConnectCloseReasonId.Resting);
    } finally {
      consumed.telling = false;
      this.#changed();
    }
  }

  #next(): Current | undefined {
    for (const [peer, consumed] of this.#consumed) {
      const [message] = consumed.queue;
      if (message === undefined) continue;
      const session = this.#ready(message);
      if (session === undefined) continue;
      consumed.queue.shift();
      // The mailboxes take turns, so that a full one does not keep the others waiting.
      this.#consumed.delete(peer);
      this.#consumed.set(peer, consumed);
      const { mail } = message;
      this.#engine.beginMessage(session.id, {
        userRef: mail.id,
        track: mail.track,
        ephemeral: mail.ephemeral,
        streamSize: mail.streamSize,
        fragmentation: mail.fragmentation,
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: message.seq === 0,
      });
      return { peer, session, message, at: 0 };
    }
    return undefined;
  }

  /** The session for a message's addressing, opened if there is none; undefined while it is not ready. */
  #ready({ mail: { resourceURL, identityURL, deviceURL } }: Delivery): Session | undefined {
    const key = `${resourceURL}\n${identityURL}\n${deviceURL}`;
    const session = this.#sessions.get(key);
    if (session === undefined) {
      if (this.#sessions.size >= OPEN_SESSIONS) this.#closeOldest();
      const id = this.#engine.open({ resourceURL, identityURL, deviceURL });
      this.#sessions.set(key, { id, key, state: "opening" });
      this.#keys.set(id, key);
      return undefined;
    }
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    return session.state === "ready" ? session : undefined;
  }

  #closeOldest(): void {
    for (const session of this.#sessions.values()) {
      if (session.state === "opening" || session.id === this.#current?.session.id) continue;
      this.#sessions.delete(session.key);
      this.#keys.delete(session.id);
      this.#engine.closeSession(session.id, CloseReasonId.Idle);
      return;
    }
  }
}
