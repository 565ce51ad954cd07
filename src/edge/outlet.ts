/**
 * What one device takes out: messages of the mailboxes that it consumes, through sessions that the edge opens towards
 * it, each mailbox in its order. How much a mailbox sends is the mailbox's to bound.
 *
 * @module
 */
import { CloseReasonId, ConnectCloseReasonId, type Connection } from "../sstp/index.ts";
import type { Envelope, Mail } from "../store-and-forward/envelope.ts";
import { StoredIds } from "../store-and-forward/vouch.ts";
import { unpack } from "./bundle.ts";
import { Calls } from "./calls.ts";
import {
  CALL_TIMEOUT,
  LINK_SESSIONS,
  MESSAGE_COST,
  OPEN_SESSIONS,
  SEND_WINDOW,
  SEND_WINDOW_MESSAGES,
  SESSION_OUTPUT,
  VOLATILE_OCTETS,
} from "./defaults.ts";
import type { Delivery, Taken } from "./mailbox.ts";
import { Progress } from "./progress.ts";
import type { Host } from "./terminal.ts";

/** A session of ours towards the device. */
interface Session {
  readonly id: number;
  readonly key: string;
  state: "opening" | "ready" | "suspended";
  /** A message has been begun on it. */
  used?: boolean;
}

/** A message that waits to be sent; number 0 is one that nobody keeps. */
interface Waiting {
  readonly seq: number;
  readonly mail: Mail;
  /** The session that it goes on. */
  readonly key: string;
}

/** A mailbox that this connection consumes. */
interface Consumed {
  /** Settled once the mailbox has said by which number it knows us. */
  generation: number | Promise<number>;
  /** The last message that it has sent us. */
  delivered: number;
  /** What the device has acknowledged, or refused, and what of that the mailbox was told. */
  readonly progress: Progress;
  told: number;
  telling: boolean;
  /** The mailbox has shown, while it was being told, that it had forgotten what it had been told before. */
  forgot: boolean;
  queue: Waiting[];
  /** Octets in the queue that nobody keeps. */
  volatile: number;
  /** Messages and single recipients that were refused, and the mailbox has not heard of. */
  refusals: number;
  /** The mailbox is being told of a refusal, which it must hear before the end. */
  refusing?: Promise<void>;
}

/** A message that was sent and is not acknowledged. */
interface Sent {
  readonly peer: string;
  readonly seq: number;
  readonly size: number;
}

/** The message that is being sent. */
interface Current {
  readonly peer: string;
  readonly session: Session;
  readonly message: Waiting;
  at: number;
}

export interface OutletSnapshot {
  readonly consumed: readonly (readonly [
    string,
    { readonly generation: number; readonly delivered: number; readonly acknowledged: number },
  ])[];
  readonly sessions: readonly Session[];
  readonly sent: readonly (readonly [number, Sent])[];
  readonly ceded: readonly string[];
}

export class Outlet {
  readonly #host: Host;
  readonly #engine: Connection;
  readonly #relay: string | undefined;
  readonly #calls = new Calls(CALL_TIMEOUT);
  readonly #changed: () => void;
  readonly #lost: (peer: string) => void;
  readonly #consumed = new Map<string, Consumed>();
  /** Mailboxes that another connection consumes now, and that this one would have back. */
  readonly #ceded: Set<string>;
  /** Open sessions by their addressing, least recently used first. */
  readonly #sessions = new Map<string, Session>();
  /** The one that was used last. */
  #newest: Session | undefined;
  readonly #keys = new Map<number, string>();
  /** Sent and not acknowledged, by the engine's number. */
  readonly #sent: Map<number, Sent>;
  /** Of these what nobody keeps. */
  readonly #volatileSent = { octets: 0, messages: 0 };
  readonly #ids = new StoredIds();
  #current: Current | undefined;
  #paused = false;
  /** Whether anything was ever acknowledged. */
  progressed = false;

  /**
   * @param relay the origin relay at the other end, when there is one: what it refuses does not hold up the rest
   * @param changed called when there may be octets for the device
   * @param lost called with a mailbox that another connection consumes from now on
   */
  constructor(
    host: Host,
    engine: Connection,
    relay: string | undefined,
    changed: () => void,
    lost: (peer: string) => void,
    snapshot?: OutletSnapshot,
  ) {
    this.#host = host;
    this.#engine = engine;
    this.#relay = relay;
    this.#changed = changed;
    this.#lost = lost;
    this.#sent = new Map(snapshot?.sent);
    for (const sent of this.#sent.values()) this.#countVolatile(sent, 1);
    this.#ceded = new Set(snapshot?.ceded);
    for (const [peer, kept] of snapshot?.consumed ?? []) {
      const { generation, delivered, acknowledged } = kept;
      this.#consumed.set(peer, { ...consumedFrom(generation, acknowledged), delivered });
    }
    for (const { peer, seq } of [...this.#sent.values()].sort((a, b) => a.seq - b.seq)) {
      if (seq !== 0) this.#consumed.get(peer)?.progress.begin(seq);
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
      consumed: [...this.#consumed].map(([peer, { generation, delivered, progress }]) => [
        peer,
        { generation: Number(generation), delivered, acknowledged: progress.upTo },
      ]),
      sessions: [...this.#sessions.values()],
      sent: [...this.#sent],
      ceded: [...this.#ceded],
    };
  }

  /** Asks a mailbox to send what it has to this connection. Resolves when it does, or with false when it will not. */
  consume(peer: string): Promise<boolean> {
    const attaching = this.#calls.keep(this.#host.mailbox(peer).attach()).then(({ generation }) => generation);
    const consumed = consumedFrom(attaching);
    this.#consumed.set(peer, consumed);
    this.#ceded.delete(peer);
    const begun = this.#begin(peer, consumed, attaching);
    this.#host.waitUntil(begun);
    return begun;
  }

  /** A connection that has ended meanwhile must not take the mailbox from the one that has followed it. */
  async #begin(peer: string, consumed: Consumed, attaching: Promise<number>): Promise<boolean> {
    let ours = false;
    try {
      const generation = await attaching;
      consumed.generation = generation;
      if (this.#consumed.get(peer) !== consumed) return false;
      ours = await this.#calls.keep(this.#host.mailbox(peer).ready(this.#host.name, generation));
      if (!ours) this.#cede(peer, consumed);
    } catch {
      // Without its mailbox the device would wait in vain: it connects again.
      this.#engine.close(ConnectCloseReasonId.Resting);
    }
    this.#changed();
    return ours;
  }

  deliver(peer: string, generation: number, deliveries: readonly Delivery[]): Taken {
    const consumed = this.#consumed.get(peer);
    if (consumed?.generation !== generation || this.#engine.closed !== undefined) return "gone";
    const taken = deliveries.every(({ first, bundle }) => {
      const keys = new Map(bundle.envelopes.map((envelope) => [envelope, keyOf(envelope)]));
      return unpack(bundle).every((mail, at) => {
        const seq = first === 0 ? 0 : first + at;
        return this.#queue(consumed, { seq, mail, key: keys.get(mail.envelope) ?? "" });
      });
    });
    this.#advance(peer, consumed);
    this.#changed();
    return taken ? "taken" : "busy";
  }

  /** False when nobody keeps the message and too many such wait. */
  #queue(consumed: Consumed, message: Waiting): boolean {
    const { seq, mail } = message;
    // A mailbox that has lost its memory sends again what was not acknowledged, or what it had not taken off its log.
    if (seq !== 0 && seq <= consumed.delivered) {
      if (seq > consumed.told) return true;
      consumed.told = seq - 1;
      consumed.forgot = true;
      return true;
    }
    if (seq === 0) {
      if (consumed.volatile > 0 && consumed.volatile + costOf(mail) > VOLATILE_OCTETS) return false;
      consumed.volatile += costOf(mail);
    } else {
      consumed.delivered = seq;
      consumed.progress.begin(seq);
    }
    consumed.queue.push(message);
    return true;
  }

  /** Whether this connection takes what waits in a mailbox. */
  consumes(peer: string): boolean {
    return this.#consumed.has(peer);
  }

  /** How many mailboxes it takes from, or would if another did not. */
  get mailboxes(): number {
    return this.#consumed.size + this.#ceded.size;
  }

  /** The mailbox has another consumer. True when it was ours until then. */
  cede(peer: string, generation: number): boolean {
    const consumed = this.#consumed.get(peer);
    if (consumed?.generation !== generation) return false;
    this.#cede(peer, consumed);
    return true;
  }

  /** The mailbox has lost its consumer. True when this connection takes it back. */
  recall(peer: string): boolean {
    if (this.#engine.closed !== undefined) return false;
    if (this.#ceded.has(peer)) void this.consume(peer);
    return this.#consumed.has(peer);
  }

  #cede(peer: string, consumed: Consumed): void {
    if (this.#consumed.get(peer) !== consumed) return;
    this.#consumed.delete(peer);
    this.#ceded.add(peer);
    this.#lost(peer);
  }

  /** Gives the engine as much as is useful. */
  fill(): void {
    if (this.#engine.state !== "established" || (this.#paused && this.#current === undefined)) return;
    while (this.#engine.pendingOctets < SESSION_OUTPUT) {
      if (!this.#paused) this.#current ??= this.#next();
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
      const sent: Sent = { peer: current.peer, seq: current.message.seq, size: body.length };
      this.#sent.set(number, sent);
      this.#countVolatile(sent, 1);
      this.#current = undefined;
    }
  }

  /** Nothing more is begun. */
  pause(): void {
    this.#paused = true;
  }

  /** Whether all that was sent is acknowledged, and its mailboxes know. */
  get idle(): boolean {
    const told = [...this.#consumed.values()].every(({ telling }) => !telling);
    return this.#current === undefined && this.#sent.size === 0 && told;
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const session = this.#sessions.get(this.#keys.get(sessionId) ?? "");
    if (session !== undefined) session.state = state;
  }

  /**
   * The device has refused or closed a session: what it did not acknowledge stays, and comes to its next connection.
   * When it says that its quota would be exceeded, the mailbox hears of the message that it must have meant.
   */
  sessionLost(sessionId: number, unacknowledged: readonly number[], reasonId?: number): void {
    const key = this.#keys.get(sessionId);
    if (key === undefined) return;
    // A relay that closes what was never used would be asked for it again at once, for ever.
    const unwanted = this.#relay !== undefined && this.#sessions.get(key)?.used !== true;
    this.#keys.delete(sessionId);
    this.#sessions.delete(key);
    const sending = this.#current?.session.id === sessionId ? this.#current : undefined;
    if (sending !== undefined) this.#current = undefined;
    const ofRelay = this.#relay !== undefined && (reasonId === undefined || REFUSALS_OF_RELAYS.includes(reasonId));
    if (ofRelay) {
      this.#passOver(key, unacknowledged, sending);
      return;
    }
    const tidied = reasonId === CloseReasonId.Idle || reasonId === CloseReasonId.NoReason;
    if (tidied && !unwanted && sending === undefined && unacknowledged.length === 0) return;
    if (reasonId === CloseReasonId.QuotaWouldBeExceeded) this.#refused(unacknowledged, sending);
    // Whatever follows would overtake what was refused.
    this.#engine.close(ConnectCloseReasonId.Resting);
  }

  /**
   * All recipients of a session were refused by their relay. What was sent on it whole is acknowledged all the same; what
   * was not is passed over, since it would be refused again.
   */
  nobodyLeft(sessionId: number): void {
    const key = this.#keys.get(sessionId) ?? "";
    const session = this.#sessions.get(key);
    if (session === undefined) return;
    this.#keys.delete(sessionId);
    this.#sessions.delete(key);
    const sending = this.#current?.session === session ? this.#current : undefined;
    if (sending !== undefined) this.#current = undefined;
    // The recipients were counted one by one.
    if (sending !== undefined || session.used !== true) this.#passOver(key, [], sending, 0);
  }

  /**
   * An origin relay will not have what is for some recipient of its own: its messages are passed over, and the link goes
   * on for all others.
   */
  #passOver(key: string, unacknowledged: readonly number[], sending: Current | undefined, refusals = 1): void {
    const messages = unacknowledged.flatMap((number) => this.#taken(number) ?? []);
    if (sending !== undefined) messages.push({ peer: sending.peer, seq: sending.message.seq, size: 0 });
    for (const { peer, seq } of messages) this.#skip(peer, seq, refusals);
    if (messages.length > 0) return;
    // It was refused before there was anything on it: its message is the first in its queue.
    for (const [peer, { queue }] of this.#consumed) {
      const at = queue.findIndex((message) => message.key === key);
      const first = queue[at];
      if (first === undefined) continue;
      this.#remove(peer, at);
      this.#skip(peer, first.seq, refusals);
    }
  }

  /** Some recipients of a session were refused by their relay; the message itself is acknowledged all the same. */
  recipientsRefused(sessionId: number, count: number): void {
    const [peer] = this.#consumed.keys();
    const consumed = peer === undefined ? undefined : this.#consumed.get(peer);
    if (consumed !== undefined && this.#keys.has(sessionId)) consumed.refusals += count;
  }

  #skip(peer: string, seq: number, refusals: number): void {
    const consumed = this.#consumed.get(peer);
    if (consumed === undefined || seq === 0) return;
    consumed.refusals += refusals;
    consumed.progress.done(seq);
    this.#advance(peer, consumed);
  }

  /** Tells the mailbox what it does not know. */
  #advance(peer: string, consumed: Consumed): void {
    if (!consumed.telling && consumed.told < consumed.progress.upTo) this.#host.waitUntil(this.#tell(peer, consumed));
  }

  #refused(unacknowledged: readonly number[], sending: Current | undefined): void {
    const candidates = unacknowledged.flatMap((number) => this.#sent.get(number) ?? []);
    if (sending !== undefined) {
      const { peer, message } = sending;
      candidates.push({ peer, seq: message.seq, size: message.mail.body.length });
    }
    // It is refused for its length, so it is the longest; they come in order, so of several it is the first.
    const [longest] = candidates.sort((a, b) => b.size - a.size || a.seq - b.seq);
    const consumed = longest && this.#consumed.get(longest.peer);
    if (longest === undefined || typeof consumed?.generation !== "number") return;
    consumed.refusing = this.#host.mailbox(longest.peer).refuse(consumed.generation, longest.seq);
    consumed.refusing.catch(() => undefined);
  }

  acknowledged(numbers: readonly number[]): void {
    this.progressed ||= numbers.length > 0;
    const peers = new Set<string>();
    for (const number of numbers) {
      const sent = this.#taken(number);
      if (sent === undefined || sent.seq === 0) continue;
      this.#consumed.get(sent.peer)?.progress.done(sent.seq);
      peers.add(sent.peer);
    }
    for (const peer of peers) {
      const consumed = this.#consumed.get(peer);
      if (consumed !== undefined) this.#advance(peer, consumed);
    }
  }

  /** A message that is no longer under way. */
  #taken(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    this.#sent.delete(number);
    if (sent !== undefined) this.#countVolatile(sent, -1);
    return sent;
  }

  #countVolatile({ seq, size }: Sent, sign: 1 | -1): void {
    if (seq !== 0) return;
    this.#volatileSent.octets += sign * size;
    this.#volatileSent.messages += sign;
  }

  /** What nobody keeps has no mailbox whose window bounds it: a device has as much of it under way as from a mailbox. */
  get #volatileFull(): boolean {
    const { octets, messages } = this.#volatileSent;
    return octets >= SEND_WINDOW || messages >= SEND_WINDOW_MESSAGES;
  }

  abandon(): void {
    for (const [peer, consumed] of this.#consumed) {
      this.#host.waitUntil(this.#release(peer, consumed).catch(() => undefined));
    }
    this.#consumed.clear();
    this.#ceded.clear();
    this.#current = undefined;
  }

  /** Gives a mailbox back. The last acknowledgement often comes with the end of the connection: it must not be lost. */
  async #release(peer: string, consumed: Consumed): Promise<void> {
    const generation = await consumed.generation;
    const mailbox = this.#host.mailbox(peer);
    await consumed.refusing?.catch(() => undefined);
    const { told, progress, refusals } = consumed;
    if (told < progress.upTo) await mailbox.acknowledge(generation, progress.upTo, refusals);
    // A call that comes after the news of a newer consumer changes nothing.
    await mailbox.detach(generation);
  }

  /** Tells a mailbox how far the device is, one call at a time, the newest state each time. */
  async #tell(peer: string, consumed: Consumed): Promise<void> {
    consumed.telling = true;
    try {
      // What is acknowledged in this turn goes in one call.
      await Promise.resolve();
      while (consumed.told < consumed.progress.upTo && this.#consumed.get(peer) === consumed) {
        const generation = await consumed.generation;
        const { refusals } = consumed;
        const acknowledged = consumed.progress.upTo;
        consumed.refusals = 0;
        consumed.forgot = false;
        const telling = this.#host.mailbox(peer).acknowledge(generation, acknowledged, refusals);
        const ours = await this.#calls.keep(telling);
        if (!consumed.forgot) consumed.told = acknowledged;
        if (!ours) this.#cede(peer, consumed);
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
      const found = this.#sendable(consumed.queue);
      if (found === undefined) continue;
      const { at, message, session } = found;
      this.#remove(peer, at);
      session.used = true;
      // The mailboxes take turns, so that a full one does not keep the others waiting.
      if (this.#consumed.size > 1) {
        this.#consumed.delete(peer);
        this.#consumed.set(peer, consumed);
      }
      const { userRef, track, ephemeral, streamSize, fragmentation } = message.mail.fields;
      this.#engine.beginMessage(session.id, {
        userRef: this.#ids.id(userRef, message.mail.envelope.source, message.seq),
        track,
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: message.seq === 0,
        ephemeral,
        streamSize,
        fragmentation,
      });
      return { peer, session, message, at: 0 };
    }
    return undefined;
  }

  /**
   * The first message whose session is ready. To a device they go in the order of its mailbox; to an origin relay in that
   * order for each of its recipients, so that one who is slow does not keep the others waiting.
   */
  #sendable(queue: readonly Waiting[]): { at: number; message: Waiting; session: Session } | undefined {
    const [first] = queue;
    if (first === undefined || (first.seq === 0 && this.#volatileFull)) return undefined;
    // It is the first of the queue nearly always, and what is looked at for each message has to be little.
    const ready = this.#ready(first);
    if (ready !== undefined) return { at: 0, message: first, session: ready };
    if (this.#relay === undefined) return undefined;
    const waiting = new Set<string>();
    for (const [at, message] of queue.entries()) {
      const { key } = message;
      if (waiting.has(key)) continue;
      // Sessions that are opened ahead must not close one another.
      if (at > 0 && !this.#sessions.has(key) && this.#sessions.size >= OPEN_SESSIONS) return undefined;
      const session = this.#ready(message);
      if (session !== undefined) return { at, message, session };
      waiting.add(key);
    }
    return undefined;
  }

  #remove(peer: string, at: number): void {
    const consumed = this.#consumed.get(peer);
    const message = at === 0 ? consumed?.queue.shift() : consumed?.queue.splice(at, 1)[0];
    if (consumed !== undefined && message?.seq === 0) consumed.volatile -= costOf(message.mail);
  }

  /** The session for a message's addressing, opened if there is none; undefined while it is not ready. */
  #ready({ key, mail }: Waiting): Session | undefined {
    const session = this.#sessions.get(key);
    if (session === undefined) {
      if (this.#sessions.size >= (this.#relay === undefined ? OPEN_SESSIONS : LINK_SESSIONS)) this.#closeOldest();
      const id = this.#open(mail.envelope);
      this.#newest = { id, key, state: "opening" };
      this.#sessions.set(key, this.#newest);
      this.#keys.set(id, key);
      return undefined;
    }
    if (session !== this.#newest) {
      this.#sessions.delete(key);
      this.#sessions.set(key, session);
      this.#newest = session;
    }
    return session.state === "ready" ? session : undefined;
  }

  /** To an origin relay it is a fanout session of one hop, also for a single recipient [MS-GRVSSTP 3.3.5.6.1]. */
  #open({ resourceURL, identityURL, deviceURL, entries }: Envelope): number {
    if (this.#relay === undefined) return this.#engine.open({ resourceURL, identityURL, deviceURL });
    const relayURL = this.#relay;
    const recipients = entries ?? [{ identityURL, deviceURL }];
    return this.#engine.openFanout({ resourceURL, entries: recipients.map((entry) => ({ ...entry, relayURL })) });
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

/** What a relay says of a session that it will never have, rather than that it cannot have it now. */
const REFUSALS_OF_RELAYS: readonly number[] = [
  CloseReasonId.DeviceAuthenticationFailed,
  CloseReasonId.UserAuthenticationFailed,
  CloseReasonId.QuotaWouldBeExceeded,
  CloseReasonId.EmptySession,
];

/** What a message costs in memory while it waits, so that empty ones count. */
function costOf({ body }: Mail): number {
  return body.length + MESSAGE_COST;
}

function consumedFrom(generation: number | Promise<number>, acknowledged = 0): Consumed {
  return {
    generation,
    delivered: 0,
    progress: new Progress(acknowledged),
    told: acknowledged,
    telling: false,
    forgot: false,
    queue: [],
    volatile: 0,
    refusals: 0,
  };
}

/** What a session is for: messages with the same go on the same. */
function keyOf({ resourceURL, identityURL, deviceURL, entries }: Envelope): string {
  const key = `${resourceURL}\n${identityURL}\n${deviceURL}`;
  if (entries === undefined) return key;
  return [key, ...entries.flatMap((one) => [one.identityURL, one.deviceURL])].join("\n");
}
