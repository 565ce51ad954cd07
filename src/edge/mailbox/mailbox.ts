/**
 * Mailbox: the durable queue of one peer, an object named by the peer's URL, and the only owner of what waits for it.
 *
 *   Tunnel of a sender ── append(batch) ─► log (durable) ─► acknowledgement
 *   log ── deliver(messages), within a window ─► Tunnel of the consumer ── acknowledge(report) ─► off the log
 *
 * One consumer, fenced by generation. A Tunnel becomes it in two calls: `attach` gives it a generation, `ready` makes
 * it the consumer if it still wants to be and no newer one has come. From then on nothing that an older one says is
 * heard. A mailbox of an identity has several devices: when its consumer leaves, the one before is asked again.
 *
 * The object may vanish at any await: the log, the consumer and the generation are in SQLite; how far the consumer has
 * been sent to is not, so it is sent again what it did not acknowledge, and its Tunnel knows by number what it has.
 * Whatever may have been lost that way is found by an alarm, which is set as long as somebody should be reading.
 *
 * It enters itself in the directory before it keeps anything, and leaves it after it has deleted everything: where the
 * directory knows no mailbox there is none. It goes when nobody would miss it, and begins anew with numbers that no one
 * before it has used: above the time, and above the highest that the directory has been told of by those that went.
 *
 * @module
 */

import { DurableObject } from "cloudflare:workers";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { isRelay } from "../../sstp/index.ts";
import { type Drop, type DropCounts, noDrops } from "../../store-and-forward/drop-reasons.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { Patience } from "../../store-and-forward/patience.ts";
import { senderOf } from "../../store-and-forward/share.ts";
import { isStorageFull, noticeStorageFull } from "../disk.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { allowedLink } from "../origin/relay-policy.ts";
import { ACKNOWLEDGE_SECONDS, parseAcknowledgeTime } from "../policy/acknowledge-time.ts";
import { parseQuota } from "../policy/quota-setting.ts";
import { EVERYONE, formatSenderRule, maySend, parseSenderRule, type SenderRule } from "../policy/sender-rule.ts";
import { HAND_TIMEOUT } from "../rpc/deadlines.ts";
import type { DeliveryReport } from "../rpc/delivery-report.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type {
  Acknowledged,
  Appended,
  ConsumerRpc,
  Delivery,
  MailboxRpc,
  MailboxStatus,
  Outcome,
  Refusal,
  Room,
  SenderRpc,
  Taken,
  Wanted,
} from "../rpc/mailbox-rpc.ts";
import { contentsOf, envelopeAt, type MessageBatch, pack, unpack } from "../rpc/message-batch.ts";
import { Consumption } from "./consumption.ts";
import {
  CALL_TIMEOUT,
  CONSUMER_CHECK,
  CUT_PAUSE,
  DELIVER_TIMEOUT,
  EMPTY_TIME,
  ENTER_PAUSE,
  ENTER_TIMEOUT,
  FORMER_CONSUMERS,
  FULL_PAUSE,
  HUNG_TIME,
  RETRY_PAUSES,
  ROOM_RETRY,
  SIGN_TIMEOUT,
  WATCH_INTERVAL,
} from "./limits.ts";
import { MailboxStore } from "./mailbox-store.ts";
import { RoomWaiters } from "./room-waiters.ts";

interface Consumer {
  readonly tunnel: string;
  readonly generation: number;
}

export class Mailbox extends DurableObject<Env> implements MailboxRpc {
  readonly #store: MailboxStore;
  #consumer: Consumer | undefined;
  /** Tunnels that consumed it before, are still there and would again; the newest is the last. */
  #former: readonly string[];
  #consumption: Consumption;
  readonly #patience: Patience;
  readonly #asking = new DeadlinePool(SIGN_TIMEOUT);
  readonly #waiters: RoomWaiters;
  /** Those who wait for room are being told of it. */
  #telling = false;
  readonly #roomCalls = new DeadlinePool(CALL_TIMEOUT);
  #cutting = false;
  readonly #deliveries = new DeadlinePool(DELIVER_TIMEOUT);
  readonly #handing = new DeadlinePool(HAND_TIMEOUT);
  /** A consumer that did not take a message with flag D in time, and until when it is not asked again. */
  #hung: { readonly consumer: Consumer; readonly until: number } | undefined;
  /** The consumer that is being sent to. A call to one before may hang: it must not hold up the next. */
  #pushing: Consumer | undefined;
  #locked: boolean;
  #senders: SenderRule;
  /** Whether the directory knows it; the calls by which it is told. */
  #entered: boolean;
  #entering: Promise<void> | undefined;
  #leaving: Promise<unknown> | undefined;
  /** A number that no mailbox which has gone has gone beyond, as the directory has said. */
  #used = 0;
  /** When the alarm is set for, as far as this memory knows. */
  #alarmAt: number | undefined;
  #failedDeliveries = 0;
  /** What was dropped and touches no table: it is written down with the next write. */
  #untold = noDrops();

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    this.#store = new MailboxStore(storage.sql, (run) => storage.transactionSync(run), {
      firstNumber: () => this.#firstNumber(),
      quota: parseQuota(env.QUOTA ?? ""),
    });
    this.#waiters = new RoomWaiters(this.#store);
    this.#consumer = this.#kept<Consumer>("consumer");
    this.#former = this.#kept<string[]>("former") ?? [];
    this.#consumption = new Consumption(this.#store);
    // Where it cannot be read nobody is served.
    const acknowledgeTime = parseAcknowledgeTime(env.ACKNOWLEDGE_TIME ?? "") ?? ACKNOWLEDGE_SECONDS * 1000;
    this.#patience = new Patience(acknowledgeTime, this.#kept("held"), this.#kept("benched"));
    this.#locked = this.#store.fact("locked") === "1";
    const senders = this.#store.fact("senders");
    this.#senders = senders === undefined ? EVERYONE : parseSenderRule(senders);
    this.#entered = this.#store.fact("entered") !== undefined;
  }

  /**
   * Takes messages, in order, and tells which did not come in. What is told, and what it is silent about, is durable.
   *
   * @param from the object that brings them, when it can suspend the sessions on which they came; otherwise what is over
   *   their sender's share is refused
   */
  async append(bundle: MessageBatch, from?: string): Promise<Appended> {
    if (!this.#entered && !(await this.#mayKeep())) return { refusals: this.#turnAway(bundle) };
    const outcomes = this.#append(bundle, from !== undefined);
    const suspend = from !== undefined && this.#suspends(bundle, outcomes, from);
    this.#countRefused(outcomes);
    this.#count("StorageFull", outcomes.filter((outcome) => outcome === "full").length);
    this.#count("DuplicateMessage", outcomes.filter((outcome) => outcome === "duplicate").length);
    this.#count("QuotaWouldBeExceeded", outcomes.filter((outcome) => outcome === "quota").length);
    this.#count("MessageTooLong", outcomes.filter((outcome) => outcome === "tooLong").length);
    // Before anything else can happen here: what the answer says is true until then.
    const appended = { refusals: refusalsOf(outcomes), ...(suspend && { suspend: this.#store.last }) };
    this.#watchConsumer();
    await this.#setAlarm();
    this.#push();
    this.#call();
    return appended;
  }

  /** Enters before a message is kept. False when the directory does not answer in time, and nothing may be. */
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

  /** Nothing of this touches a table: there may be none. */
  #turnAway({ octets }: MessageBatch): Refusal[] {
    const { sizes } = contentsOf(octets);
    this.#untold.DirectoryUnavailable += sizes.length;
    console.warn(JSON.stringify({ reason: "DirectoryUnavailable", message: `${this.#peer} takes no message` }));
    return sizes.map((_, at) => ({ at, outcome: "notEntered" }));
  }

  #append(bundle: MessageBatch, reserve: boolean): Outcome[] {
    const awaited = this.#consumer !== undefined || this.#isRelay;
    const shutOut = (envelope: Envelope) => this.#isShutOut(envelope);
    const terms = { shutOut, awaited, reserve };
    if (!isStorageFull()) {
      try {
        this.#cut();
        return this.#store.append(bundle, Date.now(), terms);
      } catch (error) {
        // All of it has failed, so its sender may be told that it was refused.
        if (!noticeStorageFull(error)) throw error;
      }
    }
    return this.#store.append(bundle, Date.now(), { ...terms, full: true });
  }

  /** Whether the sessions on which messages came are to be suspended, and their object will be told of room. */
  #suspends(bundle: MessageBatch, outcomes: readonly Outcome[], from: string): boolean {
    const [envelope] = bundle.envelopes;
    // All that one object brings has one source.
    if (envelope === undefined || isStorageFull()) return false;
    const sender = senderOf(envelope.source);
    if (!this.#store.isAtMark(sender)) return false;
    const some = outcomes.some((outcome) => outcome === "stored" || outcome === "duplicate" || outcome === "quota");
    return some && this.#waiters.add(from, sender);
  }

  /**
   * Hands messages with flag D to the consumer, if there is one; they are never written down. Tells which sender may not
   * send here, and, when they are for an origin relay that is out of reach, why: of others nobody is told what becomes of
   * them.
   */
  async pass(bundle: MessageBatch): Promise<Refusal[]> {
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
    return refusalsOf(outcomes.map((before) => (before === "stored" ? outcome : before)));
  }

  async #pass(bundle: MessageBatch, count: number): Promise<Outcome> {
    if (this.#consumer === undefined && this.#link !== undefined) {
      const reached = await this.env.LINK.getByName(this.#peer)
        .reach()
        .catch(() => "ConnectionClosed" as const);
      if (reached !== "connected") {
        this.#untold.PeerOffline += count;
        return reached;
      }
    }
    const consumer = this.#consumer;
    const given = consumer === undefined ? "gone" : await this.#hand(consumer, bundle);
    const taken = given ?? { dropped: count };
    if (typeof taken === "object") this.#untold.SlowPeer += taken.dropped;
    if (taken === "gone") {
      this.#untold.PeerOffline += count;
      if (consumer !== undefined) this.#vacate(consumer);
    }
    return "stored";
  }

  /** One try: what is lost with a call that failed is lost by its sender's wish. Undefined when it is lost. */
  async #hand(consumer: Consumer, bundle: MessageBatch): Promise<Taken | undefined> {
    if (this.#hung?.consumer === consumer && Date.now() < this.#hung.until) return undefined;
    const peer = this.#peer;
    const { generation } = consumer;
    const handed = this.#reader(consumer.tunnel).deliver(peer, generation, [{ first: 0, bundle }], 0);
    try {
      const taken = await this.#handing.within(handed);
      if (taken !== undefined) return taken.value;
    } catch {
      return undefined;
    }
    // Nobody else is to wait for it.
    this.#hung = { consumer, until: Date.now() + HUNG_TIME };
    const answers = () => {
      if (this.#hung?.consumer === consumer) this.#hung = undefined;
    };
    handed.then(answers, answers);
    return undefined;
  }

  /** A Tunnel wants to consume this mailbox. It says `ready` with the generation when it has taken note of it. */
  async attach(): Promise<{ readonly generation: number }> {
    while (!this.#entered) await this.#enter();
    const generation = Number(this.#store.fact("generation") ?? this.#firstNumber()) + 1;
    this.#store.setFact("generation", String(generation));
    // Who never says that it is ready leaves nothing else.
    if (this.#isEmpty) await this.#setAlarm();
    return { generation };
  }

  /** The Tunnel consumes this mailbox from now on; whoever did before is told. False when a newer one does. */
  async ready(tunnel: string, generation: number): Promise<boolean> {
    // It may have gone since it was attached to.
    while (!this.#entered && !isStorageFull()) await this.#enter();
    this.#cut();
    const before = this.#consumer;
    if (before !== undefined && before.generation >= generation) return before.generation === generation;
    this.#setConsumer({ tunnel, generation });
    this.#setFormer(this.#former.filter((former) => former !== tunnel));
    if (before !== undefined && before.tunnel !== tunnel) this.ctx.waitUntil(this.#fence(before));
    this.#watchConsumer();
    await this.#setAlarm();
    this.#push();
    return true;
  }

  /** The Tunnel's virtual connection is over. */
  async detach(generation: number): Promise<void> {
    this.#cut();
    if (this.#consumer?.generation === generation) this.#vacate(this.#consumer);
  }

  /**
   * The consumer tells what became of messages that it was given. What is done with is not sent again, unless this memory
   * is lost at once.
   *
   * @returns undefined when it is no longer the consumer
   */
  async acknowledge(generation: number, report: DeliveryReport): Promise<Acknowledged | undefined> {
    if (this.#consumer?.generation !== generation) return undefined;
    const now = Date.now();
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

  /** What a sender may add, and whether somebody is there to take it. */
  async room(source: string): Promise<Room> {
    this.#cut();
    if (this.#locked || !maySend(this.#senders, source)) return { type: "locked" };
    const { octets, messages } = isStorageFull() ? NOTHING : this.#store.roomFor(senderOf(source));
    return { type: "room", octets, messages, attached: this.#consumer !== undefined };
  }

  /**
   * Removes messages that their sender takes back; their ids stay known. What is on its way to the consumer may arrive all
   * the same.
   *
   * @returns how many were removed
   */
  async withdraw(wanted: Wanted): Promise<number> {
    let removed = 0;
    for (let from: number | undefined = 0; from !== undefined; ) {
      this.#cut();
      const { found, next }: ReturnType<MailboxStore["find"]> = this.#store.find(wanted, from);
      const before = this.#store.messages;
      this.#store.remove(found);
      removed += before - this.#store.messages;
      this.#consumption.withdrawn(found);
      this.#consumption.prune();
      this.#tellOfRoom();
      from = next;
      // Others have their turn.
      if (from !== undefined) await scheduler.wait(0);
    }
    this.#count("Withdrawn", removed);
    await this.#setAlarm();
    return removed;
  }

  async status(): Promise<MailboxStatus> {
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
      rowsWritten: this.#store.rowsWritten,
      failedDeliveries: this.#failedDeliveries,
    };
  }

  /** Removes all that waits. Returns how many messages that were. */
  async purge(): Promise<number> {
    this.#cut();
    const purged = this.#store.purge(Date.now());
    this.#consumption.prune();
    this.#tellOfRoom();
    this.#count("Purged", purged);
    await this.#setAlarm();
    return purged;
  }

  /** Locks all senders out, or lets those in again whom the rule lets in. What waits stays. */
  async setLocked(locked: boolean): Promise<void> {
    while (!this.#entered) await this.#enter();
    this.#locked = locked;
    this.#store.setFact("locked", locked ? "1" : "0");
    await this.#setAlarm();
  }

  /** Who may send from now on. What waits stays. @throws SenderRuleError */
  async setSenders(text: string): Promise<void> {
    const rule = parseSenderRule(text);
    while (!this.#entered) await this.#enter();
    this.#senders = rule;
    this.#store.setFact("senders", formatSenderRule(rule));
    await this.#setAlarm();
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = undefined;
    this.#cut();
    this.#countVolatile();
    this.#count("Expired", this.#store.expire(Date.now()));
    this.#consumption.prune();
    this.#tellOfRoom();
    this.#consumption.offerLater(Date.now());
    const consumer = this.#consumer;
    // An edge that was killed may have left it here without a word.
    if (consumer !== undefined && this.#store.empty) {
      if ((await this.#deliver(consumer, [])) === "gone") this.#vacate(consumer);
    } else if (this.#isEmpty) return this.#go();
    this.ctx.waitUntil(this.#judgeConsumer());
    await this.#setAlarm();
    this.#push();
    this.#call();
  }

  /** Whether nobody would miss it. Its number of drops goes with it: a week after the last message they are no news. */
  get #isEmpty(): boolean {
    const used = this.#consumer !== undefined || this.#former.length > 0 || this.#waiters.size > 0;
    return !used && !this.#locked && formatSenderRule(this.#senders) === EVERYONE_TEXT && this.#store.empty;
  }

  /** Deletes everything, and leaves the directory. */
  async #go(): Promise<void> {
    // A message is just coming.
    if (this.#entering !== undefined) return;
    if (this.#entered && !(await this.#tellUsed())) return this.#setAlarm();
    const stamp = this.#store.fact("entered");
    // Nothing else happens in this object before all is deleted.
    const deleted = this.ctx.storage.deleteAll();
    this.#store.deleted();
    this.#entered = false;
    this.#consumption = new Consumption(this.#store);
    await deleted;
    this.#leaving = within(ENTER_TIMEOUT, this.#directory.leave(this.#peer, stamp)).catch(logError);
    // When it does not hear of it, the directory names a mailbox that is not there, which hurts nobody.
    this.ctx.waitUntil(this.#leaving);
  }

  /** Tells the directory which numbers were used. False when it has not heard, or something has happened meanwhile. */
  async #tellUsed(): Promise<boolean> {
    const used = this.#lastNumber;
    const told = await within(ENTER_TIMEOUT, this.#directory.keepUsed(used)).catch(logError);
    return told !== undefined && this.#isEmpty && this.#lastNumber === used;
  }

  /** The highest number of a message or a consumer. */
  get #lastNumber(): number {
    return Math.max(this.#store.last, Number(this.#store.fact("generation") ?? 0));
  }

  /**
   * What a new mailbox begins with, for messages and consumers: the time, in more than a million steps a second, which is
   * more than any mailbox takes, or what comes after all numbers that were used when the clock was ahead. It stays below
   * 2^53 until the year 2248.
   */
  #firstNumber(): number {
    return Math.max(Date.now() * NUMBERS_A_MILLISECOND, this.#used + 1);
  }

  /** Whether a sender may not send here, by the lock or the rule. */
  #isShutOut({ source }: Envelope): boolean {
    return this.#locked || !maySend(this.#senders, source);
  }

  #countRefused(outcomes: readonly Outcome[]): void {
    const refused = outcomes.filter((outcome) => outcome === "locked").length;
    this.#count(this.#locked ? "LockedOut" : "SenderNotAllowed", refused);
  }

  /** Shows itself to the directory, before anything is kept here. */
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
      // If it hears of it later, it has to forget it.
      this.ctx.waitUntil(this.#directory.leave(this.#peer, stamp).catch(() => undefined));
      throw new Error(`the directory has not answered within ${ENTER_TIMEOUT} ms`);
    }
    // An object of an older version says nothing.
    this.#used = entered.value ?? 0;
    this.#store.setFact("entered", stamp);
    this.#entered = true;
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

  /** The name of the Link to the relay whose mailbox this is. A relay that may not be dialled has none. */
  get #link(): string | undefined {
    if (!this.#isRelay) return undefined;
    const allowed = allowedLink(this.#peer, this.env);
    return allowed.type === "allowed" && allowed.url === this.#peer ? this.#peer : undefined;
  }

  /** A Link consumes the mailbox that has its own name; a relay that has connected by itself has a Tunnel, as devices do. */
  #reader(name: string): ConsumerRpc {
    return name === this.#peer ? this.env.LINK.getByName(name) : this.env.TUNNEL.getByName(name);
  }

  /** A Link sleeps until there is something for its relay. */
  #call(): void {
    if (this.#link === undefined || this.#consumer !== undefined || this.#store.messages === 0) return;
    this.ctx.waitUntil(
      this.env.LINK.getByName(this.#peer)
        .wake()
        .catch(() => undefined),
    );
  }

  /** Tells a Tunnel that it no longer consumes this mailbox. One that stays would take it back. */
  async #fence({ tunnel, generation }: Consumer): Promise<void> {
    for (const pause of RETRY_PAUSES) {
      try {
        const stays = await this.#reader(tunnel).fenced(this.#peer, generation);
        if (stays && this.#consumer?.tunnel !== tunnel) {
          const former = this.#former.filter((other) => other !== tunnel);
          // One that others were asked instead of comes after them.
          const benched = this.#patience.isBenched(tunnel, Date.now());
          const all = benched ? [tunnel, ...former] : [...former, tunnel];
          this.#setFormer(all.slice(-FORMER_CONSUMERS));
          this.#watchConsumer();
          await this.#setAlarm();
        }
        return;
      } catch {
        // It may hear of it later; what it says is not heard in any case.
        await scheduler.wait(pause);
      }
    }
  }

  /** The consumer has left. Whoever was it before, and is still there, is asked to come back. */
  #vacate(consumer: Consumer): void {
    if (this.#consumer !== consumer) return;
    this.#setConsumer(undefined);
    this.#countVolatile();
    if (this.#former.length > 0) this.ctx.waitUntil(this.#recall());
    else this.ctx.waitUntil(this.#setAlarm());
  }

  async #recall(): Promise<void> {
    for (let tunnel = this.#former.at(-1); tunnel !== undefined; tunnel = this.#former.at(-1)) {
      this.#setFormer(this.#former.slice(0, -1));
      const comes = await this.#reader(tunnel)
        .recall(this.#peer)
        .catch(() => false);
      if (comes || this.#consumer !== undefined) return;
    }
    await this.#setAlarm();
  }

  /** While other devices wait, the consumer has to acknowledge in time, or at least to show that it is there. */
  #watchConsumer(): void {
    const changed =
      this.#consumer === undefined || this.#former.length === 0 || this.#store.messages === 0
        ? this.#patience.end()
        : this.#patience.begin(this.#consumer.generation, Date.now());
    if (changed) this.#keep("held", this.#patience.held);
  }

  /**
   * Messages wait. A consumer that nobody hears of, or that keeps what it has, loses the mailbox to another device that
   * is there, if there is one.
   */
  async #judgeConsumer(): Promise<void> {
    const consumer = this.#consumer;
    if (consumer === undefined || this.#store.messages === 0) return;
    this.#watchConsumer();
    // Asked too when nobody else waits: a Tunnel ends a connection that it finds dead.
    const sign = await this.#asking.within(this.#reader(consumer.tunnel).lastSign()).catch(() => undefined);
    if (this.#consumer !== consumer) return;
    const now = Date.now();
    const why = this.#patience.impatience(now, sign?.value);
    if (why === undefined || (why === "NotAcknowledged" && this.#consumption.waiting === 0)) return;
    for (const tunnel of [...this.#former].reverse()) {
      if (this.#patience.isBenched(tunnel, now)) continue;
      this.#setFormer(this.#former.filter((former) => former !== tunnel));
      const comes = await this.#asking.within(this.#reader(tunnel).recall(this.#peer)).catch(() => undefined);
      if (!comes?.value) continue;
      console.warn(JSON.stringify({ reason: why, message: `${this.#peer} is given to another device` }));
      this.#patience.bench(consumer.tunnel, now);
      this.#keep("benched", this.#patience.benched);
      return;
    }
  }

  #setConsumer(consumer: Consumer | undefined): void {
    this.#consumer = consumer;
    this.#keep("consumer", consumer);
    this.#consumption.restart();
  }

  #setFormer(former: readonly string[]): void {
    if (former.length === 0 && this.#former.length === 0) return;
    this.#former = former;
    this.#keep("former", former);
  }

  /** Sends what the window allows. One push runs at a time; the platform keeps it back until what it sends is durable. */
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
      const deliveries = slices.map(({ first, bundle }) => ({ first, bundle }));
      const taken = await this.#deliver(consumer, deliveries);
      if (taken === "gone") {
        this.#vacate(consumer);
        return;
      }
      if (taken !== undefined) {
        failures = 0;
        continue;
      }
      // Nobody knows what became of the call. The Tunnel knows by number what it has.
      const pause = RETRY_PAUSES[failures];
      failures += 1;
      if (pause !== undefined) await scheduler.wait(pause);
      if (this.#consumer !== consumer) return;
      this.#cut();
      this.#consumption.repeat();
      // The alarm tries again.
      if (pause === undefined) return;
    }
  }

  /** Takes off the log what the consumer is done with. */
  #cut(): void {
    this.#consumption.cut();
    this.#tellOfRoom();
  }

  /** Tells those who wait for room when their sender may go on. */
  #tellOfRoom(): void {
    if (this.#waiters.size === 0 || this.#telling) return;
    const names = this.#takeWaiters();
    if (names.length === 0) return;
    // With what has made the room: should this memory be lost before they know, the alarm tells them.
    this.#alarmBy(Date.now() + ROOM_RETRY);
    this.#telling = true;
    const told = this.#tellAll(names).finally(() => {
      this.#telling = false;
      // What has failed is tried again.
      return this.#setAlarm();
    });
    this.ctx.waitUntil(told);
  }

  #takeWaiters(): string[] {
    return this.#waiters.take((sender) => this.#store.mayGoOn(sender), Date.now());
  }

  async #tellAll(first: readonly string[]): Promise<void> {
    for (let names = first; names.length > 0; names = this.#takeWaiters()) {
      await Promise.all(names.map((name) => this.#tellWriter(name)));
    }
  }

  async #tellWriter(name: string): Promise<void> {
    try {
      // A connection that is over hears it as well, and has nothing suspended.
      await this.#roomCalls.keep(this.#writer(name).room(this.#peer, this.#store.last));
      this.#waiters.told(name);
    } catch (error) {
      logError(error);
      this.#waiters.failed(name, Date.now());
    }
  }

  /** A Link brings what its relay sends; devices, and relays that have connected by themselves, have Tunnels. */
  #writer(name: string): SenderRpc {
    return isRelay(name) ? this.env.LINK.getByName(name) : this.env.TUNNEL.getByName(name);
  }

  /**
   * The next append writes to disk in any case, and a cut then costs next to nothing. One that is lost with this memory
   * is as an acknowledgement that was still on its way: the messages come again, and ids tell.
   */
  #cutSoon(): void {
    if (this.#cutting) return;
    this.#cutting = true;
    setTimeout(() => {
      this.#cutting = false;
      try {
        this.#cut();
      } catch (error) {
        // It is tried again with whatever is written next, and on a full disk nothing else may be.
        if (noticeStorageFull(error)) void scheduler.wait(FULL_PAUSE).then(() => this.#cutSoon());
        else console.error(JSON.stringify({ reason: "InternalError", message: String(error) }));
      }
    }, CUT_PAUSE);
  }

  /** Undefined when the call failed, so that nobody knows what became of it. */
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
   * The alarm is for what expires, and sooner for what may have been forgotten while somebody should be reading. Messages
   * that come later expire later, so one that is set is never too late for them; ids that are kept for longer than they
   * are needed do no harm.
   */
  async #setAlarm(): Promise<void> {
    const watched = (this.#consumer !== undefined || this.#isRelay) && this.#consumption.waiting > 0;
    const held = this.#patience.held;
    const look = held === undefined ? Date.now() + WATCH_INTERVAL : this.#patience.due(Date.now());
    const watch = watched || held !== undefined ? look : Number.POSITIVE_INFINITY;
    const unused = this.#consumer === undefined && this.#store.messages === 0;
    const least = unused ? this.#leastUse() : Number.POSITIVE_INFINITY;
    const room = this.#telling ? Date.now() + ROOM_RETRY : this.#waiters.retryAt;
    const again = Math.min(watch, least, room, this.#consumption.laterAt ?? Number.POSITIVE_INFINITY);
    if (this.#alarmAt !== undefined && this.#alarmAt <= again) return;
    const due = Math.min(again, this.#store.expiry() ?? this.#leastUse());
    if (due === Number.POSITIVE_INFINITY) return;
    this.#alarmAt ??= (await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY;
    if (this.#alarmAt <= due) return;
    this.#alarmAt = due;
    await this.ctx.storage.setAlarm(due);
  }

  /** The alarm comes by then; whatever it was set for before comes a little later at the worst. */
  #alarmBy(at: number): void {
    if (this.#alarmAt !== undefined && this.#alarmAt <= at) return;
    this.#alarmAt = at;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(at));
  }

  /** When a mailbox without messages and ids is looked at. */
  #leastUse(): number {
    if (this.#isEmpty) return this.#entered ? Date.now() + EMPTY_TIME : Number.POSITIVE_INFINITY;
    return this.#consumer === undefined ? Number.POSITIVE_INFINITY : Date.now() + CONSUMER_CHECK;
  }

  /** Writes down what touched no table, when there is a write in any case. */
  #countVolatile(): void {
    if (Object.values(this.#untold).every((count) => count === 0)) return;
    this.#keep("dropped", this.#dropped());
    this.#untold = noDrops();
  }

  /** What was dropped, written down or not. */
  #dropped(): DropCounts {
    const dropped = { ...noDrops(), ...this.#kept<Partial<DropCounts>>("dropped") };
    for (const [drop, count] of Object.entries(this.#untold)) dropped[drop as Drop] += count;
    return dropped;
  }

  #count(drop: Drop, number: number): void {
    if (number === 0) return;
    this.#untold[drop] += number;
    // What room is left is for what empties the mailbox.
    if (!isStorageFull()) this.#countVolatile();
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

const EVERYONE_TEXT = formatSenderRule(EVERYONE);

/** Numbers that a mailbox may use in a millisecond, so that one that is made anew begins above all that were used before. */
const NUMBERS_A_MILLISECOND = 1024;

/** What the sender has to hear of what became of its messages. */
function refusalsOf(outcomes: readonly Outcome[]): Refusal[] {
  return outcomes.flatMap((outcome, at) => (outcome === "stored" || outcome === "duplicate" ? [] : [{ at, outcome }]));
}
