/**
 * What one device brings in: messages from its sessions to the mailboxes of their recipients. What comes while a mailbox
 * is busy goes to it in one batch, and one batch at a time, so that order is kept whatever fails. Messages with flag D
 * have a lane of their own beside those that are stored: neither waits for the other, so between the two there is no order.
 *
 * A message is acknowledged when all its mailboxes have it, or when a fanout has been told who has not. What becomes of
 * messages is told in the order in which they came, over all sessions: what was stored before a refusal is acknowledged
 * before it, so the sender knows which message was refused. From a refusal on nothing more comes in behind it, on that
 * session or for that recipient. SSTP cannot refuse a message whose session its sender has closed, and nothing behind it
 * can be acknowledged while it is not: then the connection ends, and the sender asks again on the next.
 *
 * @module
 */

import { RoundRobin } from "../../lib/round-robin.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  type Connection,
  type ReceivedMessageFields,
  SessionStatusId,
} from "../../sstp/index.ts";
import { type Envelope, fitsMessage, type Mail, type Recipient } from "../../store-and-forward/envelope.ts";
import { Arena, MessageBody } from "../../store-and-forward/message-body.ts";
import { identityIn, Voucher } from "../../store-and-forward/vouch.ts";
import { noticeStorageFull } from "../disk.ts";
import { logError } from "../log.ts";
import { CALL_TIMEOUT } from "../mailbox/limits.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { Appended, Refusal } from "../rpc/mailbox-rpc.ts";
import { lengthOfMail, pack } from "../rpc/message-batch.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import {
  BATCH_MESSAGES,
  BATCH_OCTETS,
  CALL_OCTETS,
  CALLS_AT_ONCE,
  COPIES_OCTETS,
  COPY_COST,
  REFUSED_REST,
  STATUS_INDEXES,
  UNFINISHED_OCTETS,
  VOLATILE_BATCH_OCTETS,
  WOKEN_MAILBOXES,
} from "./limits.ts";

/** Who gets a copy: one peer of ours, or an origin relay for all of its own. */
interface Copy {
  /** Whose mailbox it goes into. */
  readonly peer: string;
  readonly envelope: Envelope;
  /** The entries of the session that it is for. */
  readonly indexes: readonly number[];
}

/** An entry of a session; `relayURL` is empty for a peer of ours. */
export interface Target extends Recipient {
  readonly relayURL: string;
}

/** Why an entry of a fanout gets nothing: what its mailbox says, or that its session has too many recipients. */
type Failure = Refusal["outcome"] | "recipients";

/** How that is said to the sender. */
const STATUS: Readonly<Record<Failure, number>> = {
  quota: SessionStatusId.QuotaWouldBeExceeded,
  recipients: SessionStatusId.QuotaWouldBeExceeded,
  tooLong: SessionStatusId.QuotaWouldBeExceeded,
  full: SessionStatusId.QuotaWouldBeExceeded,
  locked: SessionStatusId.LockedOut,
  notEntered: SessionStatusId.QuotaWouldBeExceeded,
  DNSLookupFailed: SessionStatusId.DNSLookupFailed,
  HostNotReachable: SessionStatusId.HostNotReachable,
  ConnectionClosed: SessionStatusId.ConnectionClosed,
};

/** And when the session is for one recipient. */
const CLOSE_REASON: Readonly<Record<Refusal["outcome"], number>> = {
  quota: CloseReasonId.QuotaWouldBeExceeded,
  tooLong: CloseReasonId.QuotaWouldBeExceeded,
  full: CloseReasonId.QuotaWouldBeExceeded,
  // The recipient can no longer accept data.
  locked: CloseReasonId.EmptySession,
  // A device of ours sends again at once what was refused for a reason that is the relay's own.
  notEntered: CloseReasonId.InternalError,
  DNSLookupFailed: CloseReasonId.EmptySession,
  HostNotReachable: CloseReasonId.EmptySession,
  ConnectionClosed: CloseReasonId.EmptySession,
};

/** Where one session's messages go. */
interface Session {
  readonly copies: readonly Copy[];
  readonly fanout: boolean;
  /** Whether it can be suspended for its mailbox: one that goes to several would hold up the others. */
  readonly suspendable: boolean;
  /** Entries of a fanout session that have failed for good, by index. */
  readonly failed: Set<number>;
  /** The engine's session: another one may have the same number once its sender has closed it. */
  readonly of: ReturnType<Connection["session"]>;
  /** A message was refused: the session is about to be closed, and nothing behind that message may come in. */
  refused: boolean;
  /** The session was closed for that: its sender knows. */
  told: boolean;
}

/** A message that has begun. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly body: MessageBody;
  tooLong: boolean;
}

/** A message that has ended, and whose sender has not been told what became of it. */
interface Job {
  readonly sessionId: number;
  readonly session: Session;
  readonly message: number;
  readonly fields: ReceivedMessageFields;
  /** Let go once nobody needs it any more. */
  body: Uint8Array;
  /** Copies that nobody has answered for. */
  left: number;
  /** Copies that did not come in. */
  refused: Refused[] | undefined;
}

interface Refused {
  readonly copy: Copy;
  readonly outcome: Refusal["outcome"];
}

/** A message on its way into one mailbox. */
interface Pending extends Mail {
  readonly job: Job;
  readonly copy: Copy;
}

/** Messages on their way into mailboxes, by the mailbox: those that are stored, or those with flag D that are handed on or lost. */
interface Lane {
  readonly volatile: boolean;
  /** Mailboxes with a queue that have to be woken. Behind a relay there are many senders, who take turns. */
  readonly asleep: RoundRobin<string>;
  readonly queues: Map<string, Pending[]>;
  readonly busy: Set<string>;
  readonly calls: DeadlinePool;
}

const NOTHING = new Uint8Array(0);

function laneOf(volatile: boolean, timeout: number): Lane {
  return { volatile, asleep: new RoundRobin(), queues: new Map(), busy: new Set(), calls: new DeadlinePool(timeout) };
}

/** Entries of the list of messages that are done with, above which it is cut: less often costs memory, more often time. */
const DONE_JOBS = 1024;

export interface InboundSnapshot {
  readonly sessions: readonly (readonly [
    number,
    { readonly copies: readonly Copy[]; readonly fanout: boolean; readonly failed: readonly number[] },
  ])[];
}

/** Counts what a device uses beside what it sends. Resolves when it may be used; undefined: at once. */
export interface Charges {
  copies(octets: number, messages: number): Promise<void> | undefined;
  /** A mailbox has to be woken, or made. */
  wake(): Promise<void> | undefined;
}

export class InboundMessages {
  readonly #host: EndpointContext;
  readonly #engine: Connection;
  readonly #changed: () => void;
  readonly #charges: Charges;
  readonly #sessions = new Map<number, Session>();
  readonly #arriving = new Map<number, Arriving>();
  readonly #arena = new Arena();
  readonly #stored = laneOf(false, CALL_TIMEOUT);
  readonly #passed = laneOf(true, VOLATILE_TIMEOUT);
  /** In the order in which they came; those before `#head` are done with. */
  #jobs: Job[] = [];
  #head = 0;
  #voucher = new Voucher("", false);
  /** Messages to many that are not paid for, in order: the first is being paid. */
  #unpaid: { readonly job: Job; readonly copies: readonly Copy[]; readonly tooLong: boolean; at: number }[] = [];
  /** Mailboxes that this device has sent to, and is not charged for once more; and whether the last one is being paid for. */
  readonly #woken = new Set<string>();
  #waking = false;
  /** The last message of each mailbox that has had room since it is busy. */
  readonly #rooms = new Map<string, number>();
  /** Octets of the calls that are under way: each has a copy of its own. */
  #calling = 0;
  #waiters: (() => void)[] = [];
  /** Octets of messages that have arrived whole and are not stored. */
  octets = 0;
  /** Octets of messages that have arrived in part. */
  #unfinished = 0;

  /** @param charges asked before a message is stored more than once, with what it costs beyond the one that came */
  constructor(
    host: EndpointContext,
    engine: Connection,
    changed: () => void,
    charges: Charges,
    snapshot?: InboundSnapshot,
  ) {
    this.#host = host;
    this.#engine = engine;
    this.#changed = changed;
    this.#charges = charges;
    for (const [sessionId, { copies, fanout, failed }] of snapshot?.sessions ?? []) {
      this.#sessions.set(sessionId, {
        copies,
        fanout,
        suspendable: copies.length === 1,
        failed: new Set(failed),
        of: engine.session(sessionId),
        refused: false,
        told: false,
      });
    }
  }

  get quiet(): boolean {
    const lanes = [this.#stored, this.#passed];
    const idle = lanes.every(({ queues, busy }) => queues.size === 0 && busy.size === 0);
    return idle && this.#arriving.size === 0 && this.#unpaid.length === 0;
  }

  snapshot(): InboundSnapshot {
    const sessions = [...this.#sessions].map(
      ([sessionId, { copies, fanout, failed }]) => [sessionId, { copies, fanout, failed: [...failed] }] as const,
    );
    return { sessions };
  }

  /**
   * Who brings the messages: their ids are written accordingly.
   *
   * @param vouched whether it says that it vouches for its devices, when it is a relay
   */
  introduce(source: string, vouched: boolean): void {
    this.#voucher = new Voucher(source, vouched);
  }

  open(sessionId: number, source: string, resourceURL: string, targets: readonly Target[], fanout: boolean): void {
    const peers = new Map<string, { readonly indexes: number[]; readonly envelope: Envelope }>();
    const relays = new Map<string, { readonly indexes: number[]; readonly entries: Recipient[] }>();
    for (const [index, { identityURL, deviceURL, relayURL }] of targets.entries()) {
      if (relayURL === "") {
        // A mailbox gets one copy, however often it is named: it has one reader.
        const peer = deviceURL === "" ? identityURL : deviceURL;
        const one = peers.get(peer) ?? { indexes: [], envelope: { source, resourceURL, identityURL, deviceURL } };
        one.indexes.push(index);
        peers.set(peer, one);
        continue;
      }
      const group = relays.get(relayURL) ?? { indexes: [], entries: [] };
      group.indexes.push(index);
      group.entries.push({ identityURL, deviceURL });
      relays.set(relayURL, group);
    }
    const copies: Copy[] = [...peers].map(([peer, { indexes, envelope }]) => ({ peer, indexes, envelope }));
    for (const [peer, { indexes, entries }] of relays) {
      copies.push({ peer, indexes, envelope: { source, resourceURL, identityURL: "", deviceURL: "", entries } });
    }
    const of = this.#engine.session(sessionId);
    const suspendable = copies.length === 1;
    this.#sessions.set(sessionId, { copies, fanout, suspendable, failed: new Set(), of, refused: false, told: false });
  }

  /** Entries of a fanout session that cannot be had: they are told of, and left out from then on. */
  fail(sessionId: number, indexes: readonly number[], outcome: Failure): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined || indexes.length === 0) return;
    for (const index of indexes) session.failed.add(index);
    this.#tellFailed(sessionId, indexes, outcome);
  }

  begin(sessionId: number, received: ReceivedMessageFields): void {
    const session = this.#sessions.get(sessionId);
    // What comes behind a message that was refused belongs to no session any more.
    if (session === undefined || session.refused) return;
    const userRef = this.#voucher.id(received.userRef);
    const fields = userRef === received.userRef ? received : { ...received, userRef };
    const tooLong = fields.fragmentation !== undefined && !fitsMessage(userRef, fields.fragmentation);
    this.#arriving.set(sessionId, { fields, body: new MessageBody(this.#arena), tooLong });
  }

  data(sessionId: number, octets: Uint8Array): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving === undefined || arriving.tooLong) return;
    const { body } = arriving;
    if (body.length + octets.length > this.#host.messageLimit || this.#unfinished + octets.length > UNFINISHED_OCTETS) {
      this.#drop(arriving);
      arriving.tooLong = true;
      return;
    }
    this.#unfinished += octets.length;
    body.add(octets);
  }

  end(sessionId: number, message: number): void {
    const arriving = this.#arriving.get(sessionId);
    const session = this.#sessions.get(sessionId);
    if (arriving === undefined || session === undefined) return;
    this.#arriving.delete(sessionId);
    const { fields } = arriving;
    const { length } = arriving.body;
    this.#unfinished -= length;
    // The session is about to be closed for a message before, and this one goes with it.
    if (session.refused) return;
    const body = arriving.body.take();
    this.octets += body.length;
    const copies =
      session.failed.size === 0 ? session.copies : session.copies.filter((copy) => isWanted(session, copy));
    const { tooLong } = arriving;
    const job: Job = { sessionId, session, message, fields, body, left: copies.length, refused: undefined };
    this.#jobs.push(job);
    if (job.left === 0) this.#done(job);
    else if (session.fanout) {
      this.#unpaid.push({ job, copies, at: 0, tooLong });
      if (this.#unpaid.length === 1) this.#pay();
    } else if (tooLong) this.#refuseAll(job, copies);
    else this.#give(job, copies);
  }

  /** A message that is too long comes in nowhere. */
  #refuseAll(job: Job, copies: readonly Copy[]): void {
    for (const copy of copies) this.#lose(job, copy, "quota");
    job.left = 0;
    this.#done(job);
  }

  /** Has copies paid for before they are stored, a few at a time, so that neither memory nor disk gets all at once. */
  #pay(): void {
    for (let first = this.#unpaid[0]; first !== undefined; first = this.#unpaid[0]) {
      const { job, copies, tooLong } = first;
      if (first.at >= copies.length || tooLong) {
        this.#unpaid.shift();
        // Not before its turn: what came before it comes in.
        if (tooLong) this.#refuseAll(job, copies);
        continue;
      }
      const { length } = job.body;
      const some = copies.slice(first.at, first.at + Math.max(1, Math.floor(COPIES_OCTETS / (length + COPY_COST))));
      // The octets of the first came over the wire, and were counted there.
      const count = some.reduce((sum, { indexes }) => sum + indexes.length, first.at === 0 ? -1 : 0);
      first.at += some.length;
      const paid = count > 0 ? this.#charges.copies(count * length, count) : undefined;
      if (paid !== undefined) {
        this.#host.waitUntil(this.#giveLater(job, some, paid));
        return;
      }
      this.#give(job, some);
    }
  }

  async #giveLater(job: Job, copies: readonly Copy[], paid: Promise<void>): Promise<void> {
    try {
      await paid;
      // The connection may be over.
      if (this.#unpaid[0]?.job !== job) return;
      this.#give(job, copies);
      this.#pay();
      this.flush();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Gives copies of a message to the queues of their mailboxes. */
  #give(job: Job, copies: readonly Copy[]): void {
    const { fields, body, session } = job;
    const { queues, asleep } = fields.doNotDeliverIfOffline ? this.#passed : this.#stored;
    for (const copy of copies) {
      // A message before it may have been refused meanwhile.
      if (!isWanted(session, copy)) {
        job.left -= 1;
        continue;
      }
      const pending: Pending = { job, copy, envelope: copy.envelope, fields, body };
      const queue = queues.get(copy.peer);
      if (queue !== undefined) {
        queue.push(pending);
        continue;
      }
      queues.set(copy.peer, [pending]);
      if (!this.#woken.has(copy.peer)) asleep.push(identityIn(fields.userRef), copy.peer);
    }
    if (job.left === 0) this.#done(job);
  }

  #done(job: Job): void {
    this.#letGo(job);
    this.#settle(Date.now());
    this.#changed();
  }

  close(sessionId: number): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving !== undefined) this.#drop(arriving);
    this.#arriving.delete(sessionId);
    this.#sessions.delete(sessionId);
  }

  /**
   * A mailbox has room again: the sessions that were suspended for it may be sent on.
   *
   * @param upTo the last message of the mailbox when it had; an answer to what came before it suspends no session
   */
  room(peer: string, upTo: number): void {
    if (this.#stored.busy.has(peer)) this.#rooms.set(peer, upTo);
    for (const [sessionId, session] of this.#sessions) {
      if (session.suspendable && session.copies[0]?.peer === peer && this.#isOpen(sessionId, session)) {
        this.#engine.setAvailability(sessionId, "ready");
      }
    }
  }

  /**
   * The sender of these messages has used up its share of a mailbox. What is on its way is still taken; one that is refused
   * all the same knows by this that there is nothing wrong with it.
   */
  #suspend(peer: string, batch: readonly Pending[], at: number): void {
    if (at <= (this.#rooms.get(peer) ?? -1)) return;
    if (this.#engine.closed !== undefined) return;
    for (const { job } of batch) {
      const { sessionId, session } = job;
      if (!session.told && this.#isOpen(sessionId, session)) this.#engine.setAvailability(sessionId, "notReady");
    }
  }

  /** Whether the engine still has a session: another one may have the same number. */
  #isOpen(sessionId: number, { of }: Session): boolean {
    return of !== undefined && this.#engine.session(sessionId) === of;
  }

  /** Sends what has queued up to every mailbox that is not busy, as far as memory allows. */
  flush(): void {
    for (const lane of [this.#passed, this.#stored]) {
      for (const peer of lane.queues.keys()) {
        if (!this.#mayCall(lane)) break;
        if (!lane.busy.has(peer) && this.#woken.has(peer)) this.#host.waitUntil(this.#run(lane, peer));
      }
      while (!this.#waking && lane.asleep.first !== undefined && this.#mayCall(lane)) this.#wake(lane);
    }
  }

  /** What cannot wait waits for nobody: each of these calls has a deadline, and costs its mailbox nothing. */
  #mayCall({ volatile, busy }: Lane): boolean {
    return this.#calling <= CALL_OCTETS && (volatile || busy.size < CALLS_AT_ONCE);
  }

  /** A mailbox that this device has not sent to has to be woken, or made: that is paid for, one mailbox at a time. */
  #wake(lane: Lane): void {
    const peer = lane.asleep.shift();
    // It may have been woken for the other lane, and what was for it may have been taken back.
    if (peer === undefined || !lane.queues.has(peer)) return;
    if (!this.#woken.has(peer)) {
      if (this.#woken.size >= WOKEN_MAILBOXES) this.#forgetOne();
      this.#woken.add(peer);
      const paid = this.#charges.wake();
      if (paid !== undefined) this.#host.waitUntil(this.#flushLater(paid));
    }
    if (!lane.busy.has(peer)) this.#host.waitUntil(this.#run(lane, peer));
  }

  /** Forgets that a mailbox is woken for which nothing waits. */
  #forgetOne(): void {
    const lanes = [this.#stored, this.#passed];
    for (const peer of this.#woken) {
      if (lanes.some(({ queues, busy }) => queues.has(peer) || busy.has(peer))) continue;
      this.#woken.delete(peer);
      return;
    }
  }

  async #flushLater(paid: Promise<void>): Promise<void> {
    this.#waking = true;
    try {
      await paid;
      this.#waking = false;
      this.flush();
    } catch (error) {
      this.#waking = false;
      this.#fail(error);
    }
  }

  /** Resolves when something more was stored, or the connection is over. */
  progress(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  abandon(): void {
    this.#sessions.clear();
    this.#arriving.clear();
    for (const { queues, asleep } of [this.#stored, this.#passed]) {
      queues.clear();
      asleep.clear();
    }
    this.#unpaid = [];
    this.#jobs = [];
    this.#head = 0;
    this.octets = 0;
    this.#unfinished = 0;
    this.#release();
  }

  async #run(lane: Lane, peer: string): Promise<void> {
    lane.busy.add(peer);
    try {
      for (let batch = next(lane, peer); batch.length > 0; batch = next(lane, peer)) {
        const { refusals, suspend } = await this.#store(lane, peer, batch);
        for (const { at, outcome } of refusals) {
          const pending = batch[at];
          if (pending === undefined) continue;
          this.#lose(pending.job, pending.copy, outcome);
          this.#withdraw(pending.job, pending.copy, outcome);
        }
        for (const { job } of batch) {
          job.left -= 1;
          if (job.left === 0) this.#letGo(job);
        }
        // Before they are acknowledged: whoever has sent one to see whether it may go on knows by then.
        if (suspend !== undefined) this.#suspend(peer, batch, suspend);
        // The platform's clock costs more than to complete a message.
        this.#settle(Date.now());
        this.#changed();
        this.#release();
        // Others have the room for now: whoever of them is done lets this one go on.
        if (this.#calling > CALL_OCTETS) break;
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      lane.busy.delete(peer);
      if (!lane.volatile) this.#rooms.delete(peer);
    }
    try {
      // A queue that had no room may have it now.
      this.flush();
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * A mailbox has vanished under a call, most likely: nobody knows what it has. The sender asks again on a new
   * connection, in order, and ids tell what is there.
   */
  #fail(error: unknown): void {
    if (!noticeStorageFull(error)) logError(error);
    this.#engine.close(ConnectCloseReasonId.Resting);
    this.#changed();
  }

  async #store(lane: Lane, peer: string, batch: Pending[]): Promise<Appended> {
    const bundle = pack(batch);
    const octets = bundle.envelopes.reduce((sum, one) => sum + envelopeOctets(one), bundle.octets.length);
    this.#calling += octets;
    try {
      const mailbox = this.#host.mailbox(peer);
      if (!lane.volatile) {
        const suspendable = batch[0]?.job.session.suspendable === true;
        return await lane.calls.keep(mailbox.append(bundle, suspendable ? this.#host.name : undefined));
      }
      const passed = await lane.calls.within(mailbox.pass(bundle)).catch(logError);
      return { refusals: passed === undefined ? this.#lost(lane, peer, batch) : passed.value };
    } finally {
      this.#calling -= octets;
    }
  }

  /**
   * A mailbox did not say in time what becomes of messages with flag D: they are lost, as that flag allows, and those that
   * wait behind them, since nobody who sends them is to wait twice. Of another relay it is told.
   */
  #lost(lane: Lane, peer: string, batch: Pending[]): Refusal[] {
    batch.push(...(lane.queues.get(peer) ?? []));
    lane.queues.delete(peer);
    return batch.flatMap(({ envelope }, at) =>
      envelope.entries === undefined ? [] : [{ at, outcome: "HostNotReachable" as const }],
    );
  }

  /** A copy did not come in: from here on nothing more does on its session, or for its recipients. */
  #lose(job: Job, copy: Copy, outcome: Refusal["outcome"]): void {
    const { session } = job;
    job.refused ??= [];
    job.refused.push({ copy, outcome });
    if (!session.fanout) session.refused = true;
    else for (const index of copy.indexes) session.failed.add(index);
  }

  /** Takes back what waits behind a copy that did not come in: it would overtake it. */
  #withdraw({ session }: Job, copy: Copy, outcome: Refusal["outcome"]): void {
    for (const { queues } of [this.#passed, this.#stored]) {
      const queue = queues.get(copy.peer);
      if (queue === undefined) continue;
      const [left, behind] = [[] as Pending[], [] as Pending[]];
      for (const pending of queue)
        (pending.copy === copy && pending.job.session === session ? behind : left).push(pending);
      for (const { job } of behind) {
        this.#lose(job, copy, outcome);
        job.left -= 1;
        if (job.left === 0) this.#letGo(job);
      }
      if (left.length === 0) queues.delete(copy.peer);
      else queues.set(copy.peer, left);
    }
  }

  /** Nobody needs the body of a message any more, though those before it may hold up what its sender is told. */
  #letGo(job: Job): void {
    this.octets -= job.body.length;
    job.body = NOTHING;
  }

  /** Tells what became of the messages that nobody has to answer for any more, oldest first. */
  #settle(now: number): void {
    for (let job = this.#jobs[this.#head]; job !== undefined && job.left === 0; job = this.#jobs[this.#head]) {
      this.#head += 1;
      if (this.#engine.closed !== undefined) continue;
      if (job.refused === undefined) this.#engine.complete(job.message, now);
      else this.#refuse(job, job.refused, now);
    }
    if (this.#head < this.#jobs.length && this.#head < DONE_JOBS) return;
    this.#jobs = this.#jobs.slice(this.#head);
    this.#head = 0;
  }

  #refuse({ sessionId, session, message }: Job, refused: readonly Refused[], now: number): void {
    if (!this.#isOpen(sessionId, session)) {
      // The engine does not count what came behind a message for which the session was closed.
      if (session.told) return;
      this.#engine.close(ConnectCloseReasonId.Resting, REFUSED_REST);
      this.#changed();
    } else if (session.fanout) {
      // What was stored before is acknowledged before the status, so the sender knows which message it is about.
      this.#engine.noop();
      for (const outcome of new Set(refused.map((one) => one.outcome))) {
        const indexes = refused.filter((one) => one.outcome === outcome).flatMap(({ copy }) => copy.indexes);
        this.#tellFailed(sessionId, indexes, outcome);
      }
      this.#engine.complete(message, now);
    } else {
      // What was acknowledged before is told before the Close, so the sender knows which messages were refused.
      session.told = true;
      this.close(sessionId);
      this.#engine.closeSession(sessionId, CLOSE_REASON[refused[0]?.outcome ?? "quota"]);
    }
  }

  #tellFailed(sessionId: number, indexes: readonly number[], outcome: Failure): void {
    for (let at = 0; at < indexes.length; at += STATUS_INDEXES) {
      this.#engine.sessionStatus(sessionId, STATUS[outcome], indexes.slice(at, at + STATUS_INDEXES));
    }
  }

  #drop(arriving: Arriving): void {
    this.#unfinished -= arriving.body.length;
    arriving.body.take();
  }

  #release(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}

/** Whether a copy is for anybody still. All entries of a relay fail together: what it refuses later is not known here. */
function isWanted({ failed }: Session, { indexes }: Copy): boolean {
  return !indexes.every((index) => failed.has(index));
}

/** The next batch for a mailbox: as much as one call may carry. */
function next({ queues, volatile }: Lane, peer: string): Pending[] {
  const most = volatile ? VOLATILE_BATCH_OCTETS : BATCH_OCTETS;
  const queue = queues.get(peer) ?? [];
  let octets = 0;
  let count = 0;
  const envelopes = new Set<Envelope>();
  let last: Envelope | undefined;
  for (const pending of queue) {
    const { envelope } = pending;
    octets += lengthOfMail(pending);
    // Nearly always it is that of the one before.
    if (envelope !== last && !envelopes.has(envelope)) {
      envelopes.add(envelope);
      octets += envelopeOctets(envelope);
    }
    last = envelope;
    if (count > 0 && (octets > most || count >= BATCH_MESSAGES)) break;
    // Those of sessions that cannot be suspended have no reserve.
    if (pending.job.session.suspendable !== queue[0]?.job.session.suspendable) break;
    count += 1;
  }
  const batch = queue.splice(0, count);
  if (queue.length === 0) queues.delete(peer);
  return batch;
}

const lengths = new WeakMap<Envelope, number>();

/** About what an envelope takes in a call: it is measured once for all messages of a session. */
function envelopeOctets(envelope: Envelope): number {
  let octets = lengths.get(envelope);
  if (octets === undefined) {
    octets = JSON.stringify(envelope).length;
    lengths.set(envelope, octets);
  }
  return octets;
}
