/**
 * PlainStream: a stream that belongs to no peer, a Durable Object named by the stream's name.
 *
 *   Worker ── append ─► log (durable) ─► answer, and a ring to every reader that waits
 *   Worker ── read ─► what is there, or a doorbell
 *   a fork ── lend ─► this stream keeps its data for it, even when it is deleted
 *
 * A request is judged and stored in one synchronous turn, after all that it must wait for; the platform's output gate
 * holds the answer and the rings back until it is durable. Creation and deletion wait for calls to others, so they take
 * turns.
 *
 * A stream ends when it is deleted or has expired. What others must still be told, its source and its creator's
 * account, is stored until they have answered. Then the object has no storage, and so does not exist.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Principal } from "../../auth/principal.ts";
import { joinOctets } from "../../lib/octets.ts";
import { Turns } from "../../lib/read-write-lock.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { METER_TIMEOUT } from "../admission/limits.ts";
import { pieceFor } from "../admission/sender-account.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import { isStorageFull, noticeStorageFull } from "../disk-full.ts";
import { appendedHeaders, entityTag, type StreamState } from "../durable-streams/answers.ts";
import { DEFAULT_CONTENT_TYPE, isJson, isSameType, isText } from "../durable-streams/content-type.ts";
import { endOf, forkedLifetime, isSameLifetime } from "../durable-streams/expiry.ts";
import { asArray, type Messages, splitMessages } from "../durable-streams/json-mode.ts";
import { EVENTS_OCTETS, IDLE_SLACK, READ_OCTETS, RING_OCTETS, TICKET_TIME } from "../durable-streams/limits.ts";
import {
  forkedLineage,
  formatOffset,
  inheritedAt,
  newIncarnation,
  ownFrom,
  positionOf,
} from "../durable-streams/offset.ts";
import { judgeProducer, type ProducerState } from "../durable-streams/producer.ts";
import { offsetOf } from "../durable-streams/requests.ts";
import { wholeCharacters } from "../durable-streams/server-sent-events.ts";
import { hashOfTicket, newTicket } from "../durable-streams/tickets.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import type { Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { accountName } from "../rpc/meter-rpc.ts";
import {
  type AppendOrder,
  type Created,
  type CreateOrder,
  type Loan,
  type LoanWanted,
  type Metadata,
  ORDER,
  type Piece,
  type PlainStreamRpc,
  packRing,
  type ReadAnswer,
  type ReadOrder,
  type Stored,
  type StreamRefusal,
  type Ticket,
  unpackHeader,
} from "../rpc/plain-stream-rpc.ts";
import { answer, parked } from "../rpc/read-answers.ts";
import { producerRefusal, refused } from "../rpc/stream-refusals.ts";
import { CALL_TIMEOUT, FORK_CHECK, LEAVE_RETRY, MESSAGE_OCTETS, STREAM_OCTETS, STRETCHES } from "./limits.ts";
import { type Leaving, producerKey, type Run, type Stream, StreamStore } from "./stream-store.ts";

/** What is to be appended, as the stream stores it. */
type Content =
  | { readonly type: "octets"; readonly octets: Uint8Array }
  | { readonly type: "messages"; readonly messages: Messages };

export class PlainStream extends DurableObject<Env> implements PlainStreamRpc {
  readonly #store: StreamStore;
  /** When the stream ends unless it is used: exactly, and as stored. Milliseconds since 1970. */
  #ends = Number.POSITIVE_INFINITY;
  #storedEnd = Number.POSITIVE_INFINITY;
  /** Creation, deletion, and what follows a deletion. */
  readonly #turns = new Turns();
  /** Bytes that the creator's account has granted. */
  #reserved: number;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    this.#store = new StreamStore(storage.sql, (run) => storage.transactionSync(run));
    this.#storedEnd = Number(this.#store.fact("end") ?? Number.POSITIVE_INFINITY);
    this.#ends = this.#storedEnd;
    this.#reserved = Number(this.#store.fact("reserved") ?? 0);
  }

  get #name(): string {
    return this.ctx.id.name ?? "";
  }

  create(order: CreateOrder): Promise<Created> {
    return this.#turns.alone(async () => {
      const there = this.#current();
      if (there !== undefined) return there.deleted ? refused("DeletedButForked") : this.#repeated(order, there);
      if (isStorageFull()) return refused("StorageFull");
      const { leaving } = this.#store;
      // Both would be known to others by the same name.
      if (leaving !== undefined && !(await this.#leave(leaving))) return refused("InternalError");
      const { fork, owner } = order;
      const loan = fork === undefined ? undefined : await this.#borrow(order, fork);
      if (loan?.ok === false) return loan;
      const created = await this.#createWith(order, loan).catch((error: unknown) => {
        if (noticeStorageFull(error)) return refused("StorageFull");
        throw error;
      });
      if (!created.ok && (loan !== undefined || this.#reserved > 0)) {
        this.#reserved = 0;
        const source = fork && loan && { name: fork.name, incarnation: incarnationOf(loan) };
        await this.#leave({ source, owner });
      }
      return created;
    });
  }

  async #borrow(order: CreateOrder, fork: NonNullable<CreateOrder["fork"]>): Promise<Loan> {
    const { name, offset, beyond } = fork;
    // It does not exist, and to ask it would be to wait for oneself.
    if (name === this.#name) return refused("StreamNotFound");
    const wanted = { fork: this.#name, contentType: order.contentType, offset, beyond };
    const lend = async (): Promise<Loan> => this.env.PLAIN_STREAM.getByName(name).lend(wanted);
    return (await within(CALL_TIMEOUT, lend()))?.value ?? refused("InternalError");
  }

  async #createWith(order: CreateOrder, loan: Extract<Loan, { ok: true }> | undefined): Promise<Created> {
    const { body, owner, fork, closed } = order;
    const contentType = order.contentType ?? loan?.contentType ?? DEFAULT_CONTENT_TYPE;
    const content = contentOf(body, contentType);
    if ("ok" in content) return content;
    if (!(await this.#reserve(body.length, owner))) return refused("StreamQuota");
    const now = Date.now();
    const lifetime = loan === undefined ? order.lifetime : forkedLifetime(loan.lifetime, order.lifetime);
    const lineage = loan?.lineage ?? [{ name: this.#name, incarnation: newIncarnation(now, Math.random()), from: 0 }];
    const offsets = loan === undefined ? [] : [fork?.offset ?? loan.offset, loan.offset];
    const source = fork === undefined ? undefined : { name: fork.name, offsets, beyond: fork.beyond };
    const stream: Stream = { contentType, lifetime, lineage, closed, deleted: false, owner, fork: source };
    this.#store.together(() => {
      this.#store.create(stream);
      if (owner !== undefined) this.#store.setFact("reserved", String(this.#reserved));
      this.#append(content, now);
      this.#use(stream, now);
    });
    this.#count(body);
    this.#arm();
    return { ok: true, isNew: true, state: this.#state(stream) };
  }

  /** The answer to a PUT of a stream that exists. */
  #repeated({ contentType, lifetime, closed, fork }: CreateOrder, there: Stream): Created {
    const isSame =
      (contentType === undefined || isSameType(contentType, there.contentType)) &&
      closed === there.closed &&
      (isSameLifetime(lifetime, there.lifetime) || (fork !== undefined && lifetime.type === "endless")) &&
      fork?.name === there.fork?.name &&
      (fork?.offset === undefined || there.fork?.offsets.includes(fork.offset) === true) &&
      (fork?.beyond ?? 0) === (there.fork?.beyond ?? 0);
    return isSame ? { ok: true, isNew: false, state: this.#state(there) } : refused("StreamDiffers");
  }

  async append(order: AppendOrder): Promise<Stored> {
    try {
      const before = this.#current();
      if (before !== undefined && !(await this.#reserve(order.body.length, before.owner))) {
        return refused("StreamQuota");
      }
      // What others have done meanwhile counts.
      const stream = this.#found();
      return "ok" in stream ? stream : this.#judgeAndStore(order, stream, Date.now());
    } catch (error) {
      if (noticeStorageFull(error)) return refused("StorageFull");
      throw error;
    }
  }

  #judgeAndStore(order: AppendOrder, stream: Stream, now: number): Stored {
    const { body, closes, contentType, producer, sequence } = order;
    if (stream.closed) return this.#appendedToClosed(order, stream);
    if (contentType !== undefined && !isSameType(contentType, stream.contentType)) return refused("ContentTypeDiffers");
    const known = producer && this.#store.producer(order.source, producer.id);
    const verdict = producer === undefined ? undefined : judgeProducer(known, producer);
    if (verdict?.type === "duplicate") {
      this.#noteUse(stream, now);
      return this.#stored(stream, true, verdict.state);
    }
    const wrong = producer && verdict && producerRefusal(verdict, producer);
    if (wrong !== undefined) return wrong;
    if (sequence !== undefined && stream.sequence !== undefined && sequence <= stream.sequence) {
      return refused("SequenceConflict");
    }
    const content = contentOf(body, stream.contentType);
    if ("ok" in content) return content;
    if (content.type === "messages" && content.messages.ends.length === 0 && body.length > 0)
      return refused("EmptyAppend");
    if (isStorageFull()) return refused("StorageFull");
    const from = formatOffset(stream.lineage, this.#store.tail);
    const isFull = this.#store.together(() => {
      if (producer !== undefined && verdict?.type === "accepted") {
        if (known === undefined && !this.#store.hasRoomForProducer(order.source, now)) return true;
        this.#store.setProducer(order.source, producer.id, verdict.state, now);
      }
      this.#append(content, now);
      const closedBy = producer && { ...producer, id: producerKey(order.source, producer.id) };
      const closing = closes && { closed: true, closedBy };
      if (closes || sequence !== undefined) {
        this.#store.change({ ...closing, ...(sequence !== undefined && { sequence }) });
      }
      this.#use(stream, now);
      return false;
    });
    if (isFull) return refused("TooManyProducers");
    this.#count(body);
    const after = this.#store.stream ?? stream;
    this.#ring(after, from, content);
    return this.#stored(after, false, verdict?.type === "accepted" ? verdict.state : undefined);
  }

  /** A repeat of what closed the stream is no error, and neither is to close it again [PROTOCOL 5.2, 5.2.1]. */
  #appendedToClosed({ body, closes, producer, source }: AppendOrder, stream: Stream): Stored {
    const by = stream.closedBy;
    const isRepeat =
      producer !== undefined &&
      by?.id === producerKey(source, producer.id) &&
      by.epoch === producer.epoch &&
      by.seq === producer.seq;
    if (isRepeat) return this.#stored(stream, true, { epoch: producer.epoch, seq: producer.seq });
    if (closes && body.length === 0 && producer === undefined) return this.#stored(stream, true, undefined);
    const { next } = this.#state(stream);
    return { ...refused("StreamClosed"), headers: appendedHeaders(next, true, undefined) };
  }

  #stored(stream: Stream, isDuplicate: boolean, producer: ProducerState | undefined): Stored {
    const { next, closed } = this.#state(stream);
    return { ok: true, isDuplicate, next, closed, producer };
  }

  async metadata(): Promise<Metadata> {
    const stream = this.#found();
    if ("ok" in stream) return stream;
    return { ok: true, state: { ...this.#state(stream), lifetime: stream.lifetime } };
  }

  remove(): Promise<StreamRefusal | { readonly ok: true }> {
    return this.#turns.alone(async () => {
      const stream = this.#found();
      if ("ok" in stream) return stream;
      const leaving = this.#end(stream, "StreamNotFound");
      if (leaving !== undefined) await this.#leave(leaving);
      return { ok: true };
    });
  }

  async issueTicket(principal: Principal): Promise<Ticket> {
    const stream = this.#found();
    if ("ok" in stream) return stream;
    if (isStorageFull()) return refused("StorageFull");
    const ticket = newTicket();
    const now = Date.now();
    const isKept = this.#store.together(() => this.#store.addTicket(hashOfTicket(ticket), principal, now));
    return isKept ? { ok: true, ticket, expires: now + TICKET_TIME } : refused("TooManyTickets");
  }

  async redeemTicket(ticket: string): Promise<Principal | undefined> {
    if (this.#current() === undefined) return undefined;
    return this.#store.redeemTicket(hashOfTicket(ticket), Date.now());
  }

  async lend({ fork, contentType, offset, beyond }: LoanWanted): Promise<Loan> {
    const stream = this.#current();
    if (stream === undefined) return refused("StreamNotFound");
    if (stream.deleted) return refused("DeletedButForked");
    if (contentType !== undefined && !isSameType(contentType, stream.contentType)) return refused("ContentTypeDiffers");
    const { lineage } = stream;
    const anchor = positionOf(lineage, offset === undefined ? "now" : offsetOf(offset), this.#store.tail);
    if (anchor === undefined) return refused("ForkBeyondEnd");
    // An inherited part is one piece of data, whose inner boundaries only its stream knows.
    const boundary = inheritedAt(lineage, anchor)?.end ?? this.#store.boundaryAfter(anchor);
    const position = anchor + beyond;
    if (beyond > 0 && (boundary === undefined || position > boundary)) return refused("ForkBeyondEnd");
    const incarnation = newIncarnation(Date.now(), Math.random(), lineage);
    const forked = forkedLineage(lineage, position, { name: fork, incarnation });
    if (forked.length > STRETCHES) return refused("ForkTooDeep");
    this.#store.together(() => this.#store.addFork(fork, incarnation));
    const { lifetime } = stream;
    return {
      ok: true,
      contentType: stream.contentType,
      lifetime,
      lineage: forked,
      offset: formatOffset(lineage, anchor),
    };
  }

  async giveBack(fork: string, incarnation: number): Promise<void> {
    const stream = this.#store.stream;
    if (stream === undefined) return;
    this.#store.removeFork(fork, incarnation);
    if (!stream.deleted || this.#store.forks().length > 0) return;
    const leaving = this.#destroy(stream);
    // Not awaited: a chain of streams would have to be deleted within the time for one call.
    this.ctx.waitUntil(this.#turns.alone(() => this.#leave(leaving)));
  }

  async isFork(incarnation: number): Promise<boolean> {
    const { lineage } = this.#store.stream ?? {};
    return lineage !== undefined && lineage[lineage.length - 1]?.incarnation === incarnation;
  }

  async piece(incarnation: number, from: number, end: number, limit: number): Promise<Piece | undefined> {
    const stream = this.#store.stream;
    if (stream === undefined || !(await this.isFork(incarnation))) return undefined;
    const { runs, next } = this.#store.read(from, end, limit, isJson(stream.contentType));
    return { runs, next };
  }

  /** A read: see `rpc/plain-stream-rpc.ts`. */
  override async fetch(request: Request): Promise<Response> {
    const order = unpackHeader<ReadOrder>(request.headers.get(ORDER));
    const stream = this.#found();
    if ("ok" in stream) return answer(stream);
    const { lineage } = stream;
    const found = positionOf(lineage, offsetOf(order.offset), this.#store.tail);
    if (found === undefined && !order.resumes) return answer(refused("OffsetGone"));
    const reset = found === undefined;
    const from = found ?? 0;
    this.#noteUse(stream, Date.now());
    const limit = order.events ? EVENTS_OCTETS : READ_OCTETS;
    const inherited = await this.#inherited(stream, from, limit);
    if (inherited === undefined) return answer(refused("InternalError"));
    // From here on, nothing can change until the answer is made.
    const now = this.#store.stream;
    if (now === undefined || now.lineage !== stream.lineage) return answer(refused("StreamNotFound"));
    const run = this.#withOwn(inherited, now, limit);
    const upToDate = run.next === this.#store.tail;
    const whole = bodyOf(run.runs, now);
    // An event must not end within a character, unless nothing more will come.
    const cuts = order.events && isText(now.contentType) && !isJson(now.contentType) && !(now.closed && upToDate);
    const length = cuts ? wholeCharacters(whole) : whole.length;
    const reached = run.next - (whole.length - length);
    const next = formatOffset(lineage, reached);
    const began = formatOffset(lineage, from);
    const etag = order.offset === "now" ? undefined : entityTag(began, next, now.closed && upToDate);
    const answered: ReadAnswer = {
      ok: true,
      state: { contentType: now.contentType, next, closed: now.closed, upToDate, etag },
      isText: isText(now.contentType),
      from: began,
      isEmpty: reached === from,
      notModified: etag !== undefined && order.etag === etag,
      reset,
    };
    if (answered.notModified) return answer(answered);
    if (order.live && answered.isEmpty && upToDate && !now.closed) return parked(this.ctx, answered);
    return answer(answered, length === whole.length ? whole : whole.subarray(0, length));
  }

  /** What was inherited, and after it what the stream itself has stored, up to the length of one read. */
  #withOwn(inherited: Run, { lineage, contentType }: Stream, limit: number): Run {
    const { next, octets } = inherited;
    if (next < ownFrom(lineage) || octets >= limit) return inherited;
    const own = this.#store.read(next, Number.MAX_SAFE_INTEGER, limit - octets, isJson(contentType));
    return { runs: [...inherited.runs, ...own.runs], octets: octets + own.octets, next: own.next };
  }

  /** A reader is gone. The platform has closed its socket. */
  override webSocketClose(): void {}

  override webSocketError(): void {}

  override async alarm(): Promise<void> {
    await this.#turns.alone(async () => {
      const stream = this.#current();
      const { leaving } = this.#store;
      if (leaving !== undefined) await this.#leave(leaving);
      else if (stream?.deleted === true) await this.#checkForks(stream);
      this.#arm();
    });
  }

  /** Forgets forks that do not exist: one whose call was lost has not said that it was not created. */
  async #checkForks(stream: Stream): Promise<void> {
    for (const [name, incarnation] of this.#store.forks()) {
      const asked = this.env.PLAIN_STREAM.getByName(name).isFork(incarnation);
      const exists = await within(CALL_TIMEOUT, asked).catch(logError);
      if (exists !== undefined && !exists.value) this.#store.removeFork(name, incarnation);
    }
    if (this.#store.forks().length === 0) await this.#leave(this.#destroy(stream));
  }

  /** What a fork has of its sources, from a position to at most where its own part begins. Undefined if it is lost. */
  async #inherited({ lineage, contentType }: Stream, from: number, limit: number): Promise<Run | undefined> {
    const runs: Uint8Array[] = [];
    let [octets, next] = [0, from];
    for (let stretch = inheritedAt(lineage, next); stretch !== undefined; stretch = inheritedAt(lineage, next)) {
      const { name, incarnation, end } = stretch;
      const asked = this.env.PLAIN_STREAM.getByName(name).piece(incarnation, next, end, limit - octets);
      const piece = (await within(CALL_TIMEOUT, asked))?.value;
      if (piece === undefined || piece.next <= next) {
        logError(new Error(`${isJson(contentType) ? "messages" : "bytes"} that a fork has inherited are not there`));
        return undefined;
      }
      runs.push(...piece.runs);
      octets += piece.runs.reduce((sum, { length }) => sum + length, 0);
      next = piece.next;
      if (octets >= limit) break;
    }
    return { runs, octets, next };
  }

  #append(content: Content, now: number): void {
    if (content.type === "octets") this.#store.appendOctets(content.octets, now);
    else this.#store.appendMessages(content.messages, now);
  }

  /** Counts a body that was stored; none if it is empty, as that of what only creates or closes. */
  #count(body: Uint8Array): void {
    if (body.length === 0) return;
    counters.count("plainStreamAppends", "");
    counters.count("plainStreamBytes", "", body.length);
    sendSoon(this.ctx, this.env);
  }

  /** Tells all readers that wait what was appended. */
  #ring(stream: Stream, from: string, content: Content): void {
    const sockets = this.ctx.getWebSockets();
    if (sockets.length === 0) return;
    const { next, closed } = this.#state(stream);
    const octets = content.type === "octets" ? content.octets : content.messages.octets;
    // What begins or ends within a character of a text must be read, with what is before and after it.
    const isCut = isText(stream.contentType) && (isContinuation(octets[0]) || wholeCharacters(octets) < octets.length);
    const whole = octets.length <= RING_OCTETS && !isCut;
    const body = whole ? bodyOf([octets], stream) : new Uint8Array(0);
    const ring = packRing({ from, next, closed, whole }, body);
    for (const socket of sockets) socket.send(ring);
  }

  #state({ contentType, lineage, closed }: Stream): StreamState {
    return { contentType, next: formatOffset(lineage, this.#store.tail), closed };
  }

  /** The stream, unless it does not exist or was deleted. */
  #found(): Stream | StreamRefusal {
    const stream = this.#current();
    if (stream === undefined) return refused("StreamNotFound");
    return stream.deleted ? refused("StreamDeleted") : stream;
  }

  /** The stream, deleted or not, unless it has expired. */
  #current(): Stream | undefined {
    const stream = this.#store.stream;
    if (stream === undefined || stream.deleted || Date.now() < this.#ends) return stream;
    const leaving = this.#end(stream, "StreamNotFound");
    if (leaving !== undefined) this.ctx.waitUntil(this.#turns.alone(() => this.#leave(leaving)));
    return this.#store.stream;
  }

  /** Ends a stream. While it has forks, its data is kept for them. */
  #end(stream: Stream, reason: Reason): Leaving | undefined {
    for (const socket of this.ctx.getWebSockets()) socket.close(BELL_CLOSE.refused, reason);
    if (this.#store.forks().length === 0) return this.#destroy(stream);
    this.#store.together(() => this.#store.change({ deleted: true }));
    this.#arm();
    return undefined;
  }

  #destroy({ fork, lineage, owner }: Stream): Leaving {
    const source = fork === undefined ? undefined : { name: fork.name, incarnation: incarnationOf({ lineage }) };
    const leaving = { source, owner };
    this.#store.together(() => this.#store.clear(leaving));
    [this.#ends, this.#storedEnd, this.#reserved] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0];
    return leaving;
  }

  /** Tells others that a stream has ended; if they do not answer, the alarm tells them. Call it in turn. */
  async #leave({ source, owner }: Leaving): Promise<boolean> {
    const isTold = async () => {
      if (source !== undefined) {
        const told = this.env.PLAIN_STREAM.getByName(source.name).giveBack(this.#name, source.incarnation);
        if ((await within(CALL_TIMEOUT, told)) === undefined) return false;
      }
      if (owner !== undefined && this.#store.stream === undefined) await this.#account(owner, { needed: 0, wanted: 0 });
      return true;
    };
    const told = await isTold().catch((error: unknown) => {
      logError(error);
      return false;
    });
    if (!told) {
      await this.ctx.storage.setAlarm(Date.now() + LEAVE_RETRY);
      return false;
    }
    this.#store.removeFact("leaving");
    if (this.#store.stream === undefined) {
      await this.ctx.storage.deleteAll();
      this.#store.forget();
    }
    return true;
  }

  /**
   * Sees that the creator's account has room for this much more.
   *
   * @returns false if it has none, or the stream would be longer than an object can be
   */
  async #reserve(octets: number, owner: string | undefined): Promise<boolean> {
    const needed = this.ctx.storage.sql.databaseSize + octets;
    if (needed > STREAM_OCTETS) return false;
    if (owner === undefined || needed <= this.#reserved) return true;
    const wanted = pieceFor(needed);
    // An account that fails keeps nobody from writing: it adds up what is stored when it is asked again.
    const granted = await this.#account(owner, { needed, wanted }).catch((error: unknown) => {
      logError(error);
      return wanted;
    });
    if (granted === undefined) return false;
    this.#reserved = granted;
    if (this.#store.stream !== undefined) this.#store.setFact("reserved", String(granted));
    return true;
  }

  /** Rejects if the account does not answer. */
  async #account(owner: string, room: { needed: number; wanted: number }): Promise<number | undefined> {
    const account = this.env.METER.getByName(accountName(`streams:${owner}`));
    const asked = account.reserve(`stream:${this.#name}`, { ...room, stored: room.needed === 0 });
    const answered = await within(METER_TIMEOUT, asked);
    if (answered === undefined) throw new Error("the account of a stream's creator does not answer");
    return answered.value?.octets;
  }

  /**
   * Notes that the stream was read or written. Writes that only if what is stored would end it too early. A later end is
   * found when the alarm for the first one rings.
   */
  #use({ lifetime }: Stream, now: number): void {
    this.#ends = endOf(lifetime, now);
    if (this.#ends <= this.#storedEnd && this.#storedEnd !== Number.POSITIVE_INFINITY) return;
    if (this.#ends === Number.POSITIVE_INFINITY) return;
    const slack = lifetime.type === "idle" ? lifetime.seconds * 1000 * IDLE_SLACK : 0;
    const stored = this.#ends + slack;
    this.#store.setFact("end", String(stored));
    // Only now: what a full disk has refused must be written at the next use.
    this.#storedEnd = stored;
  }

  /** Notes a use that stores nothing else: a full disk does not prevent it. */
  #noteUse(stream: Stream, now: number): void {
    try {
      this.#use(stream, now);
    } catch (error) {
      if (!noticeStorageFull(error)) throw error;
    }
  }

  #arm(): void {
    const stream = this.#store.stream;
    const at = stream?.deleted === true ? Date.now() + FORK_CHECK : this.#storedEnd;
    if (stream !== undefined && at !== Number.POSITIVE_INFINITY) this.ctx.waitUntil(this.ctx.storage.setAlarm(at));
  }
}

/** A body as the stream stores it, or why it cannot. */
function contentOf(body: Uint8Array, contentType: string): Content | StreamRefusal {
  if (!isJson(contentType)) return { type: "octets", octets: body };
  if (body.length === 0) return { type: "messages", messages: { octets: body, ends: [] } };
  const messages = splitMessages(body);
  if (messages === undefined) return refused("MalformedJson");
  let start = 0;
  for (const end of messages.ends) {
    if (end - start > MESSAGE_OCTETS) return refused("AppendTooLong");
    start = end + 1;
  }
  return { type: "messages", messages };
}

function bodyOf(runs: readonly Uint8Array[], { contentType }: Stream): Uint8Array<ArrayBuffer> {
  if (isJson(contentType)) return asArray(runs);
  return joinOctets(
    runs,
    runs.reduce((sum, { length }) => sum + length, 0),
  );
}

function incarnationOf({ lineage }: Pick<Stream, "lineage">): number {
  return lineage[lineage.length - 1]?.incarnation ?? 0;
}

/** Whether a byte of UTF-8 is not the first of its character. */
function isContinuation(octet = 0): boolean {
  return (octet & 0xc0) === 0x80;
}
