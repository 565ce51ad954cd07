/**
 * Tracks the consumer of a mailbox: what it has not acknowledged, what it has set aside, and what it refuses. Decides
 * which messages it is sent next.
 *
 * Messages of all senders are sent in order of arrival, to another relay too. A Tunnel or Link knows by sequence number
 * what it was given, and treats a message with a number below the last as a duplicate.
 *
 * Settled messages leave the log a little later, together with other writes. What is set aside is stored in the facts,
 * so that it is not sent again after eviction. What is in flight is only in memory: it is sent again, and the consumer
 * drops what it has by sequence number.
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";
import type { Drop } from "../../store-and-forward/drop-reasons.ts";
import { counters } from "../metrics/counters.ts";
import type { DeliveryReport } from "../rpc/delivery-report.ts";
import { DeliveryTimes } from "./delivery-times.ts";
import {
  AHEAD_OCTETS,
  ASIDE_RANGES,
  DECLINED_RANGES,
  LATER,
  REFUSED_FOR,
  REFUSED_MESSAGES,
  SEND_WINDOW_MESSAGES,
} from "./limits.ts";
import type { MailboxStore, Slice } from "./mailbox-store.ts";
import { SendWindow } from "./send-window.ts";

/** The stored form of what is set aside. */
interface AsideRow {
  readonly aside: readonly Range[];
  /** The part that is offered again by itself, and when. */
  readonly later: readonly Range[];
  readonly at: number;
}

/** A message refused for its size, and when it was first refused. */
type RefusedRow = readonly [seq: number, since: number];

/** Drops caused by a report, by reason. */
export type Dropped = Partial<Record<Drop, number>>;

export class Consumption {
  readonly #store: MailboxStore;
  readonly #flying = new SendWindow();
  readonly #times = new DeliveryTimes();
  /** The last message sent. Below `#top`, the highest ever sent, while messages are sent again. */
  #sent: number;
  #top: number;
  /** Settled, but still in the log. */
  readonly #done = new Ranges();
  /** How many of them were refused. */
  #undelivered = 0;
  readonly #aside: Ranges;
  readonly #later: Ranges;
  #laterAt: number;
  readonly #refused: Map<number, number>;
  /** Messages that some device has refused for good, and that are counted as such. */
  readonly #declined: Ranges;

  constructor(store: MailboxStore) {
    this.#store = store;
    const { aside, later, at } = this.#kept<AsideRow>("aside") ?? { aside: [], later: [], at: 0 };
    this.#aside = new Ranges(aside);
    this.#later = new Ranges(later);
    this.#laterAt = at;
    this.#refused = new Map(this.#kept<RefusedRow[]>("refusals"));
    this.#declined = new Ranges(this.#kept<Range[]>("declined"));
    this.#sent = store.position;
    this.#top = store.position;
  }

  /** Starts over for another consumer, or for none: all waiting messages are offered to the next. */
  restart(): void {
    this.repeat();
    this.#offerAside();
  }

  /** The same for a consumer that takes over from another. It counts as quick if that one was, until it is known. */
  handOver(): void {
    this.#rewind();
    this.#flying.handOver();
    this.#offerAside();
  }

  /** Sends unacknowledged messages again. */
  repeat(): void {
    this.#rewind();
    this.#flying.clear();
  }

  /** Whether the consumer holds unacknowledged messages. */
  get isBusy(): boolean {
    return this.#flying.count > 0;
  }

  /**
   * Whether messages may wait for their acknowledgement without slowing their sender down: the consumer is quick, near, and
   * takes all that it is sent.
   */
  isClose(now: number): boolean {
    return this.#aside.count === 0 && this.#flying.isNear && this.#flying.isQuick(now);
  }

  /**
   * Whether a quick consumer is so far behind the senders that what waits for it no longer fits in memory. Nothing is
   * known of how much is set aside, so it is false while anything is.
   */
  isBehind(now: number): boolean {
    if (this.#aside.count > 0 || !this.#flying.isQuick(now)) return false;
    return this.#store.octets - this.#flying.octets > AHEAD_OCTETS;
  }

  /** Number of waiting messages that are not set aside. */
  get waiting(): number {
    return this.#store.messages - this.#aside.count;
  }

  /** Number of messages set aside. */
  get aside(): number {
    return this.#aside.count;
  }

  /** When deferred messages are offered again; undefined if there are none. */
  get laterAt(): number | undefined {
    return this.#later.count === 0 ? undefined : this.#laterAt;
  }

  /** Returns the next messages within the consumer's window, and counts them as in flight. */
  next(now = Date.now()): Slice[] {
    const window = this.#flying.most(now);
    const octets = window - this.#flying.octets;
    const count = SEND_WINDOW_MESSAGES - this.#flying.count;
    if (octets <= 0 || count <= 0) return [];
    if ((this.#done.last ?? 0) > this.#sent) this.cut(now);
    // A message larger than the rest of the window waits until half the window is free. The other half may be held by
    // sessions that are not ready.
    const atLeastOne = this.#flying.octets <= window / 2;
    const slices = this.#store.read(this.#sent, octets, count, { excluded: this.#excluded(), atLeastOne });
    if (slices.length === 0 && atLeastOne) this.#sent = Math.max(this.#sent, this.#top);
    for (const { first, at, sizes } of slices) {
      this.#flying.add(first, sizes, now);
      this.#times.sent(first, sizes.length, at);
      this.#sent = first + sizes.length - 1;
    }
    this.#top = Math.max(this.#top, this.#sent);
    return slices;
  }

  /** Applies a consumer's report. Returns the drops it causes. */
  report(report: DeliveryReport, now: number): Dropped {
    // Clamp to messages that exist: a future number in the report would delete its message on arrival.
    const [done, aside, later, again] = [report.done, report.aside, report.later, report.again].map((ranges) =>
      this.#known(ranges ?? []),
    ) as [Range[], Range[], Range[], Range[]];
    const dropped: Dropped = {};
    const asideBefore = this.#aside.count;
    for (const [from, to] of done) {
      this.#done.add(from, to);
      if (asideBefore > 0) this.#notAside(from, to);
    }
    this.#flying.acknowledged(done, now);
    this.#times.acknowledged(done, now);
    this.#flying.landed(done);
    if (report.dropped !== undefined) dropped.SlowPeer = report.dropped;
    if (report.recipients !== undefined) dropped.RefusedByPeer = report.recipients;
    if (aside.length + later.length + again.length > 0) {
      for (const [from, to] of [...aside, ...later]) this.#aside.add(from, to);
      for (const [from, to] of later) this.#later.add(from, to);
      if (later.length > 0) this.#laterAt = Math.max(this.#laterAt, now + LATER);
      for (const [from, to] of again) {
        this.#notAside(from, to);
        this.#sent = Math.min(this.#sent, from - 1);
      }
      for (const landed of [aside, later, again]) {
        this.#flying.landed(landed);
        this.#times.forget(landed);
      }
      const declined = this.#decline(this.#known(report.declined ?? []));
      if (declined > 0) dropped.ResourceRefused = declined;
      const refused = this.#refuse(report.refused ?? [], now);
      if (refused > 0) dropped.RefusedByPeer = (dropped.RefusedByPeer ?? 0) + refused;
    }
    if (aside.length + later.length + again.length > 0 || this.#aside.count !== asideBefore) this.#keepAside();
    return dropped;
  }

  /** Removes settled messages from the log. */
  cut(now = Date.now()): void {
    if (this.#done.count === 0) return;
    const done = [...this.#done];
    const { messages, octets } = this.#store;
    this.#done.clear();
    this.#store.settle(done, now);
    counters.count("messagesDelivered", "stored", messages - this.#store.messages - this.#undelivered);
    counters.count("bytesDelivered", "stored", octets - this.#store.octets);
    this.#undelivered = 0;
  }

  /** Forgets messages that have left the mailbox otherwise, such as by expiry, even if they were set aside. */
  prune(): void {
    const { position } = this.#store;
    this.#sent = Math.max(this.#sent, position);
    this.#top = Math.max(this.#top, position);
    if ((this.#aside.first ?? Number.POSITIVE_INFINITY) > position) return;
    this.#notAside(0, position);
    this.#keepAside();
  }

  /** Forgets withdrawn messages that were set aside. Messages in flight may still arrive. */
  withdrawn(ranges: readonly Range[]): void {
    const before = this.#aside.count;
    for (const [from, to] of ranges) this.#notAside(from, to);
    if (this.#aside.count !== before) this.#keepAside();
  }

  /** Offers deferred messages again when they are due. */
  offerLater(now: number): void {
    if (this.#later.count === 0 || now < this.#laterAt) return;
    this.report({ again: [...this.#later] }, now);
  }

  #rewind(): void {
    this.#times.clear();
    this.#sent = this.#store.position;
    this.#top = this.#sent;
  }

  #offerAside(): void {
    if (this.#aside.count === 0) return;
    this.#aside.clear();
    this.#later.clear();
    this.#keepAside();
  }

  /** Messages not to send: set aside, or in flight. */
  #excluded(): Ranges {
    if (this.#sent >= this.#top || this.#flying.count === 0) return this.#aside;
    const excluded = this.#flying.ranges;
    for (const [from, to] of this.#aside) excluded.add(from, to);
    return excluded;
  }

  /** The part of the ranges that has arrived. */
  #known(ranges: readonly Range[]): Range[] {
    const { last } = this.#store;
    return ranges.flatMap(([from, to]) => (from > last ? [] : [[from, Math.min(to, last)] as const]));
  }

  #notAside(from: number, to: number): void {
    this.#aside.delete(from, to);
    this.#later.delete(from, to);
  }

  /** Counts messages that were not refused for good before. */
  #decline(ranges: readonly Range[]): number {
    const before = this.#declined.count;
    for (const [from, to] of ranges) this.#declined.add(from, to);
    const count = this.#declined.count - before;
    if (count === 0) return 0;
    this.#declined.delete(0, this.#store.position);
    // If there are too many ranges, the oldest gap is closed. A message in it will not be counted.
    for (let ranges = [...this.#declined]; ranges.length > DECLINED_RANGES; ranges = [...this.#declined]) {
      const [oldest, next] = ranges;
      this.#declined.add(oldest?.[0] ?? 0, next?.[0] ?? 0);
    }
    this.#keep("declined", [...this.#declined]);
    return count;
  }

  /** Drops messages that have been refused for long enough, and returns their number. */
  #refuse(messages: readonly number[], now: number): number {
    let dropped = 0;
    for (const seq of messages) {
      if (seq > this.#store.last) continue;
      const since = this.#refused.get(seq) ?? now;
      if (now - since < REFUSED_FOR) {
        if (this.#refused.size < REFUSED_MESSAGES) this.#refused.set(seq, since);
        continue;
      }
      this.#refused.delete(seq);
      this.#notAside(seq, seq);
      this.#done.add(seq);
      this.#undelivered += 1;
      dropped += 1;
    }
    if (messages.length === 0) return 0;
    for (const seq of this.#refused.keys()) if (seq <= this.#store.position) this.#refused.delete(seq);
    this.#keep("refusals", [...this.#refused]);
    return dropped;
  }

  #keepAside(): void {
    const kept: AsideRow = {
      aside: [...this.#aside].slice(0, ASIDE_RANGES),
      later: [...this.#later].slice(0, ASIDE_RANGES),
      at: this.#laterAt,
    };
    this.#keep("aside", kept);
  }

  #kept<T>(name: string): T | undefined {
    const value = this.#store.fact(name);
    return value === undefined ? undefined : ((JSON.parse(value) as T | null) ?? undefined);
  }

  #keep(name: string, value: unknown): void {
    this.#store.setFact(name, JSON.stringify(value));
  }
}
