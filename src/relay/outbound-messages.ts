/**
 * What one connection takes out: messages from the queues that it consumes, through sessions that the relay opens. Each
 * destination has a sender with a session of its own; those that may send take turns, within a window of what the peer
 * has not acknowledged, so that none waits for another.
 *
 * Another relay takes messages for many, from many, and not as fast as they come. There everybody who sends has queue,
 * destinations and share of the sessions to himself, and the turns are his: what one has sent to a thousand holds up nobody
 * else.
 *
 *   Queue.take ─► Sender.page ─► fill ─► engine ─► acknowledged ─► Store.remove
 *     │            └ its session is not ready, and its page is full ──► waits in the store from `behind` on
 *     │            └ refused for its length ──────────────────────────► `later`, out of order
 *     └ no room for a sender of its destination ──────────────────────► waits in the store from `crowded` on
 *     └ its destination is refused ───────────────────────────────────► waits for another connection
 *
 * Each queue is looked at once, from the front; whoever has a sender has all of its messages there, or behind there, and
 * no message without one is looked at again but from the first that found no room. So each destination keeps its order.
 *
 * @module
 */
import { RoundRobin } from "../lib/round-robin.ts";
import { CloseReasonId, type Connection, isRelay } from "../sstp/index.ts";
import { SessionPool } from "../store-and-forward/session-pool.ts";
import { isWithinShare, senderOf } from "../store-and-forward/share.ts";
import { StoredIds } from "../store-and-forward/vouch.ts";
import type { Hub } from "./hub.ts";
import {
  DECLINED_DESTINATIONS,
  LATER,
  LOOKED_AT,
  OPEN_SESSIONS,
  RELAY_SESSIONS,
  SEND_WINDOW,
  SEND_WINDOW_MESSAGES,
  SENDER_PAGE,
  SESSION_FAILURES,
  SESSION_REFUSALS,
  SOCKET_QUEUE,
  VOLATILE_OCTETS,
} from "./limits.ts";
import { type Current, Sender } from "./sender.ts";
import type { Destination, Envelope, Stored } from "./store.ts";
import { type Outgoing, PAGE, partOf, Queue } from "./stored-queue.ts";

/** What is wanted of its connection. */
export interface Transport {
  /** Octets that wait for the socket. */
  socketQueue(): number;
  /** Asks for another `fill`, soon. */
  pumpLater(): void;
}

/** A message that was sent and is not acknowledged. */
interface Sent {
  readonly message: Outgoing;
  readonly sender: Sender;
}

export class OutboundMessages {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #transport: Transport;
  /** They take turns, so that a full one does not keep the others waiting. */
  readonly #queues: Queue[] = [];
  readonly #byPeer = new Map<string, Queue>();
  /** The other relay, when the connection is one's: its queue is one for each who sends. */
  #relay: string | undefined;
  readonly #senders = new SessionPool<Sender>(RELAY_SESSIONS);
  /** How many of them are whose, at another relay. */
  readonly #slots = new Map<string, number>();
  /** Senders that may send, in turn. */
  readonly #turns = new RoundRobin<Sender>();
  /** Those that wait for the window. */
  #held: Sender[] = [];
  /** With flag D, for whose destination there is no room for a sender. */
  readonly #crowdedVolatile = new RoundRobin<Outgoing>();
  #volatileOctets = 0;
  /** Destinations that the peer has refused, the oldest first: their messages wait for another connection. */
  readonly #declined = new Set<string>();
  /** Sent and not acknowledged, by message number. */
  readonly #sent = new Map<number, Sent>();
  #sentOctets = 0;
  /** When something that was put off is offered again. */
  #wakeAt = Number.POSITIVE_INFINITY;
  readonly #ids = new StoredIds();

  constructor(hub: Hub, engine: Connection, transport: Transport) {
    this.#hub = hub;
    this.#engine = engine;
    this.#transport = transport;
  }

  addQueue(peer: string): void {
    if (isRelay(peer)) this.#relay = peer;
    else this.#addQueue(peer);
  }

  #addQueue(peer: string, sender?: string): void {
    const key = queueKey({ peer, sender });
    if (this.#byPeer.has(key)) return;
    // What it has kept since it consumed the queue before is not sent to it twice.
    const queue = new Queue(this.#hub.store, peer, this.#underWay(), sender);
    this.#queues.push(queue);
    this.#byPeer.set(key, queue);
  }

  /** What is being sent is sent to its end. */
  removeQueue(peer: string): void {
    if (peer === this.#relay) this.#relay = undefined;
    for (const queue of [...this.#queues]) if (queue.peer === peer) this.#drop(queue);
    for (const sender of this.#senders) if (sender.destination.peer === peer) sender.letGo();
  }

  #drop(queue: Queue): void {
    this.#byPeer.delete(queueKey(queue));
    this.#queues.splice(this.#queues.indexOf(queue), 1);
  }

  /** Those who have sent to another relay. */
  #findSenders(peer: string): void {
    for (const queue of [...this.#queues]) if (queue.isOver) this.#drop(queue);
    for (const sender of this.#hub.store.senders(peer)) this.#addQueue(peer, sender);
  }

  addVolatile(message: Outgoing): void {
    const destination = destinationOf(message.envelope);
    const key = keyOf(destination);
    const sender = this.#senders.get(key);
    // Those of sessions that are suspended have half of it, so that there is room for others.
    const limit = sender?.state === "suspended" ? VOLATILE_OCTETS / 2 : VOLATILE_OCTETS;
    const tooMany = this.#volatileOctets > 0 && this.#volatileOctets + message.size > limit;
    if (tooMany || this.#declined.has(key) || (sender?.until ?? 0) > 0) {
      this.#hub.drop("SlowPeer");
      return;
    }
    this.#volatileOctets += message.size;
    const source = senderOf(message.envelope.source);
    if (this.#crowdedVolatile.has(source) || !this.#queueVolatile(message, destination)) {
      this.#crowdedVolatile.push(source, message);
    }
  }

  /** Gives the engine as much as there is room for. True when it stopped for want of room. */
  fill(): boolean {
    if (this.#engine.state !== "established") return false;
    if (this.#wakeAt !== Number.POSITIVE_INFINITY) this.#wake(Date.now());
    this.#admitVolatile();
    const looked = { at: 0 };
    if (this.#relay !== undefined && this.#hasRoom()) this.#lookBeside(this.#relay);
    while (this.#hasRoom()) {
      if (this.#held.length > 0 && !this.#isFull) this.#release();
      const sender = this.#turns.shift();
      if (sender === undefined) {
        if (this.#isFull || !this.#look(looked)) return false;
        continue;
      }
      if (sender.current === undefined && this.#isFull) {
        this.#held.push(sender);
        continue;
      }
      sender.inTurn = false;
      if (!maySend(sender)) continue;
      this.#send(sender);
      this.#rouse(sender);
    }
    return true;
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const sender = this.#senders.of(sessionId);
    if (sender === undefined) return;
    sender.state = state;
    const { current } = sender;
    // A message whose session is suspended in the middle of it takes no room from others.
    if (current !== undefined) this.#count(current, state === "ready");
    this.#rouse(sender);
  }

  /**
   * The peer has refused or closed one of our sessions; what it did not acknowledge stays in the store, and is sent again,
   * put off, or left to another connection, by the reason. Other sessions go on.
   *
   * @param reasonId undefined when OpenResponse has refused it
   */
  sessionLost(sessionId: number, unacknowledged: readonly number[], reasonId?: number): void {
    const lost = unacknowledged.flatMap((number) => this.#taken(number)?.message ?? []);
    const sender = this.#senders.of(sessionId);
    if (sender === undefined) return;
    const { current, used } = sender;
    if (current !== undefined) {
      this.#count(current, false);
      sender.current = undefined;
      lost.push(current.message);
    }
    this.#over(sender);
    if (reasonId === undefined || FINAL.includes(reasonId)) this.#decline(sender);
    else if (reasonId === CloseReasonId.QuotaWouldBeExceeded && lost.length > 0) this.#tooLong(sender, lost);
    // An idle session that the peer tidied away is opened again when there is something to send on it.
    else if (used && lost.length === 0) this.#open(sender);
    else this.#failed(sender, lost);
  }

  /** Returns the messages that may leave the store. */
  acknowledged(numbers: readonly number[]): readonly Stored[] {
    const done: Stored[] = [];
    for (const number of numbers) {
      const sent = this.#taken(number);
      if (sent === undefined) continue;
      const { message, sender } = sent;
      sender.failures = 0;
      sender.refusals = 0;
      if (sender.probing > 0) {
        sender.probing -= 1;
        this.#rouse(sender);
      }
      if (message.kind === "stored") done.push(message.envelope);
    }
    return done;
  }

  /**
   * Whether messages of a peer wait for nothing but the device: it has them and does not acknowledge them, or leaves no
   * room for them, or does not answer their session. One that it suspends or refuses is not waited for.
   */
  owes(peer: string): boolean {
    if (this.#isFull || !this.#hasRoom()) return true;
    for (const { message } of this.#sent.values()) if (message.envelope.peer === peer) return true;
    for (const sender of this.#senders) {
      if (sender.destination.peer !== peer) continue;
      if (sender.current !== undefined || (sender.state === "opening" && sender.hasWaiting)) return true;
    }
    return false;
  }

  abandon(): void {
    this.#queues.length = 0;
    this.#byPeer.clear();
    this.#relay = undefined;
    this.#senders.clear();
    this.#slots.clear();
    this.#turns.clear();
    this.#held = [];
    this.#crowdedVolatile.clear();
  }

  #hasRoom(): boolean {
    const waiting = this.#engine.pendingOctets + this.#transport.socketQueue();
    return this.#engine.closed === undefined && waiting < SOCKET_QUEUE;
  }

  /** Messages with flag D wait for the window like the others: what is not acknowledged is kept in memory. */
  get #isFull(): boolean {
    return this.#sentOctets >= SEND_WINDOW || this.#sent.size >= SEND_WINDOW_MESSAGES;
  }

  #release(): void {
    for (const sender of this.#held) this.#turns.push(ownerOf(sender), sender);
    this.#held = [];
  }

  /** A sender that may send takes its turn. */
  #rouse(sender: Sender): void {
    if (sender.inTurn || !maySend(sender)) return;
    sender.inTurn = true;
    this.#turns.push(ownerOf(sender), sender);
  }

  /** Who sends to another relay gets his turn while others have enough to send: a few of his messages are looked at. */
  #lookBeside(peer: string): void {
    this.#findSenders(peer);
    for (const queue of this.#queues) {
      if (queue.crowded !== undefined) this.#admitCrowded(queue, queue.crowded);
      for (let looked = 0; looked < PAGE && !this.#turns.has(queue.sender ?? ""); looked += 1) {
        const message = queue.take();
        if (message === undefined) break;
        this.#place(message, queue);
      }
    }
  }

  /** Looks for messages whose session is ready, opening sessions for those that have none. True when there is one. */
  #look(looked: { at: number }): boolean {
    for (let turn = 0; turn < this.#queues.length; turn += 1) {
      const queue = this.#queues.shift();
      if (queue === undefined) return false;
      this.#queues.push(queue);
      if (queue.crowded !== undefined) this.#admitCrowded(queue, queue.crowded);
      while (this.#turns.first === undefined) {
        if (looked.at >= LOOKED_AT) {
          this.#transport.pumpLater();
          return false;
        }
        const message = queue.take();
        if (message === undefined) break;
        looked.at += 1;
        this.#place(message, queue);
      }
      if (this.#turns.first !== undefined) return true;
    }
    return false;
  }

  /** A message that is looked at for the first time. */
  #place(message: Stored, queue: Queue): void {
    const destination = destinationOf(message);
    const key = keyOf(destination);
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      if (this.#declined.has(key)) {
        this.#hub.declined(key, destination, message.seq);
        return;
      }
      // One of the same destination may wait for room.
      if (queue.crowded !== undefined) return;
      sender = this.#make(key, destination);
    }
    if (sender === undefined) {
      queue.crowded = message.seq;
      return;
    }
    sender.offer(message);
    this.#senders.use(sender);
    this.#open(sender);
    this.#rouse(sender);
  }

  /** Makes senders for messages that found no room, as far as there is room now. */
  #admitCrowded(queue: Queue, from: number): void {
    if (!this.#hasSlot(queue.sender) && this.#idlest(queue.sender) === undefined) return;
    const here = this.#underWay();
    for (let at = from; ; ) {
      const page = this.#hub.store.after(queue.peer, at - 1, PAGE, queue.sender);
      for (const message of page) {
        if (message.seq > queue.cursor) break;
        const destination = destinationOf(message);
        const key = keyOf(destination);
        if (here.has(message.seq) || this.#declined.has(key) || this.#senders.get(key) !== undefined) continue;
        const sender = this.#make(key, destination);
        if (sender === undefined) {
          queue.crowded = message.seq;
          return;
        }
        sender.behind = message.seq;
        this.#open(sender);
      }
      const last = page.at(-1)?.seq;
      if (page.length < PAGE || last === undefined || last >= queue.cursor) break;
      at = last + 1;
    }
    queue.crowded = undefined;
  }

  #admitVolatile(): void {
    for (let failed = 0; failed < this.#crowdedVolatile.owners; ) {
      const next = this.#crowdedVolatile.first;
      if (next === undefined) return;
      const destination = destinationOf(next.envelope);
      if (this.#declined.has(keyOf(destination))) {
        this.#volatileOctets -= next.size;
        this.#hub.drop("SlowPeer");
      } else if (!this.#queueVolatile(next, destination)) {
        // Elsewhere there is no room for anybody then.
        if (destination.sender === undefined) return;
        failed += 1;
        this.#crowdedVolatile.pass();
        continue;
      }
      this.#crowdedVolatile.shift();
    }
  }

  /** False when there is no room for a sender. */
  #queueVolatile(message: Outgoing, destination: Destination): boolean {
    const key = keyOf(destination);
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      sender = this.#make(key, destination);
      if (sender === undefined) return false;
      // Stored ones of the same destination may wait for room.
      sender.behind = this.#queueOf(destination)?.crowded;
    }
    sender.volatile.push(message);
    this.#senders.use(sender);
    this.#open(sender);
    this.#rouse(sender);
    return true;
  }

  /** A sender for a destination that has none; undefined when all of them are at work. */
  #make(key: string, destination: Destination): Sender | undefined {
    while (!this.#hasSlot(destination.sender)) {
      const idle = this.#idlest(destination.sender);
      if (idle === undefined) return undefined;
      const { sessionId } = idle;
      this.#forget(idle);
      if (sessionId !== undefined && this.#engine.session(sessionId) !== undefined) {
        this.#engine.closeSession(sessionId, CloseReasonId.Idle);
      }
    }
    const sender = new Sender(key, destination);
    this.#senders.add(sender);
    this.#countSlot(sender, 1);
    return sender;
  }

  #forget(sender: Sender): void {
    this.#senders.delete(sender);
    this.#countSlot(sender, -1);
  }

  #countSlot(sender: Sender, by: number): void {
    const owner = ownerOf(sender);
    const count = (this.#slots.get(owner) ?? 0) + by;
    if (count === 0) this.#slots.delete(owner);
    else this.#slots.set(owner, count);
  }

  /** Whether there may be one sender more. Recipients at another relay that are suspended for one who sends leave room for others. */
  #hasSlot(owner: string | undefined): boolean {
    const { size } = this.#senders;
    if (owner === undefined) return size < OPEN_SESSIONS;
    return isWithinShare((this.#slots.get(owner) ?? 0) + 1, size + 1, RELAY_SESSIONS);
  }

  #queueOf(destination: Destination): Queue | undefined {
    return this.#byPeer.get(queueKey(destination));
  }

  /** The sender that may make room for another. At another relay who has many gives up his own before those of others. */
  #idlest(owner: string | undefined): Sender | undefined {
    const mayGo = (sender: Sender) => sender.isIdle && sender.state !== "opening";
    if (owner === undefined) return this.#senders.idlest(mayGo);
    const own = this.#senders.idlest((sender) => sender.destination.sender === owner && mayGo(sender));
    if (own !== undefined || (this.#slots.get(owner) ?? 0) > RELAY_SESSIONS / 4) return own;
    return this.#senders.idlest(mayGo);
  }

  /** Opens the session of a sender that has something to send and none. */
  #open(sender: Sender): void {
    if (sender.state !== "closed" || sender.until > 0 || !sender.hasWaiting) return;
    if (this.#engine.state !== "established") return;
    const { resourceURL, identityURL, deviceURL } = sender.destination;
    this.#senders.open(sender, this.#engine.open({ resourceURL, identityURL, deviceURL }));
  }

  #over(sender: Sender): void {
    this.#senders.over(sender);
    sender.used = false;
  }

  /** Sends a message, or a part of a long one. */
  #send(sender: Sender): void {
    const { sessionId } = sender;
    const session = sessionId === undefined ? undefined : this.#engine.session(sessionId);
    if (sessionId === undefined || session?.kind !== "outbound" || session.state !== "ready") {
      // The engine has heard of a change whose event waits behind others.
      sender.state = "suspended";
      return;
    }
    const { store } = this.#hub;
    let { current } = sender;
    let part: Uint8Array | undefined;
    if (current === undefined) {
      const message = this.#nextOf(sender);
      if (message === undefined) return;
      part = partOf(store, message, 0);
      // It may have left the store.
      if (message.kind === "stored" && part === undefined) return;
      const { fields, source } = message.envelope;
      this.#engine.beginMessage(sessionId, {
        ...fields,
        userRef: message.kind === "stored" ? this.#ids.id(fields.userRef, source, message.seq) : fields.userRef,
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: message.kind === "volatile",
      });
      sender.used = true;
      current = { message, row: 0, octets: 0, counted: false };
      this.#count(current, true);
    } else {
      part = partOf(store, current.message, current.row);
    }
    if (part !== undefined) {
      this.#engine.data(sessionId, part);
      current.row += 1;
      current.octets += part.length;
      if (current.octets < current.message.size) {
        sender.current = current;
        return;
      }
    }
    sender.current = undefined;
    if (current.octets < current.message.size) {
      // The rest is no longer in the store. Only the end of its session ends a message that is not whole.
      this.#count(current, false);
      this.#over(sender);
      this.#engine.closeSession(sessionId, CloseReasonId.NoReason);
      this.#open(sender);
      return;
    }
    sender.outstanding += 1;
    this.#sent.set(this.#engine.endMessage(sessionId), { message: current.message, sender });
  }

  #nextOf(sender: Sender): Outgoing | undefined {
    const volatile = sender.volatile.shift();
    if (volatile !== undefined) {
      this.#volatileOctets -= volatile.size;
      return volatile;
    }
    if (sender.page.first === undefined) this.#refill(sender);
    const stored = sender.page.shift();
    return stored && { kind: "stored", envelope: stored, size: stored.size, seq: stored.seq };
  }

  /** Looks up what waits in the store for a sender. */
  #refill(sender: Sender): void {
    const { behind, destination, later } = sender;
    if (behind === undefined) return;
    const to = this.#queueOf(destination)?.cursor ?? 0;
    const page = this.#hub.store.between(destination, behind, to, SENDER_PAGE);
    const here = this.#underWay();
    for (const message of page) if (!later.has(message.seq) && !here.has(message.seq)) sender.page.push(message);
    sender.behind = page.length < SENDER_PAGE ? undefined : (page.at(-1)?.seq ?? 0) + 1;
  }

  /** Numbers of what is being sent, or is sent and not acknowledged. */
  #underWay(): Set<number> {
    const here = new Set<number>();
    for (const { message } of this.#sent.values()) if (message.kind === "stored") here.add(message.seq);
    for (const { current } of this.#senders) if (current?.message.kind === "stored") here.add(current.message.seq);
    return here;
  }

  /** The peer takes nothing for a destination. */
  #decline(sender: Sender): void {
    const { key, destination } = sender;
    this.#dropVolatile(sender);
    this.#forget(sender);
    const queue = this.#queueOf(destination);
    if (queue !== undefined) this.#hub.declined(key, destination, queue.cursor);
    this.#declined.add(key);
    if (this.#declined.size <= DECLINED_DESTINATIONS) return;
    const [oldest] = this.#declined;
    if (oldest !== undefined) this.#declined.delete(oldest);
  }

  /**
   * The peer says that a message is too much for it. Of several it is not known which one it means: they are sent one at
   * a time.
   */
  #tooLong(sender: Sender, lost: readonly Outgoing[]): void {
    const [only] = lost;
    if (lost.length > 1 || only?.kind !== "stored") {
      sender.probing = Math.max(sender.probing, lost.length);
      this.#sendAgain(sender, lost);
      return;
    }
    sender.probing = Math.max(0, sender.probing - 1);
    sender.refusals += 1;
    const now = Date.now();
    if (!this.#hub.refused(only.envelope, now)) {
      if (sender.later.size === 0) sender.laterAt = now + LATER;
      sender.later.add(only.seq);
      this.#wakeAt = Math.min(this.#wakeAt, sender.laterAt);
    }
    if (sender.refusals < SESSION_REFUSALS) this.#open(sender);
    else this.#putOff(sender, []);
  }

  /** A session was closed though there was something to send. */
  #failed(sender: Sender, lost: readonly Outgoing[]): void {
    sender.failures += 1;
    if (sender.failures < SESSION_FAILURES) this.#sendAgain(sender, lost);
    else this.#putOff(sender, lost);
  }

  #goBack(sender: Sender, lost: readonly Outgoing[]): void {
    // Another connection has the queue.
    if (this.#queueOf(sender.destination) === undefined) return;
    const stored = lost.flatMap((message) => (message.kind === "stored" ? [message.seq] : []));
    if (stored.length > 0) sender.goBack(stored);
  }

  #sendAgain(sender: Sender, lost: readonly Outgoing[]): void {
    this.#goBack(sender, lost);
    this.#open(sender);
  }

  /** Nothing is sent to a destination for a while. */
  #putOff(sender: Sender, lost: readonly Outgoing[]): void {
    this.#goBack(sender, lost);
    this.#dropVolatile(sender);
    sender.until = Date.now() + LATER;
    this.#wakeAt = Math.min(this.#wakeAt, sender.until);
  }

  #dropVolatile(sender: Sender): void {
    for (let next = sender.volatile.shift(); next !== undefined; next = sender.volatile.shift()) {
      this.#volatileOctets -= next.size;
      this.#hub.drop("SlowPeer");
    }
  }

  /** Offers what was put off, when it is time. */
  #wake(now: number): void {
    if (now < this.#wakeAt) return;
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const sender of this.#senders) {
      if (sender.until > 0 && sender.until <= now) {
        sender.until = 0;
        sender.failures = 0;
        sender.refusals = 0;
      }
      if (sender.laterAt <= now) this.#offerLater(sender);
      this.#wakeAt = Math.min(this.#wakeAt, sender.laterAt, sender.until || Number.POSITIVE_INFINITY);
      this.#open(sender);
      this.#rouse(sender);
    }
  }

  /** What was refused for its length is sent before the rest, one at a time. */
  #offerLater(sender: Sender): void {
    const { destination, later } = sender;
    const seqs = [...later].sort((a, b) => a - b);
    const again = seqs.flatMap((seq) => this.#hub.store.between(destination, seq, seq, 1));
    sender.page.putBack(again);
    sender.probing = Math.max(sender.probing, again.length);
    later.clear();
    sender.laterAt = Number.POSITIVE_INFINITY;
  }

  /** A message takes room in the window, or does not any more. */
  #count(current: Current, counted: boolean): void {
    if (current.counted === counted) return;
    current.counted = counted;
    this.#sentOctets += counted ? current.message.size : -current.message.size;
  }

  #taken(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    if (sent === undefined) return undefined;
    this.#sent.delete(number);
    this.#sentOctets -= sent.message.size;
    sent.sender.outstanding -= 1;
    return sent;
  }
}

/** Why a session is closed that the device will never have. */
const FINAL: readonly number[] = [
  CloseReasonId.DeviceAuthenticationFailed,
  CloseReasonId.UserAuthenticationFailed,
  CloseReasonId.EmptySession,
];

/** The peer may suspend a session in the middle of a message: Data may be sent only in 'ready' [3.1.4.6]. */
function maySend(sender: Sender): boolean {
  if (sender.state !== "ready") return false;
  if (sender.current !== undefined) return true;
  return sender.hasWaiting && (sender.probing === 0 || sender.outstanding === 0);
}

/** Whose messages a session is for; at another relay each who sends has his own. */
function destinationOf({ peer, resourceURL, identityURL, deviceURL, source }: Envelope): Destination {
  const sender = isRelay(peer) ? senderOf(source) : undefined;
  return { peer, resourceURL, identityURL, deviceURL, sender };
}

/** What a session is for; of one connection's queues only one has messages for it. */
function keyOf({ resourceURL, identityURL, deviceURL, sender = "" }: Destination): string {
  return `${resourceURL}\n${identityURL}\n${deviceURL}\n${sender}`;
}

function queueKey({ peer, sender = "" }: Pick<Destination, "peer" | "sender">): string {
  return `${peer}\n${sender}`;
}

/** Who takes turns at another relay: those who send. Elsewhere it is nobody's business. */
function ownerOf({ destination }: Sender): string {
  return destination.sender ?? "";
}
