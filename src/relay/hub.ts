/**
 * What the connections of one relay share: the store, who consumes which queue, and the one commit a turn.
 *
 * @module
 */
import { printable } from "../lib/printable.ts";
import { ConnectCloseReasonId } from "../sstp/index.ts";
import { type Drop, noDrops } from "../store-and-forward/drop-reasons.ts";
import { Patience, SIGN_OF_LIFE } from "../store-and-forward/patience.ts";
import { ACKNOWLEDGE_TIME, COMMIT_REMOVALS, DECLINED_COUNTED, REFUSED_FOR, REFUSED_MESSAGES } from "./limits.ts";
import type { RelayTrust } from "./relay-trust.ts";
import type { Destination, Envelope, Store } from "./store.ts";
import type { Outgoing } from "./stored-queue.ts";

/** A message of the store, as far as it takes to remove it. */
interface Removable {
  readonly seq: number;
  readonly peer: string;
}

/** A queue that several connections want: how long its consumer is waited for. */
interface Contest {
  readonly patience: Patience<Consumer>;
  /** Counts the consumers. */
  generation: number;
}

/** What a hub wants of a connection. */
export interface Consumer {
  /** Device URL of the peer, empty before its Connect. */
  readonly source: string;
  /** When the peer has shown last that it is there. */
  readonly lastSign: number;
  /** Whether messages of a queue that it consumes wait for nothing but its peer. */
  owes(peer: string): boolean;
  /** The commit is done: what waited for it may be acknowledged. */
  settle(): void;
  /** A queue that it consumes may have more. */
  pump(): void;
  /** A message that is not stored. */
  deliverVolatile(message: Outgoing): void;
  /** Another connection consumes this peer's queue from now on. */
  loseQueue(peer: string): void;
  /** That connection is over, or is waited for no longer, and this one consumes the queue again. */
  regainQueue(peer: string): void;
  /** A queue for which sessions of its peer were suspended has room again. */
  room(peer: string): void;
  /** Ends the connection; the peer reads the reason. */
  close(reasonId: number): void;
}

export class Hub {
  readonly store: Store;
  readonly relays: RelayTrust;
  readonly log: (line: string) => void;
  readonly dropped = noDrops();
  /** The connections that want each peer's queue, oldest first; the last one consumes it. */
  readonly #consumers = new Map<string, readonly Consumer[]>();
  /** By the peer: those of queues that more than one connection wants. */
  readonly #contests = new Map<string, Contest>();
  /** Runs while messages wait in such a queue. */
  #judging: NodeJS.Timeout | undefined;
  /** Since when messages are refused for their length, by their peer and their number in the store. */
  readonly #refusals = new Map<string, Map<number, number>>();
  /** Up to which message those of a destination that a device refuses were counted. */
  readonly #declined = new Map<string, number>();
  /** Who waits for room in a queue, by its peer, and as which sender. */
  readonly #waiters = new Map<string, Map<Consumer, string>>();
  readonly #unsettled = new Set<Consumer>();
  readonly #filled = new Set<string>();
  #settling: NodeJS.Immediate | undefined;
  #committing: NodeJS.Timeout | undefined;

  constructor(store: Store, log: (line: string) => void, relays: RelayTrust) {
    this.store = store;
    this.log = log;
    this.relays = relays;
  }

  /**
   * A device has refused a stored message for its length. It is dropped when that has been so for an hour, which begins
   * anew when the relay does. True when it is gone.
   */
  refused({ seq, peer }: Removable, now: number): boolean {
    let since = this.#refusals.get(peer);
    if (since === undefined) {
      since = new Map();
      this.#refusals.set(peer, since);
    }
    const first = since.get(seq);
    if (first !== undefined && now - first >= REFUSED_FOR) {
      this.remove([{ seq, peer }]);
      this.drop("RefusedByPeer");
      this.commitLater();
      return true;
    }
    if (since.size >= REFUSED_MESSAGES) {
      // Some may have expired.
      for (const one of since.keys()) if (this.store.after(peer, one - 1, 1)[0]?.seq !== one) since.delete(one);
    }
    if (first === undefined && since.size < REFUSED_MESSAGES) since.set(seq, now);
    return false;
  }

  /** Messages leave the store. */
  remove(messages: readonly Removable[]): void {
    this.store.remove(messages);
    if (this.#refusals.size === 0) return;
    for (const { seq, peer } of messages) {
      const since = this.#refusals.get(peer);
      if (since?.delete(seq) && since.size === 0) this.#refusals.delete(peer);
    }
  }

  /** A device takes nothing for a destination: the messages of it up to one are counted, each once. */
  declined(key: string, destination: Destination, seq: number): void {
    const name = `${destination.peer}\n${key}`;
    const counted = this.#declined.get(name) ?? 0;
    if (seq <= counted) return;
    this.#declined.delete(name);
    this.#declined.set(name, seq);
    this.drop("ResourceRefused", this.store.countBetween(destination, counted + 1, seq));
    if (this.#declined.size <= DECLINED_COUNTED) return;
    const [oldest] = this.#declined.keys();
    if (oldest !== undefined) this.#declined.delete(oldest);
  }

  drop(reason: Drop, count = 1): void {
    this.dropped[reason] += count;
  }

  consumer(peer: string): Consumer | undefined {
    return this.#consumers.get(peer)?.at(-1);
  }

  /** The connection consumes a peer's queue from now on. Returns the one that did so before. */
  consume(peer: string, connection: Consumer): Consumer | undefined {
    const before = this.consumer(peer);
    if (before === connection) return undefined;
    const others = (this.#consumers.get(peer) ?? []).filter((other) => other !== connection);
    this.#setConsumers(peer, [...others, connection]);
    return before;
  }

  /** The connection is over: a peer's queue goes back to the newest of those that wanted it before. */
  release(peer: string, connection: Consumer): void {
    const all = this.#consumers.get(peer) ?? [];
    const others = all.filter((other) => other !== connection);
    this.#setConsumers(peer, others);
    if (all.at(-1) === connection) others.at(-1)?.regainQueue(peer);
  }

  /** A device has acknowledged messages. */
  acknowledged(messages: readonly Removable[], connection: Consumer): void {
    this.remove(messages);
    if (this.#contests.size === 0) return;
    for (const peer of new Set(messages.map((message) => message.peer))) {
      const contest = this.consumer(peer) === connection ? this.#contests.get(peer) : undefined;
      contest?.patience.acknowledged(contest.generation, Date.now(), true);
    }
  }

  /** Sessions of a connection are suspended, since its sender has used up its share of a peer's queue. */
  suspend(peer: string, sender: string, connection: Consumer): void {
    const waiting = this.#waiters.get(peer);
    if (waiting === undefined) this.#waiters.set(peer, new Map([[connection, sender]]));
    else waiting.set(connection, sender);
  }

  /** A connection is over: it waits for no room. */
  forget(connection: Consumer): void {
    for (const [peer, waiting] of this.#waiters) {
      if (waiting.delete(connection) && waiting.size === 0) this.#waiters.delete(peer);
    }
  }

  /** Tells those who wait for room when their sender may go on. */
  #tellOfRoom(): void {
    for (const [peer, waiting] of this.#waiters) {
      for (const [connection, sender] of waiting) {
        if (!this.store.mayGoOn(peer, sender)) continue;
        waiting.delete(connection);
        connection.room(peer);
      }
      if (waiting.size === 0) this.#waiters.delete(peer);
    }
  }

  /** A message was stored for a peer: its consumer is told after the commit. */
  filled(peer: string): void {
    this.#filled.add(peer);
  }

  /** Hands a message with flag D to the peer's connection. False when there is none. */
  pass(envelope: Envelope, body: readonly Uint8Array[], size: number): boolean {
    const connection = this.consumer(envelope.peer);
    if (connection === undefined) return false;
    const outgoing: Outgoing = { kind: "volatile", envelope, size, body };
    connection.deliverVolatile(outgoing);
    return true;
  }

  /** The connection has something that waits for the commit. All that comes in this turn of the event loop shares one. */
  settleLater(connection: Consumer): void {
    this.#unsettled.add(connection);
    this.#settling ??= setImmediate(() => this.settle());
  }

  /** Something was removed from the store. Nobody waits for the commit, but without one it would come back. */
  commitLater(): void {
    this.#committing ??= setTimeout(() => this.settle(), COMMIT_REMOVALS);
  }

  /** Commits, then lets the connections acknowledge, then lets the consumers fetch. */
  settle(): void {
    clearImmediate(this.#settling);
    this.#settling = undefined;
    clearTimeout(this.#committing);
    this.#committing = undefined;
    const stored = this.store.commit();
    const unsettled = [...this.#unsettled];
    this.#unsettled.clear();
    if (!stored) {
      // Their senders still have what was to be acknowledged, and send it again on a new connection.
      for (const connection of unsettled) connection.close(ConnectCloseReasonId.Resting);
      this.#filled.clear();
      return;
    }
    for (const connection of unsettled) connection.settle();
    const filled = [...this.#filled];
    this.#filled.clear();
    for (const peer of filled) {
      if (this.#contests.size > 0) this.#await(peer);
      this.consumer(peer)?.pump();
    }
    if (this.#waiters.size > 0) this.#tellOfRoom();
  }

  #setConsumers(peer: string, consumers: readonly Consumer[]): void {
    if (consumers.length === 0) this.#consumers.delete(peer);
    else this.#consumers.set(peer, consumers);
    if (consumers.length < 2) {
      this.#contests.delete(peer);
      if (this.#contests.size > 0) return;
      clearTimeout(this.#judging);
      this.#judging = undefined;
      return;
    }
    let contest = this.#contests.get(peer);
    if (contest === undefined) {
      contest = { patience: new Patience(ACKNOWLEDGE_TIME, undefined), generation: 0 };
      this.#contests.set(peer, contest);
    }
    contest.generation += 1;
    if (this.#hasMessages(peer)) this.#await(peer);
  }

  #hasMessages(peer: string): boolean {
    return this.store.after(peer, 0, 1).length > 0;
  }

  /** Messages wait for the consumer of a queue that others want. Its time begins when it owes nothing until now. */
  #await(peer: string): void {
    const contest = this.#contests.get(peer);
    if (contest === undefined) return;
    if (this.consumer(peer)?.owes(peer) !== true) contest.patience.end();
    contest.patience.begin(contest.generation, Date.now());
    this.#judgeLater();
  }

  #judgeLater(): void {
    this.#judging ??= setTimeout(() => this.#judge(), SIGN_OF_LIFE);
  }

  /** Gives queues to other connections where their consumers are silent or keep what they have. */
  #judge(): void {
    this.#judging = undefined;
    const now = Date.now();
    for (const [peer, contest] of this.#contests) {
      const [consumer, ...others] = (this.#consumers.get(peer) ?? []).toReversed();
      const { patience } = contest;
      if (consumer === undefined || !this.#hasMessages(peer)) {
        patience.end();
        continue;
      }
      this.#judgeLater();
      if (!consumer.owes(peer)) {
        patience.end();
        continue;
      }
      patience.begin(contest.generation, now);
      const why = patience.impatience(now, consumer.lastSign);
      const next = others.find((other) => !patience.isBenched(other, now));
      if (why === undefined || next === undefined) continue;
      this.log(`${printable(peer)} is given to another device than ${printable(consumer.source)}: ${why}`);
      patience.bench(consumer, now);
      const rest = others.filter((other) => other !== next).toReversed();
      this.#setConsumers(peer, [consumer, ...rest, next]);
      consumer.loseQueue(peer);
      next.regainQueue(peer);
    }
  }
}
