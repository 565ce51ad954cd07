/**
 * Outgoing messages of one connection: from the queues that it consumes, through sessions that the relay opens. Each
 * destination has a sender with its own session. Senders take turns within a window of unacknowledged data, so none
 * blocks another.
 *
 * Another relay receives for many recipients, from many senders, and more slowly than messages arrive. There each
 * sending identity has its own queue, destinations, share of sessions and turns, so one that writes to a thousand
 * recipients does not delay the others.
 *
 * What is streamed between devices, with flag D, is sent as fast as the socket takes it, acknowledged or not: the peer's
 * acknowledgements may wait behind what it streams itself. Its senders are slowed down until it is sent.
 *
 *   Queue.take ─► Sender.page ─► fill ─► engine ─► acknowledged ─► Store.remove
 *     │            └ its session is not ready, and its page is full ──► waits in the store from `behind` on
 *     │            └ refused for its length ──────────────────────────► `later`, out of order
 *     └ no room for a sender of its destination ──────────────────────► waits in the store from `crowded` on
 *     └ its destination is refused ───────────────────────────────────► waits for another connection
 *
 * Each queue is scanned once, from the front. A destination with a sender has all its scanned messages in the sender's
 * page or from `behind` on. Messages without a sender are scanned again from the first that found no room. This keeps
 * the order of each destination.
 *
 * @module
 */
import { RoundRobin } from "../lib/round-robin.ts";
import { CloseReasonId, type Connection, isRelay } from "../sstp/index.ts";
import { isWithinShare, senderOfMessage } from "../store-and-forward/sender-share.ts";
import { SessionPool } from "../store-and-forward/session-pool.ts";
import { StoredIds } from "../store-and-forward/vouched-id.ts";
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
  STALLED_PAUSE,
  STREAM_PATIENCE,
  STREAM_STALL,
  STREAM_UNACKNOWLEDGED,
  STREAMS_WAITING,
  VOLATILE_OCTETS,
} from "./limits.ts";
import { type Current, Sender } from "./sender.ts";
import type { Destination, Envelope, Stored } from "./store.ts";
import { type Outgoing, PAGE, partOf, Queue, type Volatile } from "./stored-queue.ts";

/** What it needs from its connection. */
export interface Transport {
  /** Bytes queued in the socket. */
  socketQueue(): number;
  /** Asks for another `fill` soon. */
  pumpLater(): void;
}

/** A message sent and not yet acknowledged. */
interface Sent {
  readonly message: Outgoing;
  readonly sender: Sender;
  /** Whether it is streamed between devices: then its body is gone, and it does not count against the window. */
  readonly streamed: boolean;
}

export class OutboundMessages {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #transport: Transport;
  /** Scanned in turn, so that a full queue does not block the others. */
  readonly #queues: Queue[] = [];
  readonly #byPeer = new Map<string, Queue>();
  /** The other relay, if the peer is one. Then there is one queue per sending identity. */
  #relay: string | undefined;
  readonly #senders = new SessionPool<Sender>(RELAY_SESSIONS);
  /** Number of senders per sending identity, at another relay. */
  readonly #slots = new Map<string, number>();
  /** Senders that may send, in round-robin order. */
  readonly #turns = new RoundRobin<Sender>();
  /** Senders that wait for the window. */
  #held: Sender[] = [];
  /** Messages with flag D whose destinations have no sender for lack of room. */
  readonly #crowdedVolatile = new RoundRobin<Volatile>();
  #volatileOctets = 0;
  /** Bytes that are streamed to the peer and wait, and messages that were, without acknowledgement. */
  #streamOctets = 0;
  #streamsSent = 0;
  /** Destinations that the peer has refused, oldest first. Their messages wait for another connection. */
  readonly #declined = new Set<string>();
  /** Sent and not yet acknowledged, by message number. */
  readonly #sent = new Map<number, Sent>();
  #sentOctets = 0;
  /** When the next postponed message is due. */
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
    // Skip what this connection still has in flight from an earlier turn with the queue.
    const queue = new Queue(this.#hub.store, peer, this.#underWay(), sender);
    this.#queues.push(queue);
    this.#byPeer.set(key, queue);
  }

  /** Stops taking from a queue. Messages in progress are finished. */
  removeQueue(peer: string): void {
    if (peer === this.#relay) this.#relay = undefined;
    for (const queue of [...this.#queues]) if (queue.peer === peer) this.#drop(queue);
    for (const sender of this.#senders) if (sender.destination.peer === peer) sender.letGo();
  }

  #drop(queue: Queue): void {
    this.#byPeer.delete(queueKey(queue));
    this.#queues.splice(this.#queues.indexOf(queue), 1);
  }

  /** Adds a queue for each identity that has messages for another relay. */
  #findSenders(peer: string): void {
    for (const queue of [...this.#queues]) if (queue.isOver) this.#drop(queue);
    for (const sender of this.#hub.store.senders(peer)) this.#addQueue(peer, sender);
  }

  addVolatile(message: Volatile): void {
    const destination = destinationOf(message.envelope);
    const key = keyOf(destination);
    const sender = this.#senders.get(key);
    this.#countVolatile(message, 1);
    if (this.#declined.has(key) || (sender?.until ?? 0) > 0 || this.#isTooMuch(message, sender)) {
      this.#lose(message);
      return;
    }
    const source = senderOfMessage(message.envelope.source, message.envelope.fields.userRef);
    if (this.#crowdedVolatile.has(source) || !this.#queueVolatile(message, destination)) {
      this.#crowdedVolatile.push(source, message);
    }
  }

  /** Whether there is no room for a message with flag D, which is counted already. */
  #isTooMuch({ size, stream }: Volatile, sender: Sender | undefined): boolean {
    if (stream !== undefined) {
      return this.#streamOctets > STREAMS_WAITING || stream.at < (sender?.stalledUntil ?? 0);
    }
    // Suspended sessions may use half, so that others have room.
    const limit = sender?.state === "suspended" ? VOLATILE_OCTETS / 2 : VOLATILE_OCTETS;
    return this.#volatileOctets > size && this.#volatileOctets > limit;
  }

  /** Tells senders that what they stream waits, and drops what waits for too long. Returns whether more waits. */
  lookAtStreams(now: number): boolean {
    const isOlder = ({ stream }: Volatile, age: number) => stream !== undefined && stream.at <= now - age;
    for (const sender of this.#senders) {
      for (;;) {
        const { first } = sender.volatile;
        if (first === undefined || !isOlder(first, STREAM_PATIENCE)) break;
        sender.volatile.shift();
        sender.stalledUntil = now + STALLED_PAUSE;
        this.#lose(first);
      }
      for (const message of sender.volatile) if (isOlder(message, STREAM_STALL)) message.stream?.stalled();
    }
    for (let turns = this.#crowdedVolatile.owners; turns > 0; turns -= 1) {
      const { first } = this.#crowdedVolatile;
      if (first !== undefined && isOlder(first, STREAM_PATIENCE)) {
        this.#crowdedVolatile.shift();
        this.#lose(first);
      } else this.#crowdedVolatile.pass();
    }
    return this.#streamOctets > 0;
  }

  #lose(message: Volatile): void {
    this.#hub.drop("SlowPeer");
    this.#leave(message);
  }

  /** A message with flag D does not wait any more. */
  #leave(message: Volatile): void {
    this.#countVolatile(message, -1);
    message.stream?.left();
  }

  #countVolatile({ size, stream }: Volatile, sign: 1 | -1): void {
    if (stream === undefined) this.#volatileOctets += sign * size;
    else this.#streamOctets += sign * size;
  }

  /** Feeds the engine as far as there is room. True if it stopped for lack of room. */
  fill(): boolean {
    if (this.#engine.state !== "established") return false;
    if (this.#wakeAt !== Number.POSITIVE_INFINITY) this.#wake(Date.now());
    this.#admitVolatile();
    const looked = { at: 0 };
    if (this.#held.length > 0) this.#release();
    if (this.#relay !== undefined && this.#hasRoom()) this.#lookBeside(this.#relay);
    while (this.#hasRoom()) {
      if (this.#held.length > 0 && !this.#isFull) this.#release();
      const sender = this.#turns.shift();
      if (sender === undefined) {
        if (this.#isFull || !this.#look(looked)) return false;
        continue;
      }
      if (sender.current === undefined && this.#mustWait(sender)) {
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
    // A message whose session is suspended halfway must not take up the window.
    if (current !== undefined) this.#count(current, state === "ready");
    this.#rouse(sender);
  }

  /**
   * Handles a session that the peer refused or closed. Depending on the reason, its unacknowledged messages are resent,
   * postponed, or left in the store for another connection. Other sessions are unaffected.
   *
   * @param reasonId undefined if OpenResponse refused the session
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
      leftOf(current.message);
    }
    this.#over(sender);
    if (reasonId === undefined || FINAL.includes(reasonId)) this.#decline(sender);
    else if (reasonId === CloseReasonId.QuotaWouldBeExceeded && lost.length > 0) this.#tooLong(sender, lost);
    // The peer closed an idle session; reopen it if there is something to send.
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
   * Whether delivery from a peer's queue waits only for the device: it does not acknowledge, leaves no room, or does
   * not answer an Open. Suspended and refused destinations do not count.
   */
  owes(peer: string): boolean {
    if (this.#isFull || !this.#hasRoom()) return true;
    for (const { message, streamed } of this.#sent.values())
      if (!streamed && message.envelope.peer === peer) return true;
    for (const sender of this.#senders) {
      if (sender.destination.peer !== peer) continue;
      if (sender.current !== undefined || (sender.state === "opening" && sender.hasWaiting)) return true;
    }
    return false;
  }

  abandon(): void {
    for (const { volatile, current } of this.#senders) {
      for (const message of volatile) message.stream?.left();
      if (current !== undefined) leftOf(current.message);
    }
    for (let next = this.#crowdedVolatile.shift(); next !== undefined; next = this.#crowdedVolatile.shift()) {
      next.stream?.left();
    }
    this.#volatileOctets = 0;
    this.#streamOctets = 0;
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

  /** Messages with flag D count too: unacknowledged ones are kept in memory. Streamed ones are not. */
  get #isFull(): boolean {
    return this.#sentOctets >= SEND_WINDOW || this.#sent.size - this.#streamsSent >= SEND_WINDOW_MESSAGES;
  }

  /** Whether the next message of a sender waits for acknowledgements. */
  #mustWait(sender: Sender): boolean {
    return sender.isStreamNext ? this.#streamsSent >= STREAM_UNACKNOWLEDGED : this.#isFull;
  }

  #release(): void {
    const waiting: Sender[] = [];
    for (const sender of this.#held) {
      if (this.#mustWait(sender)) waiting.push(sender);
      else this.#turns.push(ownerOf(sender), sender);
    }
    this.#held = waiting;
  }

  /** Gives a sender that may send its turn. */
  #rouse(sender: Sender): void {
    if (sender.inTurn || !maySend(sender)) return;
    sender.inTurn = true;
    this.#turns.push(ownerOf(sender), sender);
  }

  /** Scans a few messages of each sending identity, so that it gets a turn even while others have enough to send. */
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

  /** Scans for messages whose session is ready, opening sessions as needed. True if a sender may send. */
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

  /** Assigns a newly scanned message to a sender. */
  #place(message: Stored, queue: Queue): void {
    const destination = destinationOf(message);
    const key = keyOf(destination);
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      if (this.#declined.has(key)) {
        this.#hub.declined(key, destination, message.seq);
        return;
      }
      // An earlier message of this destination may be waiting for room.
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

  /** Creates senders for messages that found no room, as far as there is room now. */
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
      if (this.#declined.has(keyOf(destination))) this.#lose(next);
      else if (!this.#queueVolatile(next, destination)) {
        // Room is shared by all here, so none is left for the rest either.
        if (destination.sender === undefined) return;
        failed += 1;
        this.#crowdedVolatile.pass();
        continue;
      }
      this.#crowdedVolatile.shift();
    }
  }

  /** False if there is no room for a sender. */
  #queueVolatile(message: Volatile, destination: Destination): boolean {
    const key = keyOf(destination);
    let sender = this.#senders.get(key);
    if (sender === undefined) {
      sender = this.#make(key, destination);
      if (sender === undefined) return false;
      // Stored messages of this destination may be waiting for room.
      sender.behind = this.#queueOf(destination)?.crowded;
    }
    sender.volatile.push(message);
    this.#senders.use(sender);
    this.#open(sender);
    this.#rouse(sender);
    return true;
  }

  /** Creates a sender for a destination, closing idle ones if needed; undefined if all are busy. */
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

  /**
   * Whether one more sender fits. At another relay, no sending identity may take all the room with suspended
   * recipients.
   */
  #hasSlot(owner: string | undefined): boolean {
    const { size } = this.#senders;
    if (owner === undefined) return size < OPEN_SESSIONS;
    return isWithinShare((this.#slots.get(owner) ?? 0) + 1, size + 1, RELAY_SESSIONS);
  }

  #queueOf(destination: Destination): Queue | undefined {
    return this.#byPeer.get(queueKey(destination));
  }

  /** The idle sender to give up. At another relay, an identity with many gives up its own before others' are taken. */
  #idlest(owner: string | undefined): Sender | undefined {
    const mayGo = (sender: Sender) => sender.isIdle && sender.state !== "opening";
    if (owner === undefined) return this.#senders.idlest(mayGo);
    const own = this.#senders.idlest((sender) => sender.destination.sender === owner && mayGo(sender));
    if (own !== undefined || (this.#slots.get(owner) ?? 0) > RELAY_SESSIONS / 4) return own;
    return this.#senders.idlest(mayGo);
  }

  /** Opens a session for a sender that has something to send and no session. */
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

  /** Sends a message, or the next part of a long one. */
  #send(sender: Sender): void {
    const { sessionId } = sender;
    const session = sessionId === undefined ? undefined : this.#engine.session(sessionId);
    if (sessionId === undefined || session?.kind !== "outbound" || session.state !== "ready") {
      // The engine already knows of a change whose event is still queued.
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
      // The message may have left the store.
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
      // The rest of the message has left the store. Only closing the session can end an incomplete message.
      this.#count(current, false);
      this.#over(sender);
      this.#engine.closeSession(sessionId, CloseReasonId.NoReason);
      this.#open(sender);
      return;
    }
    sender.outstanding += 1;
    const { message } = current;
    const streamed = message.kind === "volatile" && message.stream !== undefined;
    const number = this.#engine.endMessage(sessionId);
    if (!streamed) {
      this.#sent.set(number, { message, sender, streamed });
      return;
    }
    this.#count(current, false);
    leftOf(message);
    this.#streamsSent += 1;
    this.#sent.set(number, { message: { ...message, body: [], stream: undefined }, sender, streamed });
  }

  #nextOf(sender: Sender): Outgoing | undefined {
    const volatile = sender.volatile.shift();
    if (volatile !== undefined) {
      this.#countVolatile(volatile, -1);
      return volatile;
    }
    if (sender.page.first === undefined) this.#refill(sender);
    const stored = sender.page.shift();
    return stored && { kind: "stored", envelope: stored, size: stored.size, seq: stored.seq };
  }

  /** Reads the next page of a sender's messages from the store. */
  #refill(sender: Sender): void {
    const { behind, destination, later } = sender;
    if (behind === undefined) return;
    const to = this.#queueOf(destination)?.cursor ?? 0;
    const page = this.#hub.store.between(destination, behind, to, SENDER_PAGE);
    const here = this.#underWay();
    for (const message of page) if (!later.has(message.seq) && !here.has(message.seq)) sender.page.push(message);
    sender.behind = page.length < SENDER_PAGE ? undefined : (page.at(-1)?.seq ?? 0) + 1;
  }

  /** Sequence numbers of stored messages that are being sent or in flight. */
  #underWay(): Set<number> {
    const here = new Set<number>();
    for (const { message } of this.#sent.values()) if (message.kind === "stored") here.add(message.seq);
    for (const { current } of this.#senders) if (current?.message.kind === "stored") here.add(current.message.seq);
    return here;
  }

  /** Records that the peer accepts nothing for this destination. */
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

  /** Handles a refusal for length. If several messages were in flight, resends them singly to find the one meant. */
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

  /** Handles a session that was closed while it had something to send. */
  #failed(sender: Sender, lost: readonly Outgoing[]): void {
    sender.failures += 1;
    if (sender.failures < SESSION_FAILURES) this.#sendAgain(sender, lost);
    else this.#putOff(sender, lost);
  }

  #goBack(sender: Sender, lost: readonly Outgoing[]): void {
    // Another connection now has the queue.
    if (this.#queueOf(sender.destination) === undefined) return;
    const stored = lost.flatMap((message) => (message.kind === "stored" ? [message.seq] : []));
    if (stored.length > 0) sender.goBack(stored);
  }

  #sendAgain(sender: Sender, lost: readonly Outgoing[]): void {
    this.#goBack(sender, lost);
    this.#open(sender);
  }

  /** Pauses a destination for LATER (5 minutes). */
  #putOff(sender: Sender, lost: readonly Outgoing[]): void {
    this.#goBack(sender, lost);
    this.#dropVolatile(sender);
    sender.until = Date.now() + LATER;
    this.#wakeAt = Math.min(this.#wakeAt, sender.until);
  }

  #dropVolatile(sender: Sender): void {
    for (let next = sender.volatile.shift(); next !== undefined; next = sender.volatile.shift()) this.#lose(next);
  }

  /** Offers postponed messages that are due. */
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

  /** Resends messages refused for length, before the others and one at a time. */
  #offerLater(sender: Sender): void {
    const { destination, later } = sender;
    const seqs = [...later].sort((a, b) => a - b);
    const again = seqs.flatMap((seq) => this.#hub.store.between(destination, seq, seq, 1));
    sender.page.putBack(again);
    sender.probing = Math.max(sender.probing, again.length);
    later.clear();
    sender.laterAt = Number.POSITIVE_INFINITY;
  }

  /** Adds a message to the window or removes it. */
  #count(current: Current, counted: boolean): void {
    if (current.counted === counted) return;
    current.counted = counted;
    this.#sentOctets += counted ? current.message.size : -current.message.size;
  }

  #taken(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    if (sent === undefined) return undefined;
    this.#sent.delete(number);
    if (sent.streamed) this.#streamsSent -= 1;
    else this.#sentOctets -= sent.message.size;
    sent.sender.outstanding -= 1;
    return sent;
  }
}

/** Close reasons that mean the device will never accept the session. */
const FINAL: readonly number[] = [
  CloseReasonId.DeviceAuthenticationFailed,
  CloseReasonId.UserAuthenticationFailed,
  CloseReasonId.EmptySession,
];

/** The peer may suspend a session in the middle of a message; Data may be sent only in 'ready' [3.1.4.6]. */
function maySend(sender: Sender): boolean {
  if (sender.state !== "ready") return false;
  if (sender.current !== undefined) return true;
  return sender.hasWaiting && (sender.probing === 0 || sender.outstanding === 0);
}

/** Tells the sender of a streamed message that it is sent or dropped. */
function leftOf(message: Outgoing): void {
  if (message.kind === "volatile") message.stream?.left();
}

/** The destination of a message. At another relay each sending identity has its own. */
function destinationOf({ peer, resourceURL, identityURL, deviceURL, source, fields }: Envelope): Destination {
  const sender = isRelay(peer) ? senderOfMessage(source, fields.userRef) : undefined;
  return { peer, resourceURL, identityURL, deviceURL, sender };
}

/** The key of a destination, unique within one connection. */
function keyOf({ resourceURL, identityURL, deviceURL, sender = "" }: Destination): string {
  return `${resourceURL}\n${identityURL}\n${deviceURL}\n${sender}`;
}

function queueKey({ peer, sender = "" }: Pick<Destination, "peer" | "sender">): string {
  return `${peer}\n${sender}`;
}

/** The owner of a sender's turns: the sending identity at another relay, otherwise one for all. */
function ownerOf({ destination }: Sender): string {
  return destination.sender ?? "";
}
