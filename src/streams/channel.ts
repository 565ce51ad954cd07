/**
 * One end of a sealed channel between two devices, for either side. Uses no socket, clock or random source: bodies of
 * packets, calls of the application and the time go in; packets, events and the next deadline come out.
 *
 * The order of records is kept by their numbers. What is lost is noticed by a gap, by silence, or by a new path, and is
 * asked for by `resume`, which also says where the asking side is; so records are sent again from there. Of a record
 * after a gap only its acknowledgement, `resume` and `close` count, because these do not depend on what is missing.
 *
 * @module
 */
import { free } from "../lib/octets.ts";
import { Queue } from "../lib/queue.ts";
import type { Result } from "../lib/result.ts";
import { type CreditPool, ReceiveWindow } from "./credit.ts";
import { DATA_HEADER, type Frame, isServiceName, RECORD_OVERHEAD, RecordReader, RecordWriter } from "./frame.ts";
import { type Agreement, Handshake, type HandshakeOptions } from "./handshake.ts";
import { KeptPool } from "./kept-pool.ts";
import {
  ACKNOWLEDGE_AFTER,
  ACKNOWLEDGE_OCTETS,
  FIRST_ROUND_TRIP,
  HANDSHAKE_TIME,
  KEEP_ALIVE,
  KEPT_OCTETS,
  KEPT_RECORDS,
  PROBE_AFTER,
  PROBE_LIMIT,
  RESERVE,
  TURN,
  UNSENT,
  WAITING_RESETS,
} from "./limits.ts";
import { encodeNotice, encodePacket, KIND, RECORD_HEADER } from "./packet.ts";
import { type Reason, reasonOf, Violation } from "./reasons.ts";
import { PacketMemory, PLAIN, type RecordSealer, recordNumber, Sealer, SendLog, sealRecord } from "./records.ts";
import { Stream } from "./stream.ts";

export interface ChannelOptions extends HandshakeOptions {
  /** Names the channel in packets: 32 random bits of the initiator. */
  readonly route: number;
  /** The device's, shared by all its channels. */
  readonly pool: CreditPool;
  /** Names whose streams count together in the pool. */
  readonly peer: string;
  /** Milliseconds of the monotonic clock that all calls use. */
  readonly now: number;
  /**
   * Whether the owner copies packets before its next call, so that their memory is used again once they are acknowledged.
   * Default false: they are never changed.
   */
  readonly copiesPackets?: boolean | undefined;
  /** Silence after which a channel with streams sends a ping, in milliseconds; default KEEP_ALIVE. */
  readonly keepAlive?: number | undefined;
  /** Octets of the peer that are acknowledged at once; default ACKNOWLEDGE_OCTETS. Less waits for ACKNOWLEDGE_AFTER. */
  readonly acknowledgeOctets?: number | undefined;
  /** What is kept to be sent, and sent again, in octets. Default: what a device can keep. */
  readonly kept?: KeptBounds | undefined;
  /** What all channels of the device may keep together. Default: this one is alone. */
  readonly keptPool?: KeptPool | undefined;
}

/** Bounds of what one side keeps for sending, in octets. */
export interface KeptBounds {
  /** Of one stream, before it is sealed. */
  readonly unsent: number;
  /** Sealed and not acknowledged, for each stream that there is. */
  readonly ofStream: number;
  /** The same for all streams together. */
  readonly ofAll: number;
}

const DEVICE_BOUNDS: KeptBounds = { unsent: UNSENT, ofStream: KEPT_OCTETS, ofAll: KEPT_OCTETS };

/** How a channel ended. `edge`: a notice says so, which anybody on the way can write. */
export interface Ended {
  readonly reason: Reason;
  readonly by: "self" | "peer" | "edge";
}

export type ChannelEvent =
  /** The peer has proved its key and, to the responder, that it is here now. */
  | { readonly type: "established"; readonly peerKey: Uint8Array }
  /** The peer opens a stream: call `accept` or `reset`. Its first data may follow at once. */
  | { readonly type: "opened"; readonly stream: number; readonly service: string }
  /** The peer has accepted a stream that this side opened. */
  | { readonly type: "accepted"; readonly stream: number }
  /** There is data or the end: call `read` until it returns undefined or "end"; then this event may come again. */
  | { readonly type: "readable"; readonly stream: number }
  /** `room` was 0 or less, and is enough again. */
  | { readonly type: "writable"; readonly stream: number }
  /** Both directions have ended in order. The stream is gone. */
  | { readonly type: "finished"; readonly stream: number }
  /** The stream is gone, in both directions, with what was unread and unsent. */
  | { readonly type: "reset"; readonly stream: number; readonly reason: Reason }
  /**
   * The channel is over, and its streams were `reset`. Only streams that both sides have ended stay until they are
   * read, if the peer has closed the channel because it was idle there.
   */
  | ({ readonly type: "ended" } & Ended);

/** What a channel has met on its way. */
export interface ChannelStats {
  /** Records that had been received before. */
  readonly old: number;
  /** Records after a gap. */
  readonly gaps: number;
  /** Records before their keys, and handshake messages and notices after them. */
  readonly ignored: number;
  /** Records sent again. */
  readonly resent: number;
}

/** A call that the state of a stream forbids. */
export class StreamStateError extends Error {
  constructor(problem: string) {
    super(problem);
    this.name = "StreamStateError";
  }
}

/** Records are composed in one call each, so all channels share the memory. */
const writer = new RecordWriter();

/** Reasons of notices that are believed once there are keys: who can write them can also just cut the way. */
const UNSEALED: readonly Reason[] = ["ChannelUnknown", "TokenEnded"];

/** Doublings of the probe interval that are counted: beyond, it is at its limit. */
const BACK_OFF_LIMIT = 16;

/**
 * The engine of one channel.
 *
 * Call `attach` when there is a path to the peer, and again for each new one; pass the bodies of packets with this
 * channel's route to `receive`, and call `advance` at `deadline`. After each call of whatever kind take `events`, and
 * while the path has room send what `output` returns: the later, the fuller the records. Send whole packets in order.
 *
 * Received octets never make a call throw. Calls on a stream that is gone have no effect, since the event that says so
 * may not have been handled yet.
 */
export class StreamChannel {
  readonly #options: ChannelOptions;
  readonly #bounds: KeptBounds;
  readonly #keptPool: KeptPool;
  readonly #initiator: boolean;
  readonly #handshake: Pick<Handshake, "message" | "agreement" | "receive">;
  #handshakeDue = false;
  #agreement: Agreement | undefined;
  #sealer: RecordSealer | undefined;
  #opener: RecordSealer | undefined;
  /** Whether a record of the peer was received: both have the keys, and the handshake is no replay. */
  #isConfirmed = false;

  readonly #memory = new PacketMemory();
  readonly #log: SendLog;
  /** Number of the next record to send: sealed before, or `#log.next`. */
  #cursor = 0;
  /** Number of the next record to receive. */
  #expected = 0;
  #lastEliciting = -1;
  /** Number of the last `resume` of the peer that was obeyed. Each is obeyed once, so replaying it gains nothing. */
  #lastResume = -1;

  #isAttached = false;
  /** After `attach`: nothing is sent until the peer has said what it has. */
  #isWaiting = false;
  #pingDue = false;
  #resumeDue = false;
  #resumeUnanswered = false;
  /** When the last one was sent. */
  #askedAt = Number.NEGATIVE_INFINITY;
  #acknowledgeNow = false;
  #acknowledgeAt = Number.POSITIVE_INFINITY;
  #unacknowledged = 0;
  #probeAt = Number.POSITIVE_INFINITY;
  #backOff = 0;
  /** Since when the peer should have been heard; undefined if it owes nothing. */
  #silentSince: number | undefined;
  #lastActive: number;
  #roundTrip: number | undefined;
  #timed: { readonly number: number; readonly at: number } | undefined;

  readonly #streams = new Map<number, Stream>();
  /** Streams with data and credit, or an end, to seal; they take turns. */
  readonly #ready = new Set<Stream>();
  /** Streams whose credit is to be announced. */
  readonly #credits = new Set<Stream>();
  /** Opens and resets to seal, in order. */
  readonly #control = new Queue<Frame>();
  #nextLocal: number;
  #nextRemote: number;

  #events: ChannelEvent[] = [];
  #ended: Ended | undefined;
  /** The last packets of an ended channel. */
  #closing: Uint8Array[] = [];
  #now: number;
  readonly #stats = { old: 0, gaps: 0, ignored: 0, resent: 0 };

  /**
   * A new channel, without a path. The responder's gets the hello by `receive`.
   *
   * @param handshake for tests of what follows a handshake
   */
  constructor(
    options: ChannelOptions,
    handshake: Pick<Handshake, "message" | "agreement" | "receive"> = new Handshake(options),
  ) {
    this.#options = options;
    this.#keptPool = options.keptPool ?? new KeptPool();
    this.#log = new SendLog((packet) => {
      this.#keptPool.release(packet.length);
      if (options.copiesPackets === true) this.#memory.giveBack(packet);
    });
    this.#bounds = options.kept ?? DEVICE_BOUNDS;
    this.#initiator = options.role === "initiator";
    this.#handshake = handshake;
    this.#nextLocal = this.#initiator ? 1 : 2;
    this.#nextRemote = this.#initiator ? 2 : 1;
    this.#now = options.now;
    this.#lastActive = options.now;
  }

  // ---------------------------------------------------------------------------------------------------------- state

  /** Names the channel in packets. */
  get route(): number {
    return this.#options.route;
  }

  /** The peer's static key; undefined before it is proven. */
  get peerKey(): Uint8Array | undefined {
    return this.#agreement?.peerKey;
  }

  /** Whether only a peer with the key that was known before can answer. */
  get isPinned(): boolean {
    return this.#options.peerKey !== undefined;
  }

  /** How the channel ended; undefined while it has not. */
  get ended(): Ended | undefined {
    return this.#ended;
  }

  /** Number of streams. */
  get streams(): number {
    return this.#streams.size;
  }

  /** The measured round trip in milliseconds; a guess before there is one. */
  get roundTrip(): number {
    return this.#roundTrip ?? FIRST_ROUND_TRIP;
  }

  /** What was counted so far. */
  get stats(): ChannelStats {
    return { ...this.#stats };
  }

  /** Whether there is no stream, and the peer has everything: the channel may be closed as `Closed` without loss. */
  get isIdle(): boolean {
    return this.#streams.size === 0 && this.#control.size === 0 && !this.#isOwed;
  }

  // ------------------------------------------------------------------------------------------------ octets and time

  /** There is a path to the peer, or a new one. What was sent on an earlier one may be lost. */
  attach(now: number): void {
    this.#now = now;
    if (this.#ended !== undefined) return;
    this.#isAttached = true;
    if (!this.#isConfirmed && this.#initiator) this.#handshakeDue = this.#handshake.message !== undefined;
    this.#isWaiting = this.#log.next > 0 || this.#expected > 0;
    this.#resumeDue = this.#isWaiting;
    this.#timed = undefined;
    this.#backOff = 0;
    this.#probeAt = this.#isWaiting ? now + this.#probeTime() : Number.POSITIVE_INFINITY;
  }

  /** The path is lost. */
  detach(now: number): void {
    this.#now = now;
    if (!this.#isAttached) return;
    this.#isAttached = false;
    this.#silentSince ??= now;
  }

  /** Handles the body of a packet, which is not kept: its memory may be used again. */
  receive(body: Uint8Array, now: number): void {
    this.#now = now;
    if (this.#ended !== undefined) return;
    try {
      if (body[0] === KIND.record) this.#receiveRecord(body);
      else if (body[0] === KIND.notice) this.#receiveNotice(body);
      else this.#receiveHandshake(body);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#finish(error.reason, "self");
    }
  }

  /** Fires due timers. */
  advance(now: number): void {
    this.#now = now;
    if (this.#ended !== undefined) return;
    if (now >= this.#endDeadline()) {
      this.#finish(this.#isConfirmed ? "ResumeTimeout" : "HandshakeTimeout", "self");
      return;
    }
    if (now >= this.#acknowledgeAt) this.#acknowledgeSoon(0);
    if (!this.#isAttached) return;
    if (now >= this.#probeAt) this.#probe();
    if (now >= this.#keepAliveDeadline()) this.#pingDue = true;
  }

  /** When to call `advance` at the latest; Infinity for never. */
  get deadline(): number {
    if (this.#ended !== undefined) return Number.POSITIVE_INFINITY;
    if (!this.#isAttached) return this.#endDeadline();
    return Math.min(this.#endDeadline(), this.#acknowledgeAt, this.#probeAt, this.#keepAliveDeadline());
  }

  /** Takes the events since the last call. */
  events(): ChannelEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Whether `output` would return anything. */
  get isPending(): boolean {
    if (!this.#isAttached) return false;
    if (this.#ended !== undefined) return this.#closing.length > 0;
    if (this.#handshakeDue) return true;
    if (!this.#maySeal) return false;
    if (this.#resumeDue) return !this.#isCrowded;
    if (this.#isWaiting) return false;
    if (this.#cursor < this.#log.next) return true;
    if (this.#isCrowded) return false;
    if (this.#pingDue || this.#acknowledgeNow) return true;
    return !this.#isFull && (this.#control.size > 0 || this.#credits.size > 0 || this.#ready.size > 0);
  }

  /** Takes packets until they have `most` octets or more, at most one packet more; none without a path. */
  output(most: number, now: number): Uint8Array[] {
    this.#now = now;
    const packets: Uint8Array[] = [];
    for (let octets = 0; octets < most; ) {
      const packet = this.isPending ? this.#nextPacket() : undefined;
      if (packet === undefined) break;
      packets.push(packet);
      octets += packet.length;
    }
    if (packets.length > 0) this.#lastActive = now;
    return packets;
  }

  // -------------------------------------------------------------------------------------------------------- streams

  /**
   * Opens a stream to a service of the peer. Data may be written at once. Returns the stream, or why there is none.
   *
   * @throws RangeError if the text is no name of a service
   */
  open(service: string): Result<number, Reason> {
    if (!isServiceName(service)) throw new RangeError("a service is named by 1 to 255 visible ASCII characters");
    if (this.#ended !== undefined) return { ok: false, problems: this.#ended.reason };
    if (!this.#options.pool.enter(this.#options.peer)) return { ok: false, problems: "TooManyStreams" };
    const stream = this.#add(this.#nextLocal, true);
    this.#nextLocal += 2;
    this.#control.push({ type: "open", stream: stream.id, service });
    return { ok: true, value: stream.id };
  }

  /** Accepts a stream that the peer has opened. */
  accept(id: number): void {
    const stream = this.#streams.get(id);
    if (stream !== undefined) this.#credits.add(stream);
  }

  /** How many octets `read` would return at least, in one call or several, before the end. */
  unread(id: number): number {
    return this.#streams.get(id)?.received.length ?? 0;
  }

  /**
   * Takes up to `most` octets that have arrived, "end" if the peer has half-closed and all was read, or undefined if
   * there is nothing now. The octets may be a view of larger memory.
   */
  read(id: number, most: number, now: number): Uint8Array | "end" | undefined {
    this.#now = now;
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    const octets = stream.received.take(most);
    if (octets !== undefined) {
      if (stream.window.consume(octets.length, now, this.roundTrip) && !stream.isReceiveEnded) {
        this.#credits.add(stream);
      }
      return octets;
    }
    stream.isReadable = false;
    if (!stream.isReceiveEnded) return undefined;
    stream.isReadToEnd = true;
    this.#finishStream(stream);
    return "end";
  }

  /** How many octets should be written at most; at 0 or less wait for `writable`. */
  room(id: number): number {
    return this.#streams.get(id)?.room ?? 0;
  }

  /**
   * Writes octets, which are not copied: do not change them. All are taken, whatever `room` is.
   *
   * @param isGiven whether nobody else uses them any more: their memory is freed when they are sealed, since the garbage
   *   collector would come too often for it
   * @throws StreamStateError after `end`
   */
  write(id: number, octets: Uint8Array, isGiven = false): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if (stream.isSendEnded) throw new StreamStateError("the stream is half-closed: write before calling end");
    stream.unsent.push(octets);
    if (isGiven && octets.length === octets.buffer.byteLength) stream.given.add(octets.buffer);
    if (stream.room <= 0) stream.isFull = true;
    if (stream.isReady) this.#ready.add(stream);
  }

  /** Half-closes a stream: after what was written the peer reads the end. */
  end(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.isSendEnded = true;
    if (stream.isReady) this.#ready.add(stream);
  }

  /** Ends both directions of a stream at once. What is unread or unsent at either end is lost. */
  reset(id: number, reason: Reason = "ConnectionReset"): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#drop(stream);
    this.#sendReset(id, reason);
  }

  /** Ends the channel and resets its streams. Notifies the peer, if there is a path. */
  close(reason: Reason = "Closed"): void {
    this.#finish(reason, "self");
  }

  // -------------------------------------------------------------------------------------------------------- sending

  /** Whether records may be sealed: the responder waits until the initiator has shown that it is here. */
  get #maySeal(): boolean {
    return this.#sealer !== undefined && (this.#initiator || this.#isConfirmed);
  }

  /** Whether the peer owes an acknowledgement. */
  get #isOwed(): boolean {
    return this.#lastEliciting >= this.#log.acknowledged;
  }

  /** Whether so much is unacknowledged that no data is sealed. */
  get #isFull(): boolean {
    const { ofStream, ofAll } = this.#bounds;
    const most = Math.min(ofAll, ofStream * Math.max(1, this.#streams.size));
    const { octets, size } = this.#log;
    return octets >= most || size >= KEPT_RECORDS || !this.#keptPool.hasRoom(octets);
  }

  /** Whether so much is unacknowledged that nothing is sealed. */
  get #isCrowded(): boolean {
    return this.#log.size >= 2 * KEPT_RECORDS;
  }

  #nextPacket(): Uint8Array | undefined {
    if (this.#ended !== undefined) return this.#closing.shift();
    if (this.#handshakeDue) {
      this.#handshakeDue = false;
      if (this.#initiator && this.#probeAt === Number.POSITIVE_INFINITY) this.#probeAt = this.#now + this.#probeTime();
      return encodePacket(this.route, this.#handshake.message as Uint8Array);
    }
    if (this.#resumeDue) {
      this.#resumeDue = false;
      this.#resumeUnanswered = true;
      this.#askedAt = this.#now;
      writer.begin(this.#expected);
      writer.append({ type: "resume" });
      return this.#seal();
    }
    if (this.#cursor < this.#log.next) {
      this.#stats.resent += 1;
      this.#cursor += 1;
      return this.#log.at(this.#cursor - 1);
    }
    writer.begin(this.#expected);
    if (this.#pingDue) {
      this.#pingDue = false;
      writer.append({ type: "ping" });
    }
    if (!this.#isFull) this.#compose();
    return writer.empty && !this.#acknowledgeNow ? undefined : this.#seal();
  }

  /** Fills a record. */
  #compose(): void {
    for (let frame = this.#control.first; frame !== undefined && writer.append(frame); frame = this.#control.first) {
      this.#control.shift();
    }
    for (const stream of this.#credits) {
      if (!writer.append({ type: "credit", stream: stream.id, limit: stream.window.limit })) break;
      this.#credits.delete(stream);
    }
    // Data must not overtake the frame that opens its stream.
    if (this.#control.size > 0) return;
    for (const stream of this.#ready) {
      // Room for an octet and an end.
      if (writer.room < 2 * DATA_HEADER) return;
      this.#ready.delete(stream);
      this.#composeData(stream, this.#ready.size === 0 ? Number.POSITIVE_INFINITY : TURN);
      if (stream.isReady) this.#ready.add(stream);
    }
  }

  #composeData(stream: Stream, most: number): void {
    const length = Math.min(stream.sendable, writer.room - DATA_HEADER, most);
    if (length > 0) {
      const pieces = stream.unsent.take(length);
      writer.data(stream.id, pieces, length);
      for (const { buffer, byteOffset, length: taken } of pieces) {
        if (byteOffset + taken === buffer.byteLength && stream.given.delete(buffer)) free(buffer);
      }
      stream.sent += length;
      this.#tellOfRoom(stream);
    }
    if (stream.isReady && stream.sendable === 0 && writer.append({ type: "end", stream: stream.id })) {
      stream.isEndSealed = true;
      this.#finishStream(stream);
    }
  }

  /** Seals what was written, and keeps it. */
  #seal(): Uint8Array {
    const number = this.#log.next;
    const packet = sealRecord(this.#sealer as RecordSealer, this.route, number, writer.contents, this.#memory);
    if (!writer.empty) {
      this.#lastEliciting = number;
      this.#silentSince ??= this.#now;
      if (this.#probeAt === Number.POSITIVE_INFINITY) this.#probeAt = this.#now + this.#probeTime();
      this.#timed ??= { number, at: this.#now };
    }
    this.#log.push(packet);
    this.#keptPool.take(packet.length);
    // A resume is sent before records that are to be sent again, and once more in its turn.
    if (this.#cursor === number) this.#cursor = number + 1;
    this.#acknowledgeNow = false;
    this.#acknowledgeAt = Number.POSITIVE_INFINITY;
    this.#unacknowledged = 0;
    return packet;
  }

  // ------------------------------------------------------------------------------------------------------ receiving

  #receiveHandshake(body: Uint8Array): void {
    if (this.#isConfirmed) {
      this.#stats.ignored += 1;
      return;
    }
    if (this.#handshake.receive(body)) this.#handshakeDue = true;
    const { agreement } = this.#handshake;
    if (agreement === undefined || this.#agreement !== undefined) return;
    const { suite, keys, refusal } = agreement;
    this.#agreement = agreement;
    this.#sealer = suite === undefined ? PLAIN : new Sealer(suite, keys.send);
    this.#opener = suite === undefined ? PLAIN : new Sealer(suite, keys.receive);
    if (refusal !== undefined) throw new Violation(refusal);
    if (!this.#initiator) return;
    // The first record proves that this handshake is no replay.
    this.#pingDue = true;
    this.#probeAt = Number.POSITIVE_INFINITY;
    this.#backOff = 0;
    this.#events.push({ type: "established", peerKey: agreement.peerKey });
  }

  /** Believes a notice only where the peer may have no keys, or no way to the edge, and could not say it otherwise. */
  #receiveNotice(body: Uint8Array): void {
    const reason = reasonOf(body[1] ?? 0);
    if (this.#agreement === undefined || UNSEALED.includes(reason)) this.#finish(reason, "edge");
    else this.#stats.ignored += 1;
  }

  #receiveRecord(body: Uint8Array): void {
    if (this.#opener === undefined) {
      this.#stats.ignored += 1;
      return;
    }
    const number = recordNumber(body);
    if (number === undefined) throw new Violation("ForgedRecord");
    if (number < this.#expected) {
      this.#stats.old += 1;
      return;
    }
    const contents = this.#opener.open(number, body.subarray(RECORD_HEADER));
    if (contents === undefined) throw new Violation("ForgedRecord");
    const reader = new RecordReader(contents);
    if (reader.received > this.#log.next) throw new Violation("AcknowledgedUnsent");
    const isInTurn = number === this.#expected;
    if (isInTurn) {
      this.#expected += 1;
      this.#opener.reach(number);
      this.#resumeUnanswered = false;
    } else this.#noteGap();
    this.#heard(reader.received);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      if (frame.type === "close") {
        this.#finish(frame.reason, "peer");
        return;
      }
      if (frame.type === "resume") this.#resume(number);
      else if (isInTurn) this.#handle(frame, contents.length);
      // The peer has waited in vain: what was asked for is lost again, or the question is.
      else if (frame.type === "ping" && this.#now - this.#askedAt >= PROBE_AFTER) this.#resumeDue = true;
      this.#acknowledgeSoon(frame.type === "ping" ? 0 : ACKNOWLEDGE_AFTER);
    }
    this.#unacknowledged += body.length;
    const most = this.#options.acknowledgeOctets ?? ACKNOWLEDGE_OCTETS;
    if (this.#unacknowledged >= most) this.#acknowledgeSoon(0);
  }

  #noteGap(): void {
    this.#stats.gaps += 1;
    if (!this.#resumeUnanswered) this.#resumeDue = true;
  }

  /** A genuine record says what the peer has received. */
  #heard(received: number): void {
    this.#lastActive = this.#now;
    if (!this.#isConfirmed) {
      this.#isConfirmed = true;
      this.#handshakeDue = false;
      if (!this.#initiator) this.#events.push({ type: "established", peerKey: this.peerKey as Uint8Array });
    }
    if (received > this.#log.acknowledged) {
      if (this.#timed !== undefined && received > this.#timed.number) {
        const sample = this.#now - this.#timed.at;
        // The gain of RFC 6298: steady, and follows a change of path within some round trips.
        this.#roundTrip = this.#roundTrip === undefined ? sample : this.#roundTrip + (sample - this.#roundTrip) / 8;
        this.#timed = undefined;
      }
      this.#log.acknowledge(received);
      this.#cursor = Math.max(this.#cursor, received);
      this.#backOff = 0;
      this.#probeAt = Number.POSITIVE_INFINITY;
    }
    // If the peer still owes something, the next question sets it again.
    this.#silentSince = undefined;
    if (this.#isOwed && this.#probeAt === Number.POSITIVE_INFINITY) this.#probeAt = this.#now + this.#probeTime();
    this.#isWaiting = false;
  }

  /** Sends again what the peer has not received. */
  #resume(number: number): void {
    if (number <= this.#lastResume) return;
    this.#lastResume = number;
    this.#cursor = this.#log.acknowledged;
    this.#timed = undefined;
    this.#acknowledgeSoon(0);
  }

  #handle(frame: Frame, recordOctets: number): void {
    switch (frame.type) {
      case "open":
        this.#opened(frame.stream, frame.service);
        break;
      case "data": {
        const stream = this.#streamOf(frame.stream);
        if (stream === undefined) break;
        if (stream.isReceiveEnded) throw new Violation("DataAfterEnd");
        if (!stream.window.receive(frame.data.length)) throw new Violation("CreditExceeded");
        stream.received.push(frame.data, recordOctets, frame.data.length + RECORD_OVERHEAD === recordOctets);
        this.#tellReadable(stream);
        break;
      }
      case "credit": {
        const stream = this.#streamOf(frame.stream);
        if (stream === undefined) break;
        if (frame.limit < stream.limit) throw new Violation("CreditWithdrawn");
        stream.limit = frame.limit;
        if (stream.isProposed) {
          stream.isProposed = false;
          this.#events.push({ type: "accepted", stream: stream.id });
        }
        if (stream.isReady) this.#ready.add(stream);
        this.#tellOfRoom(stream);
        break;
      }
      case "end": {
        const stream = this.#streamOf(frame.stream);
        if (stream === undefined) break;
        if (stream.isReceiveEnded) throw new Violation("DataAfterEnd");
        stream.isReceiveEnded = true;
        this.#tellReadable(stream);
        break;
      }
      case "reset": {
        const stream = this.#streamOf(frame.stream);
        if (stream === undefined) break;
        this.#drop(stream);
        this.#events.push({ type: "reset", stream: stream.id, reason: frame.reason });
        break;
      }
    }
  }

  #opened(id: number, service: string): void {
    if (id !== this.#nextRemote) throw new Violation("UnknownStream");
    this.#nextRemote += 2;
    if (this.#options.pool.enter(this.#options.peer)) {
      this.#add(id, false);
      this.#events.push({ type: "opened", stream: id, service });
    } else this.#sendReset(id, "TooManyStreams");
  }

  /** Undefined for a stream that is gone: the peer may not know yet. */
  #streamOf(id: number): Stream | undefined {
    const next = id % 2 === this.#nextLocal % 2 ? this.#nextLocal : this.#nextRemote;
    if (id >= next || id === 0) throw new Violation("UnknownStream");
    return this.#streams.get(id);
  }

  // --------------------------------------------------------------------------------------------------------- timers

  /** Acknowledges after at most so many milliseconds. */
  #acknowledgeSoon(after: number): void {
    if (after > 0 && !this.#acknowledgeNow) this.#acknowledgeAt = Math.min(this.#acknowledgeAt, this.#now + after);
    if (after > 0) return;
    this.#acknowledgeNow = true;
    this.#acknowledgeAt = Number.POSITIVE_INFINITY;
  }

  #probeTime(): number {
    return Math.max(PROBE_AFTER, 3 * this.roundTrip);
  }

  /** The peer has not acknowledged in time: asks it, ever less often. */
  #probe(): void {
    this.#backOff = Math.min(this.#backOff + 1, BACK_OFF_LIMIT);
    const after = this.#probeTime();
    this.#probeAt = this.#now + Math.min(after * 2 ** this.#backOff, Math.max(after, PROBE_LIMIT));
    if (!this.#isConfirmed) this.#handshakeDue = this.#initiator && this.#handshake.message !== undefined;
    if (this.#sealer === undefined) return;
    if (this.#isWaiting || this.#resumeUnanswered) this.#resumeDue = true;
    else this.#pingDue = true;
  }

  #keepAliveDeadline(): number {
    if (!this.#isConfirmed || this.#streams.size === 0 || this.#pingDue || this.#isOwed)
      return Number.POSITIVE_INFINITY;
    return this.#lastActive + (this.#options.keepAlive ?? KEEP_ALIVE);
  }

  #endDeadline(): number {
    if (!this.#isConfirmed) return this.#options.now + HANDSHAKE_TIME;
    if (this.#silentSince === undefined) return Number.POSITIVE_INFINITY;
    return this.#silentSince + (this.#agreement?.resumeTime ?? 0);
  }

  // ---------------------------------------------------------------------------------------------- beginning and end

  #add(id: number, isProposed: boolean): Stream {
    const { pool, peer } = this.#options;
    const stream = new Stream(id, new ReceiveWindow(pool, peer, this.#now), isProposed, this.#bounds.unsent);
    this.#streams.set(id, stream);
    return stream;
  }

  #drop(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#ready.delete(stream);
    this.#credits.delete(stream);
    stream.window.close();
  }

  #finishStream(stream: Stream): void {
    if (!stream.isFinished) return;
    this.#drop(stream);
    this.#events.push({ type: "finished", stream: stream.id });
  }

  #sendReset(id: number, reason: Reason): void {
    this.#control.push({ type: "reset", stream: id, reason });
    if (this.#control.size > WAITING_RESETS) this.#finish("TooManyResets", "self");
  }

  #tellReadable(stream: Stream): void {
    if (stream.isReadable) return;
    stream.isReadable = true;
    this.#events.push({ type: "readable", stream: stream.id });
  }

  /** Half a reserve is worth waking the application for. */
  #tellOfRoom(stream: Stream): void {
    if (!stream.isFull || stream.room < RESERVE / 2) return;
    stream.isFull = false;
    this.#events.push({ type: "writable", stream: stream.id });
  }

  #finish(reason: Reason, by: Ended["by"]): void {
    if (this.#ended !== undefined) return;
    if (by === "self") this.#closing = this.#closingPackets(reason);
    this.#ended = { reason, by };
    for (const stream of this.#streams.values()) {
      // Nothing is missing but that the application reads what has arrived.
      if (by === "peer" && reason === "Closed" && stream.isReceiveEnded && stream.isEndSealed) continue;
      this.#drop(stream);
      this.#events.push({ type: "reset", stream: stream.id, reason });
    }
    this.#control.clear();
    this.#log.clear();
    this.#events.push({ type: "ended", reason, by });
  }

  /** Tells the peer why: sealed, once there are keys. */
  #closingPackets(reason: Reason): Uint8Array[] {
    if (this.#sealer === undefined) return [encodeNotice(this.route, reason)];
    const { message } = this.#handshake;
    const handshake = this.#handshakeDue && message !== undefined ? [encodePacket(this.route, message)] : [];
    writer.begin(this.#expected);
    writer.append({ type: "close", reason });
    return [...handshake, sealRecord(this.#sealer, this.route, this.#log.next, writer.contents)];
  }
}
