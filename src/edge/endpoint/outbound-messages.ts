/**
 * Sends one device the messages of the mailboxes that it consumes, on sessions that the edge opens towards it. Each
 * destination has a sender with a queue and a session of its own. Senders take turns, so that none waits for another.
 * The mailbox bounds how much it sends ahead.
 *
 *   deliver ─► MailboxSubscription.place ─► Sender.queue ─► fill ─► engine ─► acknowledged ─► Mailbox.acknowledge
 *
 * A message that no mailbox keeps, one with flag D, is called volatile here. Those of channels come from the Tunnels of
 * their senders, which wait until there is room; others are dropped if there is none. A relay has room for each
 * destination, so one that is suspended holds up no other.
 *
 * What is streamed is sent as fast as the transport takes it, acknowledged or not: the device's acknowledgements may wait
 * behind what it streams itself, and two devices must not stop each other.
 *
 * @module
 */
import { Condition } from "../../lib/condition.ts";
import { free, release } from "../../lib/octets.ts";
import { Queue } from "../../lib/queue.ts";
import { type Range, Ranges } from "../../lib/ranges.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { CloseReasonId, ConnectCloseReasonId, type Connection, ENTRY_COST, isRelay } from "../../sstp/index.ts";
import type { Envelope, Mail } from "../../store-and-forward/envelope.ts";
import { kept } from "../../store-and-forward/message-body.ts";
import { senderOf } from "../../store-and-forward/sender-share.ts";
import { SessionPool } from "../../store-and-forward/session-pool.ts";
import { StoredIds } from "../../store-and-forward/vouched-id.ts";
import { noticeStorageFull } from "../disk-full.ts";
import { logError } from "../log.ts";
import { CALL_TIMEOUT, LATER, SEND_WINDOW, SEND_WINDOW_MESSAGES } from "../mailbox/limits.ts";
import { HAND_TIMEOUT } from "../rpc/deadlines.ts";
import { type Delivery, type MailboxRpc, NO_NUMBERS, type Taken } from "../rpc/mailbox-rpc.ts";
import { contentsOf, type MessageBatch, unpack } from "../rpc/message-batch.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import {
  DECLINED_DESTINATIONS,
  LINK_ADDRESSING,
  LINK_SESSIONS,
  LINK_STALLED_HELD,
  LINK_STREAMS_HELD,
  LINK_STREAMS_WAITING,
  MESSAGE_COST,
  OPEN_SESSIONS,
  REFUSED_TIME,
  SESSION_FAILURES,
  SESSION_OUTPUT,
  SESSION_REFUSALS,
  STALLED_TIME,
  STREAM_HELD,
  STREAM_UNACKNOWLEDGED,
  STREAM_WAITING,
  STUCK_OCTETS,
  VOLATILE_OCTETS,
} from "./limits.ts";
import {
  MailboxSubscription,
  Sender,
  type Senders,
  type SubscriptionSnapshot,
  type Waiting,
} from "./mailbox-subscription.ts";

/** A message that was sent and is not acknowledged. */
interface Sent {
  readonly sender: Sender;
  /** Its number in its mailbox; undefined for a volatile message. */
  readonly seq: number | undefined;
  /** Its size, which counts if the message is volatile. */
  readonly size: number;
  /** Whether it is streamed. */
  readonly streamed: boolean;
}

/** What another device streams to a mailbox's peer, with its key and size. */
interface StreamedBatch {
  readonly peer: string;
  readonly generation: number;
  readonly bundle: MessageBatch;
  readonly key: string;
  readonly octets: number;
  readonly messages: number;
}

interface SenderSnapshot {
  readonly peer: string;
  readonly key: string;
  readonly sessionId: number | undefined;
  readonly state: Sender["state"];
  readonly clean: boolean;
  readonly until: number;
  readonly aside: readonly (readonly [number, number])[];
}

interface SentSnapshot {
  readonly peer: string;
  readonly key: string;
  /** 0 for a volatile message: other releases read what this one has written. */
  readonly seq: number;
  readonly size: number;
}

export interface OutboundSnapshot {
  readonly consumed: readonly (readonly [string, SubscriptionSnapshot])[];
  readonly senders: readonly SenderSnapshot[];
  readonly sent: readonly (readonly [number, SentSnapshot])[];
  readonly ceded: readonly string[];
}

export class OutboundMessages {
  readonly #host: EndpointContext;
  readonly #engine: Connection;
  /** The origin relay at the other end, if it is one: what it refuses does not hold up the rest. */
  #relay: string | undefined;
  readonly #calls = new DeadlinePool(CALL_TIMEOUT);
  readonly #changed: () => void;
  readonly #lost: (peer: string) => void;
  readonly #consumed = new Map<string, MailboxSubscription>();
  /** Mailboxes that another connection consumes now, and that this one would take back. */
  readonly #ceded: Set<string>;
  readonly #senders: SessionPool<Sender>;
  /** Addressing of all senders, and of the first that found no room, as {@link LINK_ADDRESSING} counts it. */
  #addressing = 0;
  #crowdedAddressing = 0;
  /** Senders that may send, in turn. */
  readonly #turns = new Queue<Sender>();
  /** Messages sent and not acknowledged, by the engine's number. */
  readonly #sent = new Map<number, Sent>();
  /** The volatile parts of `#sent`. */
  readonly #volatileSent = { octets: 0, messages: 0 };
  readonly #streamedSent = { octets: 0, messages: 0 };
  readonly #ids = new StoredIds();
  /** Destinations that the device has refused, oldest first. */
  readonly #declined = new Set<string>();
  /** Destinations behind a relay that refuse streams, oldest first, and until when that counts. */
  readonly #lockedOut = new Map<string, number>();
  /** Senders that hold what is streamed, or did so. */
  readonly #streaming = new Set<Sender>();
  /** Notified when there may be room for what is streamed, and how many Tunnels wait for that. */
  readonly #streamRoom = new Condition();
  readonly #streamsWaiting = { ready: 0, stalled: 0 };
  #paused = false;
  /** Whether anything was ever acknowledged. */
  progressed = false;
  /** Whether the transport slows the output down. */
  paced = true;

  /**
   * @param relay the origin relay that the edge has connected to
   * @param changed called when there may be output for the device
   * @param lost called with a mailbox that another connection consumes from now on
   */
  constructor(
    host: EndpointContext,
    engine: Connection,
    relay: string | undefined,
    changed: () => void,
    lost: (peer: string) => void,
    snapshot?: OutboundSnapshot,
  ) {
    this.#host = host;
    this.#engine = engine;
    this.#changed = changed;
    this.#lost = lost;
    this.#senders = new SessionPool(OPEN_SESSIONS);
    if (relay !== undefined) this.#serve(relay);
    this.#ceded = new Set(snapshot?.ceded);
    for (const [peer, kept] of snapshot?.consumed ?? []) {
      if (isRelay(peer)) this.#serve(peer);
      this.#consumed.set(peer, new MailboxSubscription(peer, kept.generation, kept));
    }
    for (const { peer, key, sessionId, state, clean, until, aside } of snapshot?.senders ?? []) {
      const box = this.#consumed.get(peer);
      if (box === undefined) continue;
      const sender = new Sender(key, box, new Ranges(aside));
      sender.clean = clean;
      sender.until = until;
      sender.sessionId = sessionId;
      sender.state = state;
      this.#senders.add(sender);
    }
    for (const [number, { peer, key, seq, size }] of snapshot?.sent ?? []) {
      const box = this.#consumed.get(peer) ?? new MailboxSubscription(peer, 0);
      const sender = this.#senders.get(key) ?? new Sender(key, box);
      sender.outstanding += 1;
      sender.used = true;
      this.#note(number, { sender, seq: seq === 0 ? undefined : seq, size, streamed: false });
    }
  }

  /** The peer is an origin relay, which has many recipients. */
  #serve(relay: string): void {
    this.#relay = relay;
    this.#senders.widen(LINK_SESSIONS);
  }

  get quiet(): boolean {
    if (this.#streamsWaiting.ready + this.#streamsWaiting.stalled > 0) return false;
    for (const { current, queue } of this.#senders)
      if (current !== undefined || queue.first !== undefined) return false;
    return [...this.#consumed.values()].every(
      ({ generation, telling, draft }) => typeof generation === "number" && !telling && draft.isEmpty,
    );
  }

  /** Returns what waits for sessions that are not ready to its mailbox, so that nothing keeps the object awake. */
  settle(): void {
    for (const sender of this.#senders) {
      if (sender.state === "ready") continue;
      if (sender.current !== undefined) this.#breakOff(sender);
      for (const seq of sender.takeOff()) sender.box.setAside(seq, sender);
      this.#dropVolatile(sender);
    }
    this.#tellAll();
  }

  snapshot(): OutboundSnapshot {
    return {
      consumed: [...this.#consumed].map(([peer, box]) => [peer, box.snapshot()]),
      senders: [...this.#senders].map(({ box, key, sessionId, state, clean, until, aside }) => ({
        peer: box.peer,
        key,
        sessionId,
        state,
        clean,
        until,
        aside: [...aside],
      })),
      // Nobody waits for the acknowledgement of what is streamed.
      sent: [...this.#sent]
        .filter(([, { streamed }]) => !streamed)
        .map(([number, { sender, seq, size }]) => [
          number,
          { peer: sender.box.peer, key: sender.key, seq: seq ?? 0, size },
        ]),
      ceded: [...this.#ceded],
    };
  }

  /** Attaches to a mailbox. Resolves to true when it delivers here, to false when it will not. */
  consume(peer: string): Promise<boolean> {
    if (isRelay(peer)) this.#serve(peer);
    const before = this.#consumed.get(peer);
    if (before !== undefined) this.#drop(before);
    const attaching = this.#calls.keep(this.#host.mailbox(peer).attach(this.#host.name));
    const generation = attaching.then((attached) => attached.generation);
    // It is logged once, whether or not somebody waits for the number.
    generation.catch(() => undefined);
    const box = new MailboxSubscription(peer, generation);
    this.#consumed.set(peer, box);
    this.#ceded.delete(peer);
    const begun = this.#begin(peer, box, attaching);
    this.#host.waitUntil(begun);
    return begun;
  }

  /** Takes the mailbox. A connection that has ended meanwhile must not take it from its successor. */
  async #begin(peer: string, box: MailboxSubscription, attaching: ReturnType<MailboxRpc["attach"]>): Promise<boolean> {
    let ours = false;
    try {
      const { generation, isReady = false } = await attaching;
      box.generation = generation;
      if (this.#consumed.get(peer) !== box) return false;
      ours = isReady || (await this.#calls.keep(this.#host.mailbox(peer).ready(this.#host.name, generation)));
      if (!ours) this.#cede(box);
    } catch (error) {
      // Without its mailbox the device would wait in vain. It connects again.
      this.#fail(error);
    }
    this.#changed();
    return ours;
  }

  /**
   * Accepts messages of a mailbox.
   *
   * @param position all messages up to this one have left the mailbox
   */
  deliver(peer: string, generation: number, deliveries: readonly Delivery[], position = 0): Taken {
    const box = this.#consumed.get(peer);
    if (box?.generation !== generation || this.#engine.closed !== undefined) return "gone";
    if (position > 0) box.prune(position, this.#senders);
    let dropped = 0;
    let here: Set<number> | undefined;
    const isHere = (seq: number) => {
      here ??= this.#here(box);
      return here.has(seq);
    };
    const senders = this.#sendersOf(box);
    for (const { first, bundle } of deliveries) {
      const keys = new Map(bundle.envelopes.map((envelope) => [envelope, keyOf(peer, envelope)]));
      const mails = unpack(bundle);
      // A message that came alone stays in the memory that it came in. Of others a copy waits, if there is room.
      let shared = first !== NO_NUMBERS;
      for (const [at, mail] of mails.entries()) {
        const key = keys.get(mail.envelope) ?? "";
        const size = mail.body.length + MESSAGE_COST;
        if (first === NO_NUMBERS) {
          const sender = this.#takerOf(size, key, senders);
          if (sender === undefined) {
            dropped += 1;
            continue;
          }
          shared ||= mails.length === 1;
          this.#queue({ seq: undefined, mail: shared ? mail : ownOf(mail), size }, sender);
          continue;
        }
        const seq = first + at;
        const sender = box.place(seq, size, key, senders, isHere);
        if (sender !== undefined) this.#queue({ seq, mail, size, alone: mails.length === 1 }, sender);
        else this.#openFor(key, mail);
      }
      if (!shared) release(bundle.octets);
    }
    box.endPass(this.#senders);
    this.#admitCrowded(box);
    this.#advance(box);
    this.#changed();
    return dropped === 0 ? "taken" : { dropped };
  }

  /**
   * Accepts messages that another device streams to a mailbox's peer: at once, when there is room for them, or not before
   * HAND_TIMEOUT: then they are dropped.
   */
  stream(peer: string, generation: number, bundle: MessageBatch): Taken | Promise<Taken> {
    const { sizes } = contentsOf(bundle.octets);
    const octets = sizes.reduce((sum, size) => sum + size + MESSAGE_COST, 0);
    const [envelope] = bundle.envelopes;
    const key = envelope === undefined ? "" : keyOf(peer, envelope);
    const batch: StreamedBatch = { peer, generation, bundle, key, octets, messages: sizes.length };
    return this.#streamNow(batch) ?? this.#streamLater(batch);
  }

  /** Undefined if there is no room. */
  #streamNow({ peer, generation, bundle, key, octets, messages }: StreamedBatch): Taken | undefined {
    const box = this.#consumed.get(peer);
    if (box?.generation !== generation || this.#engine.closed !== undefined) return "gone";
    const lockedUntil = this.#lockedOut.get(key);
    if (lockedUntil !== undefined && lockedUntil > Date.now()) return { dropped: messages, refused: "locked" };
    return this.#hasStreamRoom(key, octets) ? this.#takeStreamed(box, bundle) : undefined;
  }

  async #streamLater(batch: StreamedBatch): Promise<Taken> {
    const until = Date.now() + HAND_TIMEOUT;
    for (;;) {
      if (!(await this.#waitForStreamRoom(batch.key, until - Date.now()))) return { dropped: batch.messages };
      const taken = this.#streamNow(batch);
      if (taken !== undefined) return taken;
    }
  }

  #takeStreamed(box: MailboxSubscription, bundle: MessageBatch): Taken {
    const senders = this.#sendersOf(box);
    let dropped = 0;
    for (const mail of unpack(bundle)) {
      const message = { seq: undefined, mail: keptOf(mail), size: mail.body.length + MESSAGE_COST };
      const sender = this.#senderFor(keyOf(box.peer, mail.envelope), senders);
      if (sender === undefined) {
        dropped += 1;
        continue;
      }
      sender.streams = true;
      this.#streaming.add(sender);
      this.#queue(message, sender);
    }
    this.#changed();
    return dropped === 0 ? "taken" : { dropped };
  }

  /** Whether a batch for a destination may come now. One may always come if nothing is here. */
  #hasStreamRoom(key: string, octets: number): boolean {
    const held = this.#streamHeld();
    if (this.#relay === undefined || held.all === 0) return held.all === 0 || held.all + octets <= STREAM_HELD;
    const sender = this.#senders.get(key);
    const own = sender?.streamed ?? 0;
    if (sender?.state === "ready") {
      return (own === 0 || own + octets <= STREAM_HELD) && held.all + octets <= LINK_STREAMS_HELD;
    }
    if (own === 0) return held.stalled + octets <= (LINK_STREAMS_HELD * 3) / 4;
    return own + octets <= LINK_STALLED_HELD && held.stalled + octets <= LINK_STREAMS_HELD / 2;
  }

  /** Returns false when it has taken too long, or too many wait already. */
  async #waitForStreamRoom(key: string, milliseconds: number): Promise<boolean> {
    if (milliseconds <= 0) return false;
    const waiting = this.#streamsWaiting;
    const isRelayed = this.#relay !== undefined;
    const kind = isRelayed && this.#senders.get(key)?.state !== "ready" ? "stalled" : "ready";
    const most = isRelayed ? LINK_STREAMS_WAITING : STREAM_WAITING;
    if (waiting.ready + waiting.stalled >= most || (kind === "stalled" && waiting.stalled >= most / 2)) return false;
    waiting[kind] += 1;
    try {
      if ((await within(milliseconds, this.#streamRoom.wait())) !== undefined) return true;
      // What remains of this wait goes with the others, which look again.
      this.#streamRoom.notifyAll();
      return false;
    } finally {
      waiting[kind] -= 1;
    }
  }

  /** Bytes streamed to the peer that are here, and the part of them for destinations that are not ready. */
  #streamHeld(): { readonly all: number; readonly stalled: number } {
    const longAgo = Date.now() - STALLED_TIME;
    let [all, stalled] = [0, 0];
    for (const sender of this.#streaming) {
      if (this.#relay !== undefined && (sender.suspendedAt ?? longAgo) < longAgo) this.#forgetVolatile(sender);
      const { streamed, state } = sender;
      if (streamed === 0) this.#streaming.delete(sender);
      all += streamed;
      if (state !== "ready") stalled += streamed;
    }
    return { all, stalled };
  }

  /** Numbers of a mailbox's messages that wait here, or are sent and not acknowledged. */
  #here(box: MailboxSubscription): Set<number> {
    const here = new Set<number>();
    for (const { sender, seq } of this.#sent.values()) if (sender.box === box && seq !== undefined) here.add(seq);
    for (const sender of this.#senders) {
      if (sender.box !== box) continue;
      const current = sender.current?.message.seq;
      if (current !== undefined) here.add(current);
      for (const { seq } of sender.queue) if (seq !== undefined) here.add(seq);
    }
    return here;
  }

  #sendersOf(box: MailboxSubscription): Senders {
    return {
      find: (key) => this.#senders.get(key),
      make: (key) => this.#make(key, box),
      isDeclined: (key) => this.#declined.size > 0 && this.#declined.has(key),
    };
  }

  /** Creates a sender for a destination; undefined if all senders are busy. */
  #make(key: string, box: MailboxSubscription): Sender | undefined {
    const addressing = this.#addressingOf(key);
    while (!this.#fits(addressing)) {
      if (this.#makeRoom()) continue;
      this.#crowdedAddressing = addressing;
      return undefined;
    }
    const sender = new Sender(key, box);
    sender.addressing = addressing;
    this.#senders.add(sender);
    this.#addressing += addressing;
    return sender;
  }

  /** Whether another sender with so much addressing fits. The peer would refuse what does not, for good. */
  #fits(addressing: number): boolean {
    if (this.#senders.full) return false;
    return this.#addressing === 0 || this.#addressing + addressing <= LINK_ADDRESSING;
  }

  /** What the peer counts for the session of a destination: an origin relay's URL stands beside each recipient. */
  #addressingOf(key: string): number {
    if (this.#relay === undefined) return 0;
    return key.length + (key.split("\n").length / 2) * (this.#relay.length + ENTRY_COST);
  }

  #makeRoom(): boolean {
    const idle = this.#idlest();
    if (idle === undefined) return false;
    this.#remove(idle);
    return true;
  }

  #idlest(): Sender | undefined {
    return this.#senders.idlest(isReplaceable);
  }

  /** The sender that takes a volatile message of this size; undefined if the message is dropped. */
  #takerOf(size: number, key: string, senders: Senders): Sender | undefined {
    const sender = this.#senderFor(key, senders);
    if (sender === undefined) return undefined;
    if (sender.volatile > 0 && sender.volatile + size > VOLATILE_OCTETS) return undefined;
    let volatile = size;
    for (const other of this.#senders) if (!other.streams) volatile += other.volatile;
    // Suspended senders share half of it, which leaves room for the others.
    const limit = sender.state === "ready" ? VOLATILE_OCTETS : VOLATILE_OCTETS / 2;
    return volatile > size && volatile > limit ? undefined : sender;
  }

  /** The sender for a volatile message; undefined if it is dropped. */
  #senderFor(key: string, senders: Senders): Sender | undefined {
    if (senders.isDeclined(key)) return undefined;
    const crowded = this.#crowdedAddressing;
    const sender = senders.find(key) ?? senders.make(key);
    // This message does not wait for room.
    this.#crowdedAddressing = crowded;
    return sender === undefined || sender.until > Date.now() ? undefined : sender;
  }

  #queue(message: Waiting, sender: Sender): void {
    sender.push(message);
    this.#senders.use(sender);
    if (sender.state === "closed") this.#open(sender, message.mail);
    else this.#rouse(sender);
  }

  /** Opens a session for a message that waits in the mailbox. The message is asked for when the session is ready. */
  #openFor(key: string, mail: Mail): void {
    const sender = this.#senders.get(key);
    if (sender?.state === "closed" && sender.aside.count > 0 && sender.until <= Date.now()) this.#open(sender, mail);
  }

  /** The generation of this connection's attachment to a mailbox, once it is known; undefined if it consumes it not. */
  async generationOf(peer: string): Promise<number | undefined> {
    return this.#consumed.get(peer)?.generation;
  }

  /**
   * Resolves when the attachment to a mailbox is known, which may deliver before its answer has come; undefined if it is
   * known.
   */
  attaching(peer: string): Promise<unknown> | undefined {
    const generation = this.#consumed.get(peer)?.generation;
    return typeof generation === "object" ? generation.catch(() => undefined) : undefined;
  }

  /** Whether this connection consumes a mailbox. */
  consumes(peer: string): boolean {
    return this.#consumed.has(peer);
  }

  /** Number of mailboxes that it consumes, or would if no other connection did. */
  get mailboxes(): number {
    return this.#consumed.size + this.#ceded.size;
  }

  /** Gives up a mailbox that has another consumer. Returns true if it was consumed here until then. */
  cede(peer: string, generation: number): boolean {
    const box = this.#consumed.get(peer);
    if (box?.generation !== generation) return false;
    this.#cede(box);
    return true;
  }

  /** Takes back a mailbox that has lost its consumer. Returns false if this connection does not. */
  recall(peer: string): boolean {
    if (this.#engine.closed !== undefined) return false;
    if (this.#ceded.has(peer)) void this.consume(peer);
    return this.#consumed.has(peer);
  }

  #cede(box: MailboxSubscription): void {
    if (this.#consumed.get(box.peer) !== box) return;
    this.#drop(box);
    this.#ceded.add(box.peer);
    this.#lost(box.peer);
  }

  /** Stops consuming a mailbox. */
  #drop(box: MailboxSubscription): void {
    this.#consumed.delete(box.peer);
    for (const sender of [...this.#senders]) if (sender.box === box) this.#remove(sender);
    this.#streamRoom.notifyAll();
  }

  /** Removes a sender and closes its session. */
  #remove(sender: Sender): void {
    const { sessionId } = sender;
    this.#delete(sender);
    sender.current = undefined;
    sender.queue.clear();
    if (sessionId !== undefined && this.#engine.session(sessionId) !== undefined) {
      this.#engine.closeSession(sessionId, CloseReasonId.Idle);
    }
  }

  #delete(sender: Sender): void {
    this.#streaming.delete(sender);
    if (this.#senders.get(sender.key) === sender) this.#addressing -= sender.addressing;
    this.#senders.delete(sender);
  }

  /** Gives the engine output, up to a bulk read. */
  fill(): void {
    if (this.#engine.state !== "established") return;
    this.#fill();
    if (this.#streamRoom.isAwaited) this.#streamRoom.notifyAll();
  }

  #fill(): void {
    while (this.#engine.pendingOctets < SESSION_OUTPUT) {
      const sender = this.#turns.shift();
      if (sender === undefined) return;
      sender.inTurn = false;
      if (!this.#maySend(sender)) continue;
      this.#send(sender);
      this.#rouse(sender);
      this.#admitCrowded(sender.box);
    }
  }

  #maySend({ state, current, queue, streams, probing, outstanding }: Sender): boolean {
    if (state !== "ready") return false;
    if (current !== undefined) return true;
    const { first } = queue;
    const isFull = streams ? this.#streamsFull : this.#volatileFull;
    if (first === undefined || this.#paused || (first.seq === undefined && isFull)) return false;
    return probing === 0 || outstanding === 0;
  }

  /** Queues a sender that may send for its turn. */
  #rouse(sender: Sender): void {
    if (sender.inTurn || !this.#maySend(sender)) return;
    sender.inTurn = true;
    this.#turns.push(sender);
  }

  /** Sends a message, or part of a long one. */
  #send(sender: Sender): void {
    const { sessionId } = sender;
    if (sessionId === undefined) return;
    const message = sender.current?.message ?? sender.next();
    if (message === undefined) return;
    const { body, fields } = message.mail;
    let { current } = sender;
    if (current === undefined) {
      const { userRef, track, ephemeral, streamSize, fragmentation } = fields;
      this.#engine.beginMessage(sessionId, {
        userRef: this.#ids.id(userRef, message.mail.envelope.source, message.seq),
        track,
        acknowledgeImmediately: message.seq !== undefined || !sender.streams || this.#mayFillUp,
        doNotDeliverIfOffline: message.seq === undefined,
        ephemeral,
        streamSize,
        fragmentation,
      });
      sender.used = true;
      current = { message, at: 0 };
    }
    if (current.at < body.length) {
      this.#engine.data(sessionId, body.subarray(current.at, current.at + SESSION_OUTPUT));
      current.at += SESSION_OUTPUT;
    }
    if (current.at < body.length) {
      sender.current = current;
      return;
    }
    sender.current = undefined;
    // The engine has copied it, and a mailbox would give it again.
    if (message.alone) free(body.buffer);
    else if (message.seq === undefined) release(body);
    sender.outstanding += 1;
    const streamed = message.seq === undefined && sender.streams;
    this.#note(this.#engine.endMessage(sessionId), { sender, seq: message.seq, size: message.size, streamed });
  }

  /** Records a message in flight. */
  #note(number: number, sent: Sent): void {
    this.#sent.set(number, sent);
    if (sent.seq !== undefined) return;
    const counts = sent.streamed ? this.#streamedSent : this.#volatileSent;
    counts.octets += sent.size;
    counts.messages += 1;
  }

  /** Removes a message from those in flight. */
  #taken(number: number): Sent | undefined {
    const sent = this.#sent.get(number);
    this.#sent.delete(number);
    if (sent === undefined) return undefined;
    sent.sender.outstanding -= 1;
    if (sent.seq !== undefined) return sent;
    const isFull = () => (sent.streamed ? this.#streamsFull : this.#volatileFull);
    const wasFull = isFull();
    const counts = sent.streamed ? this.#streamedSent : this.#volatileSent;
    counts.octets -= sent.size;
    counts.messages -= 1;
    if (wasFull && !isFull()) for (const sender of this.#senders) this.#rouse(sender);
    return sent;
  }

  /** No mailbox's window bounds volatile messages, so as many may be in flight as from one mailbox. */
  get #volatileFull(): boolean {
    const { octets, messages } = this.#volatileSent;
    return octets >= SEND_WINDOW || messages >= SEND_WINDOW_MESSAGES;
  }

  /**
   * Whether what is streamed should be acknowledged at once, before too much is not. Otherwise the acknowledgement may
   * wait for what the device sends: nobody waits for it.
   */
  get #mayFillUp(): boolean {
    return !this.paced || this.#streamedSent.messages >= STREAM_UNACKNOWLEDGED / 4;
  }

  /** Whether too much that was streamed is not acknowledged. */
  get #streamsFull(): boolean {
    const { octets, messages } = this.#streamedSent;
    return messages >= STREAM_UNACKNOWLEDGED || (!this.paced && octets >= SEND_WINDOW);
  }

  /** Stops starting messages. */
  pause(): void {
    this.#paused = true;
  }

  /** Whether everything sent is acknowledged, and the mailboxes have been told. */
  get idle(): boolean {
    for (const { current } of this.#senders) if (current !== undefined) return false;
    return this.#sent.size === 0 && [...this.#consumed.values()].every(({ telling }) => !telling);
  }

  sessionState(sessionId: number, state: "ready" | "suspended"): void {
    const sender = this.#senders.of(sessionId);
    if (sender === undefined) return;
    const before = sender.state === "ready";
    sender.state = state;
    sender.suspendedAt = state === "ready" ? undefined : (sender.suspendedAt ?? Date.now());
    sender.box.changed(sender, before, state === "ready");
    if (state === "ready") this.#rouse(sender);
    else this.#hold(sender);
    this.#advance(sender.box);
  }

  /** Handles a suspended session: returns what is too much to wait here to the mailbox. */
  #hold(sender: Sender): void {
    const { box, current } = sender;
    for (const seq of sender.takeOff(box.allowance(sender))) box.setAside(seq, sender);
    if (current === undefined) return;
    let stuck = 0;
    for (const other of this.#senders) {
      if (other.state !== "ready" && other.current !== undefined) stuck += other.current.message.size;
    }
    if (stuck > STUCK_OCTETS) this.#breakOff(sender);
    // The message stays, but no longer counts against the mailbox's window.
    else if (current.message.seq !== undefined) box.draft.setAside(current.message.seq);
  }

  /** Ends a session in the middle of a message, the only way to abort one. The message is asked for again. */
  #breakOff(sender: Sender): void {
    const { sessionId, box } = sender;
    const message = this.#takeCurrent(sender);
    this.#over(sender);
    if (sessionId !== undefined) this.#engine.closeSession(sessionId, CloseReasonId.Idle);
    for (const seq of sender.takeOff()) box.setAside(seq, sender);
    if (message !== undefined) box.setAside(message, sender);
    box.askFor(sender);
  }

  /** Gives up the message being sent. Returns its number, unless it is volatile. */
  #takeCurrent(sender: Sender): number | undefined {
    const message = sender.current?.message;
    if (message === undefined) return undefined;
    sender.current = undefined;
    return message.seq;
  }

  /** Records that a sender has no session any more. */
  #over(sender: Sender): void {
    const before = sender.state === "ready";
    this.#senders.over(sender);
    sender.used = false;
    sender.suspendedAt = undefined;
    sender.box.changed(sender, before, false);
  }

  #dropVolatile(sender: Sender): void {
    this.#forgetVolatile(sender);
    this.#streamRoom.notifyAll();
  }

  #forgetVolatile(sender: Sender): void {
    let dropped = 0;
    while (sender.next() !== undefined) dropped += 1;
    if (dropped > 0) sender.box.draft.dropped(dropped);
  }

  /**
   * Handles a session that the device has refused or closed. By the reason, its unacknowledged messages are asked for
   * again, deferred, or left to the device's next connection. Other sessions continue.
   *
   * @param reasonId undefined if OpenResponse refused the session
   */
  sessionLost(sessionId: number, unacknowledged: readonly number[], reasonId?: number): void {
    const sender = this.#senders.of(sessionId);
    if (sender === undefined) return;
    const lost: number[] = [];
    for (const number of unacknowledged) {
      const sent = this.#taken(number);
      if (sent?.seq !== undefined) lost.push(sent.seq);
    }
    const broken = sender.current !== undefined;
    const current = this.#takeCurrent(sender);
    if (current !== undefined) lost.push(current);
    const { used } = sender;
    this.#over(sender);
    if (reasonId === undefined || FINAL.includes(reasonId)) this.#refused(sender, lost);
    else if (reasonId === CloseReasonId.QuotaWouldBeExceeded && lost.length > 0) {
      // The refused message may also have been a volatile one.
      const candidates = unacknowledged.length + (broken ? 1 : 0);
      this.#tooLarge(sender, lost, candidates);
    } else if (used && !broken && unacknowledged.length === 0) this.#reopen(sender);
    else this.#failed(sender, lost);
    this.#admitCrowded(sender.box);
    this.#advance(sender.box);
  }

  /** Handles a destination that the device refuses. */
  #refused(sender: Sender, lost: readonly number[]): void {
    const { box } = sender;
    const all = this.#waitingFor(sender, lost);
    if (this.#relay !== undefined) {
      // Its relay knows that the recipient will never have them.
      this.#skip(box, all, all.length);
      this.#dropVolatile(sender);
      box.askFor(sender);
      return;
    }
    for (const seq of all) box.decline(seq);
    for (const [from, to] of sender.aside) for (let seq = from; seq <= to; seq += 1) box.decline(seq);
    this.#dropVolatile(sender);
    this.#delete(sender);
    this.#declined.add(sender.key);
    if (this.#declined.size <= DECLINED_DESTINATIONS) return;
    const [oldest] = this.#declined;
    if (oldest !== undefined) this.#declined.delete(oldest);
  }

  /** What a sender's session was for: its messages here, or else the first that waits in the mailbox. */
  #waitingFor(sender: Sender, lost: readonly number[] = []): number[] {
    const here = [...lost, ...sender.takeOff()];
    const { first } = sender.aside;
    if (here.length > 0 || first === undefined) return here;
    sender.aside.delete(first);
    return [first];
  }

  /** Handles a message that is too large for the device. If several are candidates, they are sent one at a time. */
  #tooLarge(sender: Sender, lost: readonly number[], candidates: number): void {
    const { box } = sender;
    const [only] = lost;
    if (candidates > 1 || only === undefined) {
      sender.probing = Math.max(sender.probing, candidates);
      this.#askAgain(sender, lost);
      return;
    }
    sender.refusals += 1;
    sender.probing = Math.max(0, sender.probing - 1);
    box.refuse(only);
    if (sender.refusals < SESSION_REFUSALS) this.#reopen(sender);
    else this.#putOff(sender, []);
  }

  /** Handles a session that was closed although there was something to send. */
  #failed(sender: Sender, lost: readonly number[]): void {
    sender.failures += 1;
    if (sender.failures < SESSION_FAILURES) this.#askAgain(sender, lost);
    else this.#putOff(sender, lost);
  }

  /** Asks for all messages that wait for a sender, from the first unacknowledged one. */
  #askAgain(sender: Sender, lost: readonly number[]): void {
    const { box } = sender;
    for (const seq of [...lost, ...sender.takeOff()]) box.setAside(seq, sender);
    box.askFor(sender);
    this.#reopen(sender);
  }

  /** Sends nothing to a destination for a while. */
  #putOff(sender: Sender, lost: readonly number[]): void {
    const { box } = sender;
    for (const seq of [...lost, ...sender.takeOff()]) box.putOff(seq, sender);
    for (const [from, to] of sender.aside) for (let seq = from; seq <= to; seq += 1) box.draft.putOff(seq);
    this.#dropVolatile(sender);
    sender.until = Date.now() + LATER;
  }

  /** Opens a session for what waits here. Messages in the mailbox open one when they come. */
  #reopen(sender: Sender): void {
    const first = sender.queue.first;
    if (first !== undefined) this.#open(sender, first.mail);
  }

  /**
   * Handles a session whose recipients were all refused by their relay. Messages sent whole are acknowledged
   * nevertheless; an incomplete one is skipped, since it would be refused again.
   *
   * @param locked whether they were because the sender may not send to the recipient
   */
  nobodyLeft(sessionId: number, locked: boolean): void {
    const sender = this.#senders.of(sessionId);
    if (sender === undefined) return;
    if (locked && sender.streams) {
      this.#lockedOut.delete(sender.key);
      this.#lockedOut.set(sender.key, Date.now() + REFUSED_TIME);
      const [oldest] = this.#lockedOut.keys();
      if (oldest !== undefined && this.#lockedOut.size > DECLINED_DESTINATIONS) this.#lockedOut.delete(oldest);
      this.#dropVolatile(sender);
    }
    const current = this.#takeCurrent(sender);
    const { used, box } = sender;
    this.#over(sender);
    if (current !== undefined) this.#skip(box, [current], 0);
    else if (!used) {
      const passedOver = this.#waitingFor(sender);
      // The recipients have been counted one by one.
      this.#skip(box, passedOver, Math.max(0, passedOver.length - 1));
    }
    box.askFor(sender);
    this.#reopen(sender);
    this.#advance(box);
  }

  /** Counts recipients that their relay refused. The message itself is acknowledged nevertheless. */
  recipientsRefused(sessionId: number, count: number): void {
    this.#senders.of(sessionId)?.box.draft.recipients(count);
  }

  /** Settles messages that were not delivered. */
  #skip({ draft }: MailboxSubscription, messages: readonly number[], recipients: number): void {
    for (const seq of messages) draft.done(seq);
    draft.recipients(recipients);
  }

  /** Asks for messages that had no sender, if there is room for one. */
  #admitCrowded(box: MailboxSubscription): void {
    if (!box.isCrowded || !this.#hasRoom(this.#crowdedAddressing)) return;
    box.askForCrowded();
    this.#advance(box);
  }

  /** Whether a sender with so much addressing fits, if need be in place of idle ones. */
  #hasRoom(addressing: number): boolean {
    if (this.#fits(addressing)) return true;
    let left = this.#addressing;
    for (const sender of this.#senders) {
      if (!isReplaceable(sender)) continue;
      left -= sender.addressing;
      if (left === 0 || left + addressing <= LINK_ADDRESSING) return true;
    }
    return false;
  }

  acknowledged(numbers: readonly number[]): void {
    this.progressed ||= numbers.length > 0;
    const boxes = new Set<MailboxSubscription>();
    for (const number of numbers) {
      const sent = this.#taken(number);
      if (sent === undefined) continue;
      const { sender, seq } = sent;
      sender.failures = 0;
      sender.refusals = 0;
      if (sender.probing > 0) {
        sender.probing -= 1;
        this.#rouse(sender);
      }
      if (seq === undefined) continue;
      sender.box.draft.done(seq);
      boxes.add(sender.box);
    }
    // A sender whose messages are all acknowledged may make room for another, of any mailbox.
    for (const box of this.#consumed.values()) this.#admitCrowded(box);
    for (const box of boxes) this.#advance(box);
  }

  abandon(): void {
    for (const box of this.#consumed.values()) this.#host.waitUntil(this.#release(box).catch(() => undefined));
    this.#consumed.clear();
    this.#ceded.clear();
    this.#senders.clear();
    this.#streaming.clear();
    this.#addressing = 0;
    this.#turns.clear();
    this.#streamRoom.notifyAll();
  }

  /** Gives a mailbox back. The last acknowledgement often comes with the end of the connection and must not be lost. */
  async #release(box: MailboxSubscription): Promise<void> {
    const generation = await box.generation;
    const mailbox = this.#host.mailbox(box.peer);
    const draft = box.takeReport();
    if (!draft.isEmpty) await mailbox.acknowledge(generation, draft.toReport());
    // If a newer consumer has attached, this call changes nothing.
    await mailbox.detach(generation);
  }

  #tellAll(): void {
    for (const box of this.#consumed.values()) this.#advance(box);
  }

  /** Starts sending a pending report to the mailbox. */
  #advance(box: MailboxSubscription): void {
    if (!box.telling && !box.draft.isEmpty && this.#consumed.get(box.peer) === box) {
      this.#host.waitUntil(this.#tell(box));
    }
  }

  /** Reports to a mailbox, one call at a time, with all that is known each time. */
  async #tell(box: MailboxSubscription): Promise<void> {
    box.telling = true;
    try {
      // Acknowledgements of the same turn go in one call.
      await Promise.resolve();
      while (!box.draft.isEmpty && this.#consumed.get(box.peer) === box) {
        const generation = await box.generation;
        const report = box.takeReport().toReport();
        const told = await this.#calls.keep(this.#host.mailbox(box.peer).acknowledge(generation, report));
        if (told === undefined) this.#cede(box);
        else if (report.again !== undefined) {
          box.prune(told.position, this.#senders);
          // RPC types lose tuples.
          box.forget(told.gone as readonly Range[], this.#senders);
        }
      }
    } catch (error) {
      // The report was lost. The messages are sent again, and the device recognizes their ids.
      this.#fail(error);
    } finally {
      box.telling = false;
      this.#changed();
    }
  }

  /** Ends the connection when a call to a mailbox failed. The device comes again. */
  #fail(error: unknown): void {
    if (!noticeStorageFull(error)) logError(error);
    this.#engine.close(ConnectCloseReasonId.Resting);
  }

  /**
   * Opens a session. To an origin relay it is a fanout session of one hop, even for a single recipient
   * [MS-GRVSSTP 3.3.5.6.1].
   */
  #open(sender: Sender, { envelope }: Mail): void {
    if (this.#engine.state !== "established" || this.#paused) return;
    const { resourceURL, identityURL, deviceURL, entries } = envelope;
    if (this.#relay === undefined) {
      this.#senders.open(sender, this.#engine.open({ resourceURL, identityURL, deviceURL }));
      return;
    }
    const relayURL = this.#relay;
    const recipients = entries ?? [{ identityURL, deviceURL }];
    const addressing = { resourceURL, entries: recipients.map((entry) => ({ ...entry, relayURL })) };
    this.#senders.open(sender, this.#engine.openFanout(addressing));
  }
}

function isReplaceable({ isIdle, state }: Sender): boolean {
  return isIdle && state !== "opening";
}

/** Close reasons of a session that the device, or the relay, will never accept. */
const FINAL: readonly number[] = [
  CloseReasonId.DeviceAuthenticationFailed,
  CloseReasonId.UserAuthenticationFailed,
  CloseReasonId.EmptySession,
];

/**
 * The key of a session: messages of one mailbox with the same key share a session. An origin relay may suspend it for one
 * sender, so there each has its own.
 */
function keyOf(peer: string, { source, resourceURL, identityURL, deviceURL, entries }: Envelope): string {
  const sender = isRelay(peer) ? `${senderOf(source)}\n` : "";
  const key = `${peer}\n${sender}${resourceURL}\n${identityURL}\n${deviceURL}`;
  if (entries === undefined) return key;
  return [key, ...entries.flatMap((one) => [one.identityURL, one.deviceURL])].join("\n");
}

/** The same message, copied only if it is a small part of its bundle: a batch of streams is most of one. */
function keptOf(mail: Mail): Mail {
  return kept(mail.body) === mail.body ? mail : ownOf(mail);
}

/** Copies a message that is kept. In a bundle it is a view of a buffer that is soon unused. */
function ownOf({ envelope, fields, body }: Mail): Mail {
  const { fragmentation } = fields;
  return {
    envelope,
    fields: fragmentation ? { ...fields, fragmentation: new Uint8Array(fragmentation) } : fields,
    body: new Uint8Array(body),
  };
}
