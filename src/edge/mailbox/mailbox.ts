/**
 * Mailbox: the durable queue of one peer. The object is named by the peer's URL and is the only owner of what waits for
 * it.
 *
 *   Tunnel of a sender ── append(batch) ─► log (durable) ─► acknowledgement
 *   log ── deliver(messages), within a window ─► Tunnel of the consumer ── acknowledge(report) ─► off the log
 *
 * A long message for a quick consumer is held, not stored, in the hope that its acknowledgement comes first. Its sender gets
 * an answer when it is off the log or on the disk, and none if it is lost with the object's memory.
 *
 * A mailbox has one consumer, fenced by generation. A Tunnel becomes the consumer in two calls: `attach` gives it a
 * generation; `ready` makes it the consumer if it still wants to be and no newer one has attached. Where nothing waits and
 * nobody consumes, the first call is enough. After that, calls with an older generation are ignored. An identity has several devices: when the consumer leaves, the previous one is
 * recalled.
 *
 * The object may be evicted at any await. The log, the consumer and the generation are in SQLite. The position of the
 * consumer is not: unacknowledged messages are sent again, and the Tunnel drops the ones it has by sequence number. An
 * alarm, set whenever a consumer should be reading, recovers whatever else was lost.
 *
 * The mailbox registers in the directory before it stores anything, and unregisters after it has deleted everything: a
 * mailbox that the directory does not list does not exist. An unused mailbox deletes itself. If it is created again,
 * its numbers start above the time and above the highest number that the directory has recorded, so none is reused.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import type { Principal } from "../../auth/principal.ts";
import { Condition } from "../../lib/condition.ts";
import { release } from "../../lib/octets.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { inboxIn, isInboxURL, isRelay } from "../../sstp/index.ts";
import { Patience } from "../../store-and-forward/consumer-timeout.ts";
import { type Drop, type DropCounts, noDrops } from "../../store-and-forward/drop-reasons.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { senderOf } from "../../store-and-forward/sender-share.ts";
import { isNewerSchema } from "../../store-and-forward/stored-version.ts";
import { sendSoon } from "../collector/send-metrics.ts";
import { isStorageFull, noticeStorageFull } from "../disk-full.ts";
import { appendedHeaders } from "../durable-streams/answers.ts";
import { TICKET_TIME } from "../durable-streams/limits.ts";
import { judgeProducer, type ProducerState } from "../durable-streams/producer.ts";
import { hashOfTicket, type KeptTicket, newTicket, OwnersTickets } from "../durable-streams/tickets.ts";
import type { Env } from "../env.ts";
import { logError, logReason } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import { ABSENT, objectStates } from "../metrics/object-states.ts";
import { allowedLink } from "../origin/relay-access.ts";
import { ACKNOWLEDGE_SECONDS, readAcknowledgeTime } from "../policy/acknowledge-time.ts";
import { KEEP_SECONDS, readKeepTime } from "../policy/keep-time.ts";
import { parseQuota } from "../policy/quota-setting.ts";
import { EVERYONE, formatSenderRule, maySend, parseSenderRule, type SenderRule } from "../policy/sender-rule.ts";
import { HAND_TIMEOUT } from "../rpc/deadlines.ts";
import type { DeliveryReport } from "../rpc/delivery-report.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type { Reach } from "../rpc/link-rpc.ts";
import {
  type Acknowledged,
  type Appended,
  type AppendTerms,
  type Attached,
  type ConsumerRpc,
  type Delivery,
  type Held,
  type MailboxRpc,
  type MailboxStatus,
  type MailboxTerms,
  NO_NUMBERS,
  type Outcome,
  type Posted,
  type PostOrder,
  type Refusal,
  type Room,
  type SenderRpc,
  type Streaming,
  type Taken,
  type Wanted,
  type Withdrawal,
} from "../rpc/mailbox-rpc.ts";
import { contentsOf, envelopeAt, type MessageBatch, pack, unpack } from "../rpc/message-batch.ts";
import { accountName } from "../rpc/meter-rpc.ts";
import {
  type Created,
  type Metadata,
  ORDER,
  type ReadOrder,
  type Ticket,
  unpackHeader,
} from "../rpc/plain-stream-rpc.ts";
import { answer } from "../rpc/read-answers.ts";
import { producerRefusal, refused } from "../rpc/stream-refusals.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { Consumption } from "./consumer.ts";
import { HttpReaders } from "./http-readers.ts";
import {
  AHEAD_PATIENCE,
  CALL_TIMEOUT,
  CONSUMER_CHECK,
  CUT_PAUSE,
  DELIVER_TIMEOUT,
  EMPTY_TIME,
  ENTER_PAUSE,
  ENTER_TIMEOUT,
  FORMER_CONSUMERS,
  FULL_PAUSE,
  HOLD_PAUSE,
  HOLD_TIME,
  HUNG_TIME,
  LONG_BODY_OCTETS,
  NEW_PAUSE,
  RETRY_PAUSES,
  ROOM_RETRY,
  SETTLE_PAUSE,
  SIGN_TIMEOUT,
  UNRESERVED,
  WATCH_INTERVAL,
} from "./limits.ts";
import { MailboxStore, type Sql, type Terms } from "./mailbox-store.ts";
import { NO_ID } from "./producer-store.ts";
import { type ReservingMailbox, SenderAccounts } from "./reservations.ts";
import { RoomWaiters, type Waits } from "./room-waiters.ts";
import { StreamTerms } from "./stream-terms.ts";

interface Consumer {
  readonly tunnel: string;
  readonly generation: number;
}

export class Mailbox extends DurableObject<Env> implements MailboxRpc {
  readonly #store: MailboxStore;
  /** Set if a newer release has written this mailbox. */
  readonly #newer: Error | undefined;
  #consumer: Consumer | undefined;
  /** Former consumers that are still connected and would consume it again, newest last. */
  #former: readonly string[];
  #consumption: Consumption;
  readonly #patience: Patience;
  readonly #asking = new DeadlinePool(SIGN_TIMEOUT);
  readonly #waiters: RoomWaiters;
  readonly #accounts: SenderAccounts;
  /** Senders that were suspended here because their account has no room. */
  readonly #overdrawn = new Set<string>();
  /** Room notifications are under way. */
  #telling = false;
  readonly #roomCalls = new DeadlinePool(CALL_TIMEOUT);
  #cutting = false;
  /** Notified when the consumer was sent more, has taken more, or has changed. */
  readonly #taken = new Condition();
  /** Notified when less may be held. */
  readonly #durable = new Condition();
  #watchingHeld = false;
  /** When messages may be held again. */
  #holdAgainAt = 0;
  readonly #deliveries = new DeadlinePool(DELIVER_TIMEOUT);
  readonly #handing = new DeadlinePool(HAND_TIMEOUT);
  /** The consumer that timed out on a message with flag D, and until when it is skipped for such messages. */
  #hung: { readonly consumer: Consumer; readonly until: number } | undefined;
  /** The consumer being pushed to. A call to a former consumer may hang and must not hold up the next one. */
  #pushing: Consumer | undefined;
  #locked: boolean;
  #senders: SenderRule;
  readonly #terms: StreamTerms;
  readonly #readers: HttpReaders;
  #tickets: OwnersTickets;
  /** Whether the directory lists this mailbox, and the calls under way to it. */
  #entered: boolean;
  #entering: Promise<void> | undefined;
  #leaving: Promise<unknown> | undefined;
  /** This instance has entered it, and has not yet asked the accounts of its first senders. */
  #isNew = false;
  /** The highest number that a deleted mailbox has used, according to the directory. */
  #used = 0;
  /** When the alarm is set for, as far as this instance knows. */
  #alarmAt: number | undefined;
  #failedDeliveries = 0;
  /** Drops not yet written to a table. The next write includes them. */
  #untold = noDrops();
  /** The oldest message that waits, as last reported, and the position then; null if none waited. */
  #observed: { readonly oldest: number | null; readonly position: number };

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    // If a setting is malformed, the edge serves no request.
    const keepTime = readKeepTime(env.KEEP_TIME ?? "");
    const open = (sql: Sql) =>
      new MailboxStore(sql, (run) => storage.transactionSync(run), {
        firstNumber: () => this.#firstNumber(),
        quota: parseQuota(env.QUOTA ?? ""),
        keep: { time: keepTime.ok ? keepTime.value : KEEP_SECONDS * 1000 },
      });
    try {
      this.#store = open(storage.sql);
    } catch (error) {
      if (!(error instanceof Error && isNewerSchema(error))) throw error;
      // Its rows are left alone, and every call is refused with this reason.
      this.#newer = error;
      this.#store = open(NO_ROWS);
      tellNewer(this.#peer, error);
    }
    this.#waiters = new RoomWaiters(this.#store);
    this.#accounts = new SenderAccounts(this.#reserving());
    this.#consumer = this.#kept<Consumer>("consumer");
    this.#former = this.#kept<string[]>("former") ?? [];
    this.#consumption = new Consumption(this.#store);
    const read = readAcknowledgeTime(env.ACKNOWLEDGE_TIME ?? "");
    const acknowledgeTime = read.ok ? read.value : ACKNOWLEDGE_SECONDS * 1000;
    this.#patience = new Patience(acknowledgeTime, this.#kept("held"), this.#kept("benched"));
    this.#locked = this.#store.fact("locked") === "1";
    const senders = this.#store.fact("senders");
    this.#senders = senders === undefined ? EVERYONE : parseSenderRule(senders);
    this.#tickets = new OwnersTickets(this.#kept<KeptTicket[]>("tickets"));
    this.#entered = this.#store.fact("entered") !== undefined;
    this.#terms = new StreamTerms(this.#store);
    this.#readers = new HttpReaders(this.#peer, this.#store, this.#terms, context);
    this.#observed = { oldest: this.#store.waiting().oldest ?? null, position: this.#store.position };
  }

  /**
   * Appends messages in order, and returns the refused ones. Messages that it does not return are stored durably, unless
   * they are held.
   *
   * @param from name of the object that brings them, if it can suspend the sessions they came on; otherwise what
   *   exceeds the sender's share is refused
   * @throws Error if what they follow is lost
   */
  async append(bundle: MessageBatch, from?: string, { hold, after }: AppendTerms = {}): Promise<Appended> {
    if (this.#newer !== undefined) return { refusals: asNewer(bundle) };
    const admitted = await this.#admit(bundle);
    if (after !== undefined && after !== this.#store.run) throw new Error(LOST);
    if (admitted === undefined) return { refusals: this.#turnAway(bundle) };
    const before = this.#store.last;
    const mayHold = hold === true && from !== undefined && !isRelay(from) && this.#mayHold(bundle);
    const outcomes = this.#append(bundle, { reserve: from !== undefined, hold: mayHold }, admitted);
    const held = this.#heldAfter(before);
    const waits = from !== undefined && !isRelay(from) && isLong(bundle, outcomes.length) && held === undefined;
    const suspended = from === undefined ? [] : this.#suspends(bundle, outcomes, from, admitted.drains);
    // Before the next await: the answer is valid only until then.
    const suspend = suspended.length > 0 && { suspend: this.#store.last, suspended };
    const appended = { refusals: refusalsOf(outcomes), ...suspend, ...(held && { held }) };
    await this.#appended(outcomes, before);
    // Its bytes may be gone by now.
    if (waits) await this.#untilTaken(bundle);
    return appended;
  }

  async whenDurable({ run, upTo }: Held): Promise<number> {
    for (;;) {
      if (run !== this.#store.run) throw new Error(LOST);
      const first = this.#store.held?.number ?? this.#store.last + 1;
      if (first > upTo) return first - 1;
      await this.#durable.wait();
    }
  }

  /**
   * Whether a long message may be held until its recipient has acknowledged it, which spares the disk twice its bytes. Not
   * from a relay or for one, which have many senders and recipients, and not if the last one was held for too long.
   */
  #mayHold({ envelopes }: MessageBatch): boolean {
    const now = Date.now();
    if (this.#consumer === undefined || this.#isRelay || now < this.#holdAgainAt) return false;
    return this.#consumption.isClose(now) && !envelopes.some(({ source }) => isRelay(source));
  }

  /** What an append has had held, if anything. Starts to watch for how long. */
  #heldAfter(before: number): Held | undefined {
    const { run, held, last } = this.#store;
    if (run === undefined || held === undefined || last === before) return undefined;
    this.#watchHeld(HOLD_TIME);
    return { run, upTo: last };
  }

  #watchHeld(milliseconds: number): void {
    if (this.#watchingHeld) return;
    this.#watchingHeld = true;
    setTimeout(() => {
      this.#watchingHeld = false;
      const { held } = this.#store;
      // Nothing waits, or it is lost.
      if (held === undefined) return this.#durable.notifyAll();
      const now = Date.now();
      // The platform has no clock that cannot be set back.
      const left = Math.min(HOLD_TIME, held.at + HOLD_TIME - now);
      if (left > 0) return this.#watchHeld(left);
      this.#holdAgainAt = now + HOLD_PAUSE;
      this.#spill();
    }, milliseconds);
  }

  /** Writes what is held. If that fails, it is lost, and its senders send it again. */
  #spill(): void {
    try {
      this.#store.spill();
    } catch (error) {
      if (!noticeStorageFull(error)) logError(error);
    }
    this.#durable.notifyAll();
  }

  /**
   * Waits for what must be known before messages are stored: that the directory lists the mailbox, and that the sender's
   * account has room. Returns undefined if the directory does not answer.
   */
  async #admit(bundle: MessageBatch): Promise<Admitted | undefined> {
    if (!this.#entered && !(await this.#mayKeep())) return undefined;
    const over = !this.#covers(bundle) && !(await this.#accounts.reserve(bundle));
    // A consumer that drains gets everything, no faster than it drains.
    const drains = over && this.#accounts.drains(bundle);
    return { over: over && !drains, drains };
  }

  /** Counts what was refused, and sets to work what follows an append. */
  async #appended(outcomes: readonly Outcome[], before: number): Promise<void> {
    this.#countRefused(outcomes);
    this.#count("StorageFull", outcomes.filter((outcome) => outcome === "full").length);
    this.#count("DuplicateMessage", outcomes.filter((outcome) => outcome === "duplicate").length);
    this.#count("QuotaWouldBeExceeded", outcomes.filter((outcome) => outcome === "quota").length);
    this.#count("MessageTooLong", outcomes.filter((outcome) => outcome === "tooLong").length);
    if (this.#store.last > before) this.#readers.ring(before);
    this.#observe();
    this.#watchConsumer();
    await this.#setAlarm();
    this.#push();
    this.#call();
  }

  async post(order: PostOrder): Promise<Posted> {
    const { bundle, source, producer, sequence, closes } = order;
    if (this.#newer !== undefined) return refused("NewerSchema");
    const admitted = bundle === undefined ? SOME_ROOM : await this.#admit(bundle);
    if (admitted === undefined) {
      if (bundle !== undefined) this.#turnAway(bundle);
      return { ok: false, reason: "refused", refused: { at: 0, outcome: "notEntered" } };
    }
    if (closes) while (!this.#entered) await this.#enter();
    // From here on, nothing can change until it is stored.
    const now = Date.now();
    this.#endIfDue(now);
    if (this.#terms.closed) return this.#postedToClosed(order);
    const { producers } = this.#store;
    const verdict = producer && judgeProducer(producers.state(source, producer.id), producer);
    if (verdict?.type === "duplicate") return this.#posted(true, verdict.state);
    const wrong = producer && verdict && producerRefusal(verdict, producer);
    if (wrong !== undefined) return wrong;
    if (sequence !== undefined && sequence <= (producers.sequence(source) ?? "")) return refused("SequenceConflict");
    const ids = [...(producer === undefined ? [] : [producer.id]), ...(sequence === undefined ? [] : [NO_ID])];
    if (ids.some((id) => !producers.hasRoom(source, id, now))) return refused("TooManyProducers");
    const before = this.#store.last;
    // In the transaction that stores messages: one that is stored without it would be stored again with a repeat.
    const note = () => {
      if (closes) this.#terms.close(producer && { ...producer, source });
      if (verdict?.type === "accepted") producers.set(source, producer?.id ?? "", verdict.state, now);
      if (sequence !== undefined) producers.setSequence(source, sequence, now);
    };
    // What was refused may be sent again, with the same number; what was stored of it is then known by its ids.
    const outcomes = bundle === undefined ? [] : this.#append(bundle, { reserve: false }, admitted, note);
    const [first] = refusalsOf(outcomes);
    if (first === undefined && !outcomes.includes("stored") && !this.#isWritten(note)) {
      await this.#appended(outcomes, before);
      return refused("StorageFull");
    }
    const posted = this.#posted(false, verdict?.type === "accepted" ? verdict.state : undefined);
    if (closes && first === undefined && this.#store.last === before) this.#readers.ring(before);
    await this.#appended(outcomes, before);
    return first === undefined ? posted : { ok: false, reason: "refused", refused: first };
  }

  /** A repeat of what closed the mailbox is no error, and neither is to close it again [PROTOCOL 5.2, 5.2.1]. */
  #postedToClosed({ bundle, closes, producer, source }: PostOrder): Posted {
    if (producer !== undefined && this.#terms.isClosing(producer, source)) return this.#posted(true, producer);
    if (closes && bundle === undefined && producer === undefined) return this.#posted(true, undefined);
    this.#count("StreamClosed", bundle === undefined ? 0 : contentsOf(bundle.octets).sizes.length);
    return { ...refused("StreamClosed"), headers: appendedHeaders(this.#readers.tail, true, undefined) };
  }

  #posted(isDuplicate: boolean, producer: ProducerState | undefined): Posted {
    return { ok: true, isDuplicate, next: this.#readers.tail, closed: this.#terms.closed, producer };
  }

  async create(wanted: MailboxTerms): Promise<Created> {
    if (this.#newer !== undefined) return refused("NewerSchema");
    this.#endIfDue(Date.now());
    if (isStorageFull()) return refused("StorageFull");
    const isNew = !this.#entered;
    while (!this.#entered) await this.#enter();
    const now = Date.now();
    this.#endIfDue(now);
    if (this.#terms.areSame(wanted)) {
      this.#readers.note(now);
      await this.#setAlarm();
      return { ok: true, isNew, state: this.#readers.state };
    }
    if (!this.#terms.areDefault) return refused("StreamDiffers");
    this.#terms.set(wanted, now);
    this.#readers.note(now);
    if (wanted.closed) this.#readers.ring(this.#store.last);
    await this.#setAlarm();
    return { ok: true, isNew: true, state: this.#readers.state };
  }

  async metadata(): Promise<Metadata> {
    if (this.#newer !== undefined) return refused("NewerSchema");
    const now = Date.now();
    this.#endIfDue(now);
    this.#readers.note(now);
    await this.#setAlarm();
    return { ok: true, state: { ...this.#readers.state, lifetime: this.#terms.lifetime } };
  }

  async remove(): Promise<void> {
    this.#needReadable();
    // In one turn with the purge.
    this.#forgetTerms();
    await this.purge();
  }

  #forgetTerms(): void {
    this.#terms.clear();
    this.#store.producers.clear();
  }

  /** Ends a mailbox whose lifetime is over: its messages are dropped, and it is as one that was never set to end. */
  #endIfDue(now: number): void {
    if (now < this.#terms.end) return;
    this.#cut();
    const expired = this.#store.purge(now);
    this.#forgetTerms();
    this.#consumption.prune();
    this.#tellOfRoom();
    if (this.#accounts.some) this.#accounts.settleSoon();
    this.#count("Expired", expired);
    this.#observe();
  }

  /** A read over HTTP: see `rpc/plain-stream-rpc.ts`. Its elements are envelopes, and nothing is removed. */
  override async fetch(request: Request): Promise<Response> {
    if (this.#newer !== undefined) return answer({ ok: false, reason: "NewerSchema" });
    const now = Date.now();
    this.#endIfDue(now);
    this.#readers.note(now);
    // The alarm ends what the first read has begun.
    await this.#setAlarm();
    return this.#readers.answer(unpackHeader<ReadOrder>(request.headers.get(ORDER)));
  }

  /** A reader is gone. The platform has closed its socket. */
  override webSocketClose(): void {}

  override webSocketError(): void {}

  /**
   * Waits until a quick consumer has nearly caught up, so that what its sender sends does not have to be read back from
   * disk. Not for a relay, whose connection is shared by many senders.
   */
  async #untilTaken({ envelopes }: MessageBatch): Promise<void> {
    if (envelopes.some(({ source }) => isRelay(source))) return;
    const until = Date.now() + AHEAD_PATIENCE;
    while (this.#consumer !== undefined && this.#consumption.isBehind(Date.now())) {
      const left = until - Date.now();
      if (left <= 0 || (await within(left, this.#taken.wait())) === undefined) return;
    }
  }

  /**
   * Registers before a message is stored. Returns false, and nothing is stored, if the directory does not answer in
   * time.
   */
  async #mayKeep(): Promise<boolean> {
    const until = Date.now() + ENTER_TIMEOUT;
    while (!this.#entered && !isStorageFull()) {
      const left = until - Date.now();
      try {
        if (left <= 0 || (await within(left, this.#enter())) === undefined) return false;
      } catch (error) {
        if (noticeStorageFull(error)) continue;
        logError(error);
        await scheduler.wait(Math.min(ENTER_PAUSE, left));
      }
    }
    return true;
  }

  /** Touches no table, because there may be none. */
  #turnAway({ octets }: MessageBatch): Refusal[] {
    const { sizes } = contentsOf(octets);
    this.#note("DirectoryUnavailable", sizes.length);
    logReason("warn", "DirectoryUnavailable", { message: `${this.#peer} accepts no messages` });
    return sizes.map((_, at) => ({ at, outcome: "notEntered" }));
  }

  /** Writes what a request over HTTP says besides messages. Returns false, and nothing is written, if the disk is full. */
  #isWritten(note: () => void): boolean {
    try {
      this.#store.together(note);
      return true;
    } catch (error) {
      this.#terms.loadTerms();
      if (!noticeStorageFull(error)) throw error;
      return false;
    }
  }

  /** @param beside what else is written in the transaction that stores the messages; see `Terms` of the store */
  #append(
    bundle: MessageBatch,
    how: Pick<Terms, "reserve" | "hold">,
    { over }: Admitted,
    beside?: () => void,
  ): Outcome[] {
    const now = Date.now();
    this.#endIfDue(now);
    const awaited = this.#consumer !== undefined || this.#isRelay;
    const shutOut = (envelope: Envelope) => this.#isShutOut(envelope);
    const terms = { ...how, shutOut, awaited, over };
    if (!isStorageFull()) {
      try {
        this.#terms.use(now);
        this.#cut();
        const { octets } = this.#store;
        const outcomes = this.#store.append(bundle, now, { ...terms, beside });
        counters.count("messagesReceived", "stored", outcomes.filter((outcome) => outcome === "stored").length);
        counters.count("bytesReceived", "stored", this.#store.octets - octets);
        return outcomes;
      } catch (error) {
        this.#terms.loadTerms();
        // The whole transaction failed, so the sender may be told that its messages were refused.
        if (!noticeStorageFull(error)) throw error;
      }
    }
    return this.#store.append(bundle, now, { ...terms, full: true });
  }

  /** What the accounts of senders need of this mailbox. */
  #reserving(): ReservingMailbox {
    return {
      peer: this.#peer,
      store: this.#store,
      isConsumed: () => this.#consumer !== undefined,
      unaskedTime: () => (this.#isNew ? NEW_PAUSE : SETTLE_PAUSE),
      meterOf: (sender) => this.env.METER.getByName(accountName(sender)),
      alarmBy: (at) => this.#alarmBy(at),
    };
  }

  /** Whether messages may be stored as far as the account of their sender is known, or will be refused anyway. */
  #covers(bundle: MessageBatch): boolean {
    const [envelope] = bundle.envelopes;
    return envelope === undefined || isStorageFull() || this.#isShutOut(envelope) || this.#accounts.covers(bundle);
  }

  /** Adjusts what is reserved for senders to what waits. */
  async #settle(): Promise<void> {
    const wasAny = await this.#accounts.settle();
    if (wasAny && !this.#accounts.some && this.#store.messages === 0 && !this.#store.empty) await this.#resetAlarm();
  }

  /**
   * Returns the senders whose sessions, of those that the messages came on, are to be suspended. Their object is later
   * told of room.
   */
  #suspends(bundle: MessageBatch, outcomes: readonly Outcome[], from: string, overdrawn: boolean): string[] {
    const [envelope] = bundle.envelopes;
    if (envelope === undefined || isStorageFull()) return [];
    const some = outcomes.some((outcome) => outcome === "stored" || outcome === "duplicate" || outcome === "quota");
    if (!some) return [];
    // Everything that one object brings has one source.
    const sender = senderOf(envelope.source);
    if (overdrawn) this.#overdrawn.add(sender);
    const senders = overdrawn || this.#store.isAtMark(sender) ? [sender] : this.#store.atMark(bundle);
    return senders.filter((one) => this.#waiters.add({ name: from, sender: one }));
  }

  /**
   * Passes messages with flag D to the consumer, if there is one, and never stores them. Returns the messages whose
   * sender may not send here, and, for an origin relay that cannot be reached, the reason. Other losses are not
   * reported.
   */
  async pass(bundle: MessageBatch): Promise<Refusal[]> {
    if (this.#newer !== undefined) return asNewer(bundle);
    const { sizes, starts } = contentsOf(bundle.octets);
    const shut = bundle.envelopes.map((envelope) => this.#isShutOut(envelope));
    const outcomes = sizes.map(
      (_, at): Outcome => (shut[envelopeAt(bundle.octets, starts[at] ?? 0)] === false ? "stored" : "locked"),
    );
    this.#countRefused(outcomes);
    const admitted = outcomes.filter((outcome) => outcome === "stored").length;
    if (admitted === 0) return refusalsOf(outcomes);
    const passed =
      admitted === outcomes.length ? bundle : pack(unpack(bundle).filter((_, at) => outcomes[at] === "stored"));
    const outcome = await this.#pass(passed, admitted);
    release(bundle.octets);
    return refusalsOf(outcomes.map((before) => (before === "stored" ? outcome : before)));
  }

  async #pass(bundle: MessageBatch, count: number): Promise<Outcome> {
    const reached = await this.#reached();
    if (reached !== "connected") {
      this.#note("PeerOffline", count);
      return reached;
    }
    const consumer = this.#consumer;
    const { length } = bundle.octets;
    counters.count("messagesReceived", "passed", count);
    counters.count("bytesReceived", "passed", length);
    const given = consumer === undefined ? "gone" : await this.#hand(consumer, bundle);
    const taken = given ?? { dropped: count };
    if (taken === "taken") counters.count("bytesDelivered", "passed", length);
    const dropped = taken === "taken" ? 0 : taken === "gone" ? count : taken.dropped;
    counters.count("messagesDelivered", "passed", count - dropped);
    sendSoon(this.ctx, this.env);
    if (typeof taken === "object") this.#note("SlowPeer", taken.dropped);
    if (taken === "gone") {
      this.#note("PeerOffline", count);
      if (consumer !== undefined) this.#vacate(consumer);
    }
    return "stored";
  }

  /** Connects the Link of a relay that nothing consumes for. Returns "connected" if there is nothing to connect. */
  async #reached(): Promise<Reach> {
    if (this.#consumer !== undefined || this.#link === undefined) return "connected";
    return this.env.LINK.getByName(this.#peer)
      .reach()
      .catch(() => "ConnectionClosed" as const);
  }

  /** Returns the consumer to which a sender may stream. A Link is connected first. Reads and writes no row. */
  async attached(source: string, { messages, slow, gone }: Streaming): Promise<Attached> {
    this.#note("SlowPeer", slow);
    if (this.#newer !== undefined) return { type: "offline" };
    if (this.#locked || !maySend(this.#senders, source)) {
      this.#note(this.#locked ? "LockedOut" : "SenderNotAllowed", messages);
      return { type: "locked" };
    }
    if (gone !== undefined && this.#consumer?.generation === gone) this.#vacate(this.#consumer);
    const reached = await this.#reached();
    if (reached !== "connected") {
      this.#note("PeerOffline", messages);
      return { type: "unreachable", outcome: reached };
    }
    const consumer = this.#consumer;
    if (consumer === undefined) {
      this.#note("PeerOffline", messages);
      return { type: "offline" };
    }
    return { type: "attached", ...consumer };
  }

  /** Tries once: a sender that sets flag D accepts the loss. Returns undefined if the messages are lost. */
  async #hand(consumer: Consumer, bundle: MessageBatch): Promise<Taken | undefined> {
    if (this.#hung?.consumer === consumer && Date.now() < this.#hung.until) return undefined;
    const peer = this.#peer;
    const { generation } = consumer;
    const handed = this.#reader(consumer.tunnel).deliver(peer, generation, [{ first: NO_NUMBERS, bundle }], 0);
    // The call has copied it.
    release(bundle.octets);
    try {
      const taken = await this.#handing.within(handed);
      if (taken !== undefined) return taken.value;
    } catch {
      return undefined;
    }
    // Other senders must not wait for it as well.
    this.#hung = { consumer, until: Date.now() + HUNG_TIME };
    const answers = () => {
      if (this.#hung?.consumer === consumer) this.#hung = undefined;
    };
    handed.then(answers, answers);
    return undefined;
  }

  /**
   * Starts attaching a Tunnel. Once the Tunnel has stored the generation, it calls `ready` with it; unless nothing waits and
   * nobody consumes here.
   */
  async attach(tunnel?: string): Promise<{ readonly generation: number; readonly isReady: boolean }> {
    this.#needReadable();
    while (!this.#entered) await this.#enter();
    const generation = Number(this.#store.fact("generation") ?? this.#firstNumber()) + 1;
    this.#store.setFact("generation", String(generation));
    if (tunnel !== undefined && this.#consumer === undefined && this.#store.messages === 0) {
      await this.#take({ tunnel, generation });
      return { generation, isReady: true };
    }
    // A Tunnel that never calls `ready` leaves nothing else behind.
    if (this.#isEmpty) await this.#setAlarm();
    return { generation, isReady: false };
  }

  /** Makes the Tunnel the consumer and fences the previous one. Returns false if a newer Tunnel is the consumer. */
  async ready(tunnel: string, generation: number): Promise<boolean> {
    this.#needReadable();
    // The mailbox may have deleted itself since `attach`.
    while (!this.#entered && !isStorageFull()) await this.#enter();
    this.#cut();
    const before = this.#consumer;
    if (before !== undefined && before.generation >= generation) return before.generation === generation;
    await this.#take({ tunnel, generation });
    return true;
  }

  async #take(consumer: Consumer): Promise<void> {
    const before = this.#consumer;
    this.#setConsumer(consumer);
    this.#setFormer(this.#former.filter((former) => former !== consumer.tunnel));
    if (before !== undefined && before.tunnel !== consumer.tunnel) this.ctx.waitUntil(this.#fence(before));
    this.#watchConsumer();
    // An unused mailbox would have gone soon; with an idle consumer there is nothing to do for long.
    await (this.#store.empty && !this.#accounts.some ? this.#resetAlarm() : this.#setAlarm());
    this.#push();
  }

  /** Detaches the consumer when its virtual connection has ended. */
  async detach(generation: number): Promise<void> {
    this.#cut();
    if (this.#consumer?.generation === generation) this.#vacate(this.#consumer);
  }

  /**
   * Records what became of delivered messages. Settled ones are not sent again, unless the object is evicted at once.
   *
   * @returns undefined if the caller is no longer the consumer
   */
  async acknowledge(generation: number, report: DeliveryReport): Promise<Acknowledged | undefined> {
    if (this.#consumer?.generation !== generation) return undefined;
    const now = Date.now();
    this.#readers.noteUse(now);
    const dropped = this.#consumption.report(report, now);
    if (report.done !== undefined && this.#patience.acknowledged(generation, now, this.#consumption.isBusy)) {
      this.#keep("held", this.#patience.held);
    }
    for (const [drop, count] of Object.entries(dropped)) this.#count(drop as Drop, count);
    this.#cutSoon();
    if (report.later !== undefined) await this.#setAlarm();
    this.#push();
    const gone = report.again === undefined ? [] : this.#store.gone(report.again);
    return { position: this.#store.position, gone };
  }

  /** Returns what a sender may add, and whether a consumer is attached. */
  async room(source: string): Promise<Room> {
    this.#needReadable();
    this.#cut();
    if (this.#locked || this.#terms.closed || !maySend(this.#senders, source)) return { type: "locked" };
    const sender = senderOf(source);
    const { octets, messages } = isStorageFull() ? NOTHING : this.#store.roomFor(sender);
    const reserved = this.#accounts.left(sender);
    return { type: "room", octets, messages, reserved, attached: this.#consumer !== undefined };
  }

  /**
   * Removes messages that their sender withdraws. Their ids stay known. Messages in flight may still arrive.
   *
   * @returns how many were removed, and what was read for that
   */
  async withdraw(wanted: Wanted): Promise<Withdrawal> {
    this.#needReadable();
    let removed = 0;
    const all = { octets: 0, messages: 0 };
    for (let from: number | undefined = 0; from !== undefined; ) {
      this.#cut();
      const { found, next, read }: ReturnType<MailboxStore["find"]> = this.#store.find(wanted, from);
      all.octets += read.octets;
      all.messages += read.messages;
      const before = this.#store.messages;
      this.#store.remove(found);
      removed += before - this.#store.messages;
      this.#consumption.withdrawn(found);
      this.#consumption.prune();
      this.#tellOfRoom();
      from = next;
      // Let other calls run.
      if (from !== undefined) await scheduler.wait(0);
    }
    if (this.#accounts.some) this.#accounts.settleSoon();
    this.#count("Withdrawn", removed);
    this.#observe();
    await this.#setAlarm();
    return { removed, read: all };
  }

  async status(): Promise<MailboxStatus> {
    this.#needReadable();
    this.#cut();
    return {
      peer: this.#peer,
      ...this.#store.waiting(),
      consumer: this.#consumer?.tunnel,
      generation: Number(this.#store.fact("generation") ?? 0),
      aside: this.#consumption.aside,
      suspended: this.#waiters.size,
      locked: this.#locked,
      senders: formatSenderRule(this.#senders),
      dropped: this.#dropped(),
      kept: this.#store.keptOctets,
      rowsWritten: this.#store.rowsWritten,
      failedDeliveries: this.#failedDeliveries,
    };
  }

  /** Removes all waiting messages and returns their number. */
  async purge(): Promise<number> {
    this.#needReadable();
    this.#cut();
    const purged = this.#store.purge(Date.now());
    this.#consumption.prune();
    this.#tellOfRoom();
    if (this.#accounts.some) this.#accounts.settleSoon();
    this.#count("Purged", purged);
    this.#observe();
    await this.#setAlarm();
    return purged;
  }

  /** Locks all senders out, or admits those that the sender rule allows. Waiting messages stay. */
  async setLocked(locked: boolean): Promise<void> {
    this.#needReadable();
    while (!this.#entered) await this.#enter();
    this.#locked = locked;
    this.#store.setFact("locked", locked ? "1" : "0");
    await this.#setAlarm();
  }

  /** Sets who may send. Waiting messages stay. @throws Error if the rule is malformed */
  async setSenders(text: string): Promise<void> {
    this.#needReadable();
    const rule = parseSenderRule(text);
    while (!this.#entered) await this.#enter();
    this.#senders = rule;
    this.#store.setFact("senders", formatSenderRule(rule));
    await this.#setAlarm();
  }

  /** Issues a ticket for its owner to read it. The mailbox stays as long as the ticket may be used. */
  async issueTicket(principal: Principal): Promise<Ticket> {
    if (this.#newer !== undefined) return { ok: false, reason: "NewerSchema" };
    if (!this.#entered && !(await this.#mayKeep())) return { ok: false, reason: "InternalError" };
    if (isStorageFull()) return { ok: false, reason: "StorageFull" };
    const [ticket, now] = [newTicket(), Date.now()];
    const tickets = this.#tickets.with({ hash: hashOfTicket(ticket), principal, issued: now }, now);
    if (tickets === undefined) return { ok: false, reason: "TooManyTickets" };
    this.#keepTickets(tickets);
    await this.#setAlarm();
    return { ok: true, ticket, expires: now + TICKET_TIME };
  }

  async redeemTicket(ticket: string): Promise<Principal | undefined> {
    const now = Date.now();
    const found = this.#tickets.find(hashOfTicket(ticket), now);
    if (found !== undefined && found.redeemed === undefined) this.#keepTickets(this.#tickets.redeemed(found, now));
    return found?.principal;
  }

  #keepTickets(tickets: OwnersTickets): void {
    this.#keep("tickets", tickets.kept);
    this.#tickets = tickets;
  }

  /** @throws NewerSchemaError */
  #needReadable(): void {
    if (this.#newer !== undefined) throw this.#newer;
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = undefined;
    this.#isNew = false;
    // For the release that can read it.
    if (this.#newer !== undefined) return this.ctx.storage.setAlarm(Date.now() + CONSUMER_CHECK);
    this.#endIfDue(Date.now());
    this.#cut();
    this.#countVolatile();
    this.#count("Expired", this.#store.expire(Date.now()));
    this.#observe();
    this.#consumption.prune();
    this.#tellOfRoom();
    this.#consumption.offerLater(Date.now());
    const settled = this.#settle();
    // An empty mailbox goes when its reservations have. Otherwise a Meter that is slow must hold up nothing.
    if (this.#store.empty) await settled;
    else this.ctx.waitUntil(settled);
    const consumer = this.#consumer;
    // An edge that was killed may have left its consumer here.
    if (consumer !== undefined && this.#store.empty) {
      if ((await this.#deliver(consumer, [])) === "gone") this.#vacate(consumer);
    } else if (this.#isEmpty) return this.#go();
    this.ctx.waitUntil(this.#judgeConsumer());
    await this.#setAlarm();
    this.#push();
    this.#call();
  }

  /**
   * Whether the mailbox can be deleted. Its drop counters go with it: a week after the last message they are no news.
   */
  get #isEmpty(): boolean {
    const used =
      this.#consumer !== undefined || this.#former.length > 0 || this.#waiters.size > 0 || this.#accounts.some;
    if (this.#tickets.end(Date.now()) !== undefined) return false;
    return (
      !used &&
      !this.#locked &&
      this.#terms.areDefault &&
      formatSenderRule(this.#senders) === EVERYONE_TEXT &&
      this.#store.empty
    );
  }

  /** Deletes everything, and unregisters. */
  async #go(): Promise<void> {
    // A message is arriving.
    if (this.#entering !== undefined) return;
    if (this.#entered && !(await this.#tellUsed())) return this.#setAlarm();
    const stamp = this.#store.fact("entered");
    // No other event runs in this object until everything is deleted.
    const deleted = this.ctx.storage.deleteAll();
    this.#store.deleted();
    this.#tickets = new OwnersTickets();
    this.#entered = false;
    this.#consumption = new Consumption(this.#store);
    this.#terms.forget();
    await deleted;
    this.#leaving = within(ENTER_TIMEOUT, this.#directory.leave(this.#peer, stamp)).catch(logError);
    // If the call fails, the directory lists a mailbox that does not exist, which is harmless.
    this.ctx.waitUntil(this.#leaving);
  }

  /** Records the used numbers in the directory. Returns false if that failed or the mailbox was used meanwhile. */
  async #tellUsed(): Promise<boolean> {
    const used = this.#lastNumber;
    const told = await within(ENTER_TIMEOUT, this.#directory.keepUsed(used)).catch(logError);
    return told !== undefined && this.#isEmpty && this.#lastNumber === used;
  }

  /** The highest number of a message or a generation. */
  get #lastNumber(): number {
    return Math.max(this.#store.last, Number(this.#store.fact("generation") ?? 0));
  }

  /**
   * First number of a new mailbox, for messages and generations: the time, in more than a million steps a second, which
   * is more than any mailbox takes; or one above the highest number used, if the clock was ahead then. It stays below
   * 2^53 until the year 2248.
   */
  #firstNumber(): number {
    return Math.max(Date.now() * NUMBERS_A_MILLISECOND, this.#used + 1);
  }

  /** Whether the lock or the sender rule keeps a sender out. */
  #isShutOut({ source }: Envelope): boolean {
    // The owner has made its inboxes, whatever the rule says of other senders.
    const isOwnInbox = isInboxURL(source) && inboxIn(source)?.peer === this.#peer;
    return this.#locked || this.#terms.closed || !(isOwnInbox || maySend(this.#senders, source));
  }

  #countRefused(outcomes: readonly Outcome[]): void {
    const refused = outcomes.filter((outcome) => outcome === "locked").length;
    this.#count(this.#locked ? "LockedOut" : this.#terms.closed ? "StreamClosed" : "SenderNotAllowed", refused);
  }

  /** Registers in the directory. Nothing may be stored before that. */
  #enter(): Promise<void> {
    this.#entering ??= this.#enterAs(crypto.randomUUID()).finally(() => {
      this.#entering = undefined;
    });
    return this.#entering;
  }

  async #enterAs(stamp: string): Promise<void> {
    await this.#leaving;
    const entered = await within(ENTER_TIMEOUT, this.#directory.enter(this.#peer, stamp));
    if (entered === undefined) {
      // The directory may process the call later, so undo it.
      this.ctx.waitUntil(this.#directory.leave(this.#peer, stamp).catch(() => undefined));
      throw new Error(`the directory has not answered within ${ENTER_TIMEOUT} ms`);
    }
    // An object of an older version returns nothing.
    this.#used = entered.value ?? 0;
    this.#store.setFact("entered", stamp);
    this.#entered = true;
    this.#isNew = true;
  }

  get #directory() {
    return this.env.DIRECTORY.getByName(DIRECTORY);
  }

  get #peer(): string {
    return this.ctx.id.name ?? "";
  }

  get #isRelay(): boolean {
    return isRelay(this.#peer);
  }

  /** Name of the Link to this mailbox's relay. A relay that may not be dialled has none. */
  get #link(): string | undefined {
    if (!this.#isRelay) return undefined;
    const allowed = allowedLink(this.#peer, this.env);
    return allowed.type === "allowed" && allowed.url === this.#peer ? this.#peer : undefined;
  }

  /**
   * A Link consumes the mailbox of its own name. A relay that has connected to the edge has a Tunnel, as devices do.
   */
  #reader(name: string): ConsumerRpc {
    return name === this.#peer ? this.env.LINK.getByName(name) : tunnelNamed(this.env, name);
  }

  /** Wakes the Link, which sleeps until there is something for its relay. */
  #call(): void {
    if (this.#link === undefined || this.#consumer !== undefined || this.#store.messages === 0) return;
    this.ctx.waitUntil(
      this.env.LINK.getByName(this.#peer)
        .wake()
        .catch(() => undefined),
    );
  }

  /** Tells a Tunnel that it no longer consumes this mailbox. If it stays connected, it may be recalled. */
  async #fence({ tunnel, generation }: Consumer): Promise<void> {
    for (const pause of RETRY_PAUSES) {
      try {
        const stays = await this.#asking.keep(this.#reader(tunnel).fenced(this.#peer, generation));
        if (stays && this.#consumer?.tunnel !== tunnel) {
          const former = this.#former.filter((other) => other !== tunnel);
          // A benched consumer, replaced for not reading, is recalled after the others.
          const benched = this.#patience.isBenched(tunnel, Date.now());
          const all = benched ? [tunnel, ...former] : [...former, tunnel];
          this.#setFormer(all.slice(-FORMER_CONSUMERS));
          this.#watchConsumer();
          // Its successor may have left before this answer came, and found nobody to recall.
          if (this.#consumer === undefined) await this.#recall();
          else await this.#setAlarm();
        }
        return;
      } catch {
        // The Tunnel may learn of it later; its calls are ignored in any case.
        await scheduler.wait(pause);
      }
    }
  }

  /** Handles a consumer that has left: recalls the former ones that are still connected. */
  #vacate(consumer: Consumer): void {
    if (this.#consumer !== consumer) return;
    this.#setConsumer(undefined);
    this.#countVolatile();
    // Its messages were stored without asking.
    if (this.#store.messages > 0) this.#accounts.settleSoon();
    // A sender that was suspended because it drains learns from now on why there is no room.
    this.#overdrawn.clear();
    this.#tellOfRoom();
    if (this.#former.length > 0) this.ctx.waitUntil(this.#recall());
    else this.ctx.waitUntil(this.#setAlarm());
  }

  async #recall(): Promise<void> {
    for (let tunnel = this.#former.at(-1); tunnel !== undefined; tunnel = this.#former.at(-1)) {
      this.#setFormer(this.#former.slice(0, -1));
      const comes = await this.#asking.within(this.#reader(tunnel).recall(this.#peer)).catch(() => undefined);
      if (comes?.value === true || this.#consumer !== undefined) return;
    }
    await this.#setAlarm();
  }

  /** While other devices wait, the consumer must acknowledge in time, or at least show a sign of life. */
  #watchConsumer(): void {
    const changed =
      this.#consumer === undefined || this.#former.length === 0 || this.#store.messages === 0
        ? this.#patience.end()
        : this.#patience.begin(this.#consumer.generation, Date.now());
    if (changed) this.#keep("held", this.#patience.held);
  }

  /**
   * Judges the consumer while messages wait. If it shows no sign of life, or does not acknowledge, another connected
   * device gets the mailbox, if there is one.
   */
  async #judgeConsumer(): Promise<void> {
    const consumer = this.#consumer;
    if (consumer === undefined || this.#store.messages === 0) return;
    this.#watchConsumer();
    // Asked even if no other device waits: a Tunnel ends a connection that it finds dead.
    const sign = await this.#asking.within(this.#reader(consumer.tunnel).lastSign()).catch(() => undefined);
    if (this.#consumer !== consumer) return;
    const now = Date.now();
    const why = this.#patience.impatience(now, sign?.value);
    // The alarm was set when the sign was not known yet.
    if (why === undefined) return this.#setAlarm();
    if (why === "NotAcknowledged" && this.#consumption.waiting === 0) return;
    for (const tunnel of [...this.#former].reverse()) {
      if (this.#patience.isBenched(tunnel, now)) continue;
      this.#setFormer(this.#former.filter((former) => former !== tunnel));
      const comes = await this.#asking.within(this.#reader(tunnel).recall(this.#peer)).catch(() => undefined);
      if (!comes?.value) continue;
      logReason("warn", why, { message: `${this.#peer} goes to another device` });
      this.#patience.bench(consumer.tunnel, now);
      this.#keep("benched", this.#patience.benched);
      return;
    }
  }

  #setConsumer(consumer: Consumer | undefined): void {
    const takesOver = this.#consumer !== undefined && consumer !== undefined;
    this.#spill();
    this.#consumer = consumer;
    this.#keep("consumer", consumer);
    if (takesOver) this.#consumption.handOver();
    else this.#consumption.restart();
    this.#taken.notifyAll();
  }

  #setFormer(former: readonly string[]): void {
    if (former.length === 0 && this.#former.length === 0) return;
    this.#former = former;
    this.#keep("former", former);
  }

  /** Sends what the window allows. One push runs at a time; the output gate holds it until what it sends is durable. */
  #push(): void {
    const consumer = this.#consumer;
    if (consumer === undefined || this.#pushing === consumer) return;
    this.#pushing = consumer;
    this.ctx.waitUntil(
      this.#pushAll(consumer).finally(() => {
        if (this.#pushing === consumer) this.#pushing = undefined;
      }),
    );
  }

  async #pushAll(consumer: Consumer): Promise<void> {
    let failures = 0;
    while (this.#consumer === consumer) {
      const slices = this.#consumption.next();
      if (slices.length === 0) return;
      this.#taken.notifyAll();
      const deliveries = slices.map(({ first, bundle }) => ({ first, bundle }));
      const delivered = this.#deliver(consumer, deliveries);
      // The call has copied them.
      for (const { bundle, given } of slices) if (given) release(bundle.octets);
      const taken = await delivered;
      if (taken === "gone") {
        this.#vacate(consumer);
        return;
      }
      if (taken !== undefined) {
        failures = 0;
        continue;
      }
      // The call may have succeeded. The Tunnel drops the messages it has by sequence number.
      const pause = RETRY_PAUSES[failures];
      failures += 1;
      if (pause !== undefined) await scheduler.wait(pause);
      if (this.#consumer !== consumer) return;
      this.#cut();
      this.#consumption.repeat();
      // The alarm retries.
      if (pause === undefined) return;
    }
  }

  /** Removes settled messages from the log. */
  #cut(): void {
    this.#consumption.cut();
    this.#observe();
    this.#taken.notifyAll();
    this.#durable.notifyAll();
    if (this.#store.messages === 0 && this.#accounts.some) this.#accounts.settleSoon();
    if (this.#store.keptOctets > 0) this.ctx.waitUntil(this.#setAlarm());
    this.#tellOfRoom();
  }

  /** Notifies waiting connections whose sender has room again. */
  #tellOfRoom(): void {
    if (this.#waiters.size === 0 || this.#telling) return;
    const waiters = this.#takeWaiters();
    if (waiters.length === 0) return;
    // In the same write as the removal: if the object is evicted before they know, the alarm notifies them.
    this.#alarmBy(Date.now() + ROOM_RETRY);
    this.#telling = true;
    const told = this.#tellAll(waiters).finally(() => {
      this.#telling = false;
      // Schedules the retry of failed notifications.
      return this.#setAlarm();
    });
    this.ctx.waitUntil(told);
  }

  #takeWaiters(): Waits[] {
    return this.#waiters.take((sender) => this.#mayGoOn(sender), Date.now());
  }

  #mayGoOn(sender: string): boolean {
    if (this.#overdrawn.has(sender) && this.#store.octets * 2 > UNRESERVED) return false;
    this.#overdrawn.delete(sender);
    return this.#store.mayGoOn(sender);
  }

  async #tellAll(first: readonly Waits[]): Promise<void> {
    for (let waiters = first; waiters.length > 0; waiters = this.#takeWaiters()) {
      await Promise.all(waiters.map((waiter) => this.#tellWriter(waiter)));
    }
  }

  async #tellWriter(waiter: Waits): Promise<void> {
    const { name, sender } = waiter;
    try {
      // This also calls connections that have ended; they have no suspended session.
      await this.#roomCalls.keep(this.#writer(name).room(this.#peer, this.#store.last, sender));
      this.#waiters.told(waiter);
    } catch (error) {
      logError(error);
      this.#waiters.failed(waiter, Date.now());
    }
  }

  /** A Link brings messages of its relay. Devices, and relays that have connected to the edge, have Tunnels. */
  #writer(name: string): SenderRpc {
    return isRelay(name) ? this.env.LINK.getByName(name) : tunnelNamed(this.env, name);
  }

  /**
   * Removes settled messages soon. The next append writes to disk anyway, which makes the removal nearly free. If the
   * object is evicted before, it is as if the acknowledgement had been lost: the messages are sent again, and ids
   * identify them.
   */
  #cutSoon(): void {
    if (this.#cutting) return;
    this.#cutting = true;
    setTimeout(() => {
      this.#cutting = false;
      try {
        this.#cut();
      } catch (error) {
        // The next write includes it. On a full disk there may be no other write, so retry.
        if (noticeStorageFull(error)) void scheduler.wait(FULL_PAUSE).then(() => this.#cutSoon());
        else logReason("error", "InternalError", { message: String(error) });
      }
    }, CUT_PAUSE);
  }

  /** Returns undefined if the call failed; the messages may or may not have arrived. */
  async #deliver({ tunnel, generation }: Consumer, deliveries: readonly Delivery[]): Promise<Taken | undefined> {
    try {
      return await this.#deliveries.keep(
        this.#reader(tunnel).deliver(this.#peer, generation, deliveries, this.#store.position),
      );
    } catch (error) {
      this.#failedDeliveries += 1;
      logError(error);
      return undefined;
    }
  }

  /**
   * Sets the alarm for the next expiry, or sooner if work may have been lost while a consumer should be reading. Later
   * messages expire later, so an alarm that is set is never too late for them. Ids kept longer than needed do no harm.
   */
  async #setAlarm(): Promise<void> {
    const again = this.#nextLook();
    if (this.#alarmAt !== undefined && this.#alarmAt <= again) return;
    const due = Math.min(again, this.#store.expiry() ?? this.#leastUse());
    if (due === Number.POSITIVE_INFINITY) return;
    if (this.#alarmAt === undefined) {
      const set = (await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY;
      // It may have been set meanwhile.
      this.#alarmAt ??= set;
    }
    if (this.#alarmAt <= due) return;
    this.#alarmAt = due;
    await this.ctx.storage.setAlarm(due);
  }

  /** When to look at the consumer and those that wait, or at an unused mailbox. */
  #nextLook(): number {
    const watched = (this.#consumer !== undefined || this.#isRelay) && this.#consumption.waiting > 0;
    const held = this.#patience.held;
    const look = held === undefined ? Date.now() + WATCH_INTERVAL : this.#patience.due(Date.now());
    const watch = watched || held !== undefined ? look : Number.POSITIVE_INFINITY;
    const unused = this.#consumer === undefined && this.#store.messages === 0;
    const least = unused ? this.#leastUse() : Number.POSITIVE_INFINITY;
    const room = this.#telling ? Date.now() + ROOM_RETRY : this.#waiters.retryAt;
    const later = this.#consumption.laterAt ?? Number.POSITIVE_INFINITY;
    return Math.min(watch, least, room, later, this.#store.keptExpiry, this.#terms.end);
  }

  /** Sets the alarm to `at` or earlier. What it was set for before happens a little later at worst. */
  #alarmBy(at: number): void {
    if (this.#alarmAt !== undefined && this.#alarmAt <= at) return;
    this.#alarmAt = at;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(at));
  }

  /**
   * Sets the alarm, even to a later time: the alarm that would have repeated the adjustment of reservations has nothing
   * left to do.
   */
  async #resetAlarm(): Promise<void> {
    const due = Math.min(this.#nextLook(), this.#store.expiry() ?? this.#leastUse());
    if (due === Number.POSITIVE_INFINITY) return;
    this.#alarmAt = due;
    await this.ctx.storage.setAlarm(due);
  }

  /** When to look at a mailbox without messages and ids. */
  #leastUse(): number {
    if (this.#isEmpty) return this.#entered ? Date.now() + EMPTY_TIME : Number.POSITIVE_INFINITY;
    const ticketsEnd = this.#tickets.end(Date.now()) ?? Number.POSITIVE_INFINITY;
    return Math.min(ticketsEnd, this.#consumer === undefined ? ticketsEnd : Date.now() + CONSUMER_CHECK);
  }

  /** Stores pending drop counts. Called when there is a write anyway. */
  #countVolatile(): void {
    if (Object.values(this.#untold).every((count) => count === 0)) return;
    this.#keep("dropped", this.#dropped());
    this.#untold = noDrops();
  }

  /** Drop counts, stored and pending. */
  #dropped(): DropCounts {
    const dropped = { ...noDrops(), ...this.#kept<Partial<DropCounts>>("dropped") };
    for (const [drop, count] of Object.entries(this.#untold)) dropped[drop as Drop] += count;
    return dropped;
  }

  #count(drop: Drop, number: number): void {
    if (number === 0) return;
    this.#note(drop, number);
    // On a full disk, the remaining room is for what empties the mailbox.
    if (!isStorageFull()) this.#countVolatile();
  }

  /** Counts drops without writing anything. */
  #note(drop: Drop, number: number): void {
    this.#untold[drop] += number;
    counters.count("messagesDropped", drop, number);
    sendSoon(this.ctx, this.env);
  }

  /** Reports what waits, for the metrics. Call after each change. */
  #observe(): void {
    const { messages, octets, position } = this.#store;
    // Reads no row while a consumer keeps up: what waits has come since the mailbox was seen empty.
    const { oldest: seen, position: before } = this.#observed;
    let oldest = seen ?? Date.now();
    if (messages > 0 && seen !== null && position !== before) oldest = this.#store.waiting().oldest ?? oldest;
    this.#observed = { oldest: messages === 0 ? null : oldest, position };
    const waits = { count: messages, octets, oldest: this.#observed.oldest };
    objectStates.observe("mailbox", this.#peer, { ...ABSENT, ...waits });
    sendSoon(this.ctx, this.env);
  }

  #kept<T>(name: string): T | undefined {
    const value = this.#store.fact(name);
    return value === undefined ? undefined : ((JSON.parse(value) as T | null) ?? undefined);
  }

  #keep(name: string, value: unknown): void {
    this.#store.setFact(name, JSON.stringify(value ?? null));
  }
}

const NOTHING = { octets: 0, messages: 0 };

/** Whether messages exceed what their sender's account has room for, and whether a consumer drains them all the same. */
interface Admitted {
  readonly over: boolean;
  readonly drains: boolean;
}

const SOME_ROOM: Admitted = { over: false, drains: false };

/** Stands in for the tables of a mailbox that cannot be read. Nothing is written to it. */
const NO_ROWS: Sql = { exec: () => ({ toArray: () => [], rowsWritten: 0 }) };

/** Whether this isolate has logged that mailboxes are of a newer release: it is one cause for all of them. */
let toldNewer = false;

function tellNewer(peer: string, { message }: Error): void {
  if (toldNewer) return;
  toldNewer = true;
  logReason("error", "NewerSchema", { message: `${peer}: ${message}` });
}

/** Whether messages are so long that their bodies have rows of their own. */
function isLong({ octets }: MessageBatch, messages: number): boolean {
  return octets.length > messages * LONG_BODY_OCTETS;
}

/** Refuses all messages of a batch for a mailbox of a newer release. */
function asNewer({ octets }: MessageBatch): Refusal[] {
  return contentsOf(octets).sizes.map((_, at) => ({ at, outcome: "newer" }));
}

const LOST = "what these messages follow is lost";

const EVERYONE_TEXT = formatSenderRule(EVERYONE);

/** Numbers that a mailbox may use per millisecond, so that a new one starts above all numbers used before. */
const NUMBERS_A_MILLISECOND = 1024;

/** Returns the outcomes that the sender must learn of. */
function refusalsOf(outcomes: readonly Outcome[]): Refusal[] {
  return outcomes.flatMap((outcome, at) => (outcome === "stored" || outcome === "duplicate" ? [] : [{ at, outcome }]));
}
