/**
 * What a relay's connections share: the store, which connection consumes which queue, and one commit per turn of the
 * event loop. A message is acknowledged only after the commit that stored it.
 *
 * @module
 */
import { printable } from "../lib/printable.ts";
import { ConnectCloseReasonId } from "../sstp/index.ts";
import { Patience, SIGN_OF_LIFE } from "../store-and-forward/consumer-timeout.ts";
import { type Drop, noDrops } from "../store-and-forward/drop-reasons.ts";
import {
  ACKNOWLEDGE_TIME,
  COMMIT_REMOVALS,
  DECLINED_COUNTED,
  REFUSED_FOR,
  REFUSED_MESSAGES,
  STREAM_LOOK,
} from "./limits.ts";
import type { RelayTrust } from "./relay-trust.ts";
import type { Destination, Envelope, Store } from "./store.ts";
import type { Streamed, Volatile } from "./stored-queue.ts";

/** What is needed to remove a message from the store. */
interface Removable {
  readonly seq: number;
  readonly peer: string;
}

/** A queue wanted by several connections, and how long its consumer may stall. */
interface Contest {
  readonly patience: Patience<Consumer>;
  /** Incremented with each change of consumer. */
  generation: number;
}

/** A connection, as the hub sees it. */
export interface Consumer {
  /** Device URL of the peer; empty before its Connect. */
  readonly source: string;
  /** When the peer last showed a sign of life. */
  readonly lastSign: number;
  /** Whether delivery from this queue waits only for the peer. */
  owes(peer: string): boolean;
  /** Called after the commit: acknowledge what was stored. */
  settle(): void;
  /** Called when a queue it consumes may have more messages. */
  pump(): void;
  /** Delivers a message that is not stored. */
  deliverVolatile(message: Volatile): void;
  /**
   * Tells the senders of what is streamed to the peer and waits for long, and drops what waits for too long. Returns
   * whether more waits.
   */
  lookAtStreams(now: number): boolean;
  /** Called when another connection takes over this queue. */
  loseQueue(peer: string): void;
  /** Called when the queue comes back, because the other connection ended or stalled. */
  regainQueue(peer: string): void;
  /**
   * Called when there may be room in a queue for which it suspended sessions.
   *
   * @param mayGoOn whether a sender has room again
   * @returns whether any of its sessions still waits for this queue
   */
  room(peer: string, mayGoOn: (sender: string) => boolean): boolean;
  /** Ends the connection, telling the peer the reason. */
  close(reasonId: number): void;
}

export class Hub {
  readonly store: Store;
  readonly relays: RelayTrust;
  readonly log: (line: string) => void;
  readonly dropped = noDrops();
  /** Connections that want each peer's queue, oldest first. The last one consumes it. */
  readonly #consumers = new Map<string, readonly Consumer[]>();
  /** Contests by peer, for queues that several connections want. */
  readonly #contests = new Map<string, Contest>();
  /** Set while messages wait in a contested queue. */
  #judging: NodeJS.Timeout | undefined;
  /** When messages were first refused for their length, by peer and sequence number. */
  readonly #refusals = new Map<string, Map<number, number>>();
  /** Up to which sequence number a refused destination's messages have been counted. */
  readonly #declined = new Map<string, number>();
  /** Connections of which sessions wait for room in a peer's queue. */
  readonly #waiters = new Map<string, Set<Consumer>>();
  readonly #unsettled = new Set<Consumer>();
  readonly #filled = new Set<string>();
  /** Connections to whose peers something is streamed, and the timer that looks at them. */
  readonly #streamed = new Set<Consumer>();
  #looking: NodeJS.Timeout | undefined;
  #settling: NodeJS.Immediate | undefined;
  #committing: NodeJS.Timeout | undefined;

  constructor(store: Store, log: (line: string) => void, relays: RelayTrust) {
    this.store = store;
    this.log = log;
    this.relays = relays;
  }

  /**
   * Records that a device refused a stored message for its length. A message refused for an hour is dropped; the hour
   * starts over when the relay restarts. Returns true if the message was dropped.
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
      // Make room: some of these messages may have expired.
      for (const one of since.keys()) if (this.store.after(peer, one - 1, 1)[0]?.seq !== one) since.delete(one);
    }
    if (first === undefined && since.size < REFUSED_MESSAGES) since.set(seq, now);
    return false;
  }

  /** Removes messages from the store. */
  remove(messages: readonly Removable[]): void {
    this.store.remove(messages);
    if (this.#refusals.size === 0) return;
    for (const { seq, peer } of messages) {
      const since = this.#refusals.get(peer);
      if (since?.delete(seq) && since.size === 0) this.#refusals.delete(peer);
    }
  }

  /** Counts the messages of a destination that a device refuses, up to `seq`, each once. */
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

  /** Makes the connection the consumer of a peer's queue. Returns the previous consumer. */
  consume(peer: string, connection: Consumer): Consumer | undefined {
    const before = this.consumer(peer);
    if (before === connection) return undefined;
    const others = (this.#consumers.get(peer) ?? []).filter((other) => other !== connection);
    this.#setConsumers(peer, [...others, connection]);
    return before;
  }

  /** Called when a connection ends. The queue returns to the newest other connection that wants it. */
  release(peer: string, connection: Consumer): void {
    const all = this.#consumers.get(peer) ?? [];
    const others = all.filter((other) => other !== connection);
    this.#setConsumers(peer, others);
    if (all.at(-1) === connection) others.at(-1)?.regainQueue(peer);
  }

  /** Removes messages that a device has acknowledged. */
  acknowledged(messages: readonly Removable[], connection: Consumer): void {
    this.remove(messages);
    if (this.#contests.size === 0) return;
    for (const peer of new Set(messages.map((message) => message.peer))) {
      const contest = this.consumer(peer) === connection ? this.#contests.get(peer) : undefined;
      contest?.patience.acknowledged(contest.generation, Date.now(), true);
    }
  }

  /** Registers a connection that has suspended a session until its sender has room in a peer's queue. */
  suspend(peer: string, connection: Consumer): void {
    const waiting = this.#waiters.get(peer) ?? new Set();
    this.#waiters.set(peer, waiting.add(connection));
  }

  /** Called when a connection ends: it no longer waits for room. */
  forget(connection: Consumer): void {
    for (const [peer, waiting] of this.#waiters) {
      if (waiting.delete(connection) && waiting.size === 0) this.#waiters.delete(peer);
    }
  }

  /** Notifies connections whose senders have room again. */
  #tellOfRoom(): void {
    for (const [peer, waiting] of this.#waiters) {
      const mayGoOn = (sender: string) => this.store.mayGoOn(peer, sender);
      for (const connection of waiting) if (!connection.room(peer, mayGoOn)) waiting.delete(connection);
      if (waiting.size === 0) this.#waiters.delete(peer);
    }
  }

  /** Marks a queue as filled. Its consumer is notified after the commit. */
  filled(peer: string): void {
    this.#filled.add(peer);
  }

  /**
   * Hands a message with flag D to the peer's connection. False if there is none.
   *
   * @param stream if it is streamed between devices
   */
  pass(envelope: Envelope, body: readonly Uint8Array[], size: number, stream?: Streamed): boolean {
    const connection = this.consumer(envelope.peer);
    if (connection === undefined) return false;
    if (stream !== undefined) {
      this.#streamed.add(connection);
      this.#lookAtStreams();
    }
    connection.deliverVolatile({ kind: "volatile", envelope, size, body, stream });
    return true;
  }

  /** Drops in time what is streamed to peers that take nothing: nobody waits for them for long. */
  #lookAtStreams(): void {
    this.#looking ??= setTimeout(() => {
      this.#looking = undefined;
      const now = Date.now();
      for (const connection of this.#streamed) if (!connection.lookAtStreams(now)) this.#streamed.delete(connection);
      if (this.#streamed.size > 0) this.#lookAtStreams();
    }, STREAM_LOOK);
  }

  /** Schedules a commit for the end of this turn, after which the connection is settled. */
  settleLater(connection: Consumer): void {
    this.#unsettled.add(connection);
    this.#settling ??= setImmediate(() => this.settle());
  }

  /** Schedules a commit of removals. Without it the messages would reappear after a restart. */
  commitLater(): void {
    this.#committing ??= setTimeout(() => this.settle(), COMMIT_REMOVALS);
  }

  /** Commits, then lets connections acknowledge, then lets consumers fetch. */
  settle(): void {
    clearImmediate(this.#settling);
    this.#settling = undefined;
    clearTimeout(this.#committing);
    this.#committing = undefined;
    const stored = this.store.commit();
    const unsettled = [...this.#unsettled];
    this.#unsettled.clear();
    if (!stored) {
      // The senders still have their unacknowledged messages and resend them on a new connection.
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

  /** Starts the clock for a contested queue in which messages wait, afresh if its consumer owed nothing until now. */
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

  /** Reassigns contested queues whose consumers are silent or do not acknowledge. */
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
      this.log(`${printable(peer)} goes to another device than ${printable(consumer.source)}: ${why}`);
      patience.bench(consumer, now);
      const rest = others.filter((other) => other !== next).toReversed();
      this.#setConsumers(peer, [consumer, ...rest, next]);
      consumer.loseQueue(peer);
      next.regainQueue(peer);
    }
  }
}
