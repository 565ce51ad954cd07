/**
 * Takes messages from one device's sessions to the mailboxes of their recipients. Messages that arrive during a call to
 * a mailbox go there in the next batch, one batch at a time, so that order is kept even if a call fails. Messages with
 * flag D have a lane of their own, and so has what is streamed to other devices, which goes straight to their Tunnels or
 * to the Link of their relay (stream-peers.ts). No lane waits for another, so there is no order between them.
 *
 * What is streamed is acknowledged when its destination has room, which tells the device how much to have on its way. A
 * destination that has none for a while is stalled: its session is suspended, and what came on it is acknowledged without
 * more ado, so that it holds up neither the reading nor the acknowledgements of the rest. A relay, which streams for many
 * devices, is treated like that from the start.
 *
 * A mailbox may hold a long message without having written it. Later ones follow at once, but none of them is acknowledged
 * before it is durable, and if it is lost, the mailbox takes none that follows it and the connection ends.
 *
 * A message is acknowledged when all its mailboxes have it, or when the sender of a fanout has been told which do not.
 * Results are sent in order of arrival, over all sessions: what was stored before a refusal is acknowledged before it,
 * so the sender knows which message was refused. After a refusal, nothing more is accepted on that session or for that
 * recipient. SSTP cannot refuse a message whose session its sender has closed, and no later message can be acknowledged
 * before it. In that case the connection ends, and the sender tries again on the next.
 *
 * @module
 */

import { Condition } from "../../lib/condition.ts";
import { release } from "../../lib/octets.ts";
import { Queue } from "../../lib/queue.ts";
import { RoundRobin } from "../../lib/round-robin.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  type Connection,
  isOriginResource,
  isRelay,
  isStreamResource,
  type ReceivedMessageFields,
  SessionStatusId,
} from "../../sstp/index.ts";
import { type Envelope, fitsMessage, type Mail, type Recipient } from "../../store-and-forward/envelope.ts";
import { Arena, MessageBody } from "../../store-and-forward/message-body.ts";
import { relayOfSender, senderOf, senderOfMessage } from "../../store-and-forward/sender-share.ts";
import { identityIn, Voucher } from "../../store-and-forward/vouched-id.ts";
import { noticeStorageFull } from "../disk-full.ts";
import { logError } from "../log.ts";
import { CALL_TIMEOUT } from "../mailbox/limits.ts";
import { VOLATILE_TIMEOUT } from "../rpc/deadlines.ts";
import type { Appended, Held, Refusal } from "../rpc/mailbox-rpc.ts";
import { lengthOfMail, type MessageBatch, pack } from "../rpc/message-batch.ts";
import type { EgressClient } from "./egress-client.ts";
import type { EndpointContext } from "./endpoint-context.ts";
import {
  BATCH_MESSAGES,
  BATCH_OCTETS,
  CALL_OCTETS,
  CALLS_AT_ONCE,
  COPIES_OCTETS,
  COPY_COST,
  LINK_STREAMS_HELD,
  REFUSED_REST,
  SHORT_MESSAGE,
  STALLED_HELD,
  STATUS_INDEXES,
  STREAM_BATCH,
  STREAM_HELD,
  STREAM_STALL,
  UNFINISHED_OCTETS,
  UNSTORED_OCTETS,
  VOLATILE_BATCH_OCTETS,
  WOKEN_MAILBOXES,
} from "./limits.ts";
import { type Streamed, StreamPeers } from "./stream-peers.ts";
import { tellTokenEnded } from "./token-ended.ts";
import { unfinished } from "./unfinished-messages.ts";

/** A recipient of one copy: a peer of this edge, or an origin relay for all of its own peers. */
interface Copy {
  /** The mailbox that it goes to. */
  readonly peer: string;
  /** What a stream waits for: the mailbox, or a device behind a relay. */
  readonly key: string;
  readonly envelope: Envelope;
  /** The session's entries that it is for. */
  readonly indexes: readonly number[];
}

/** A fanout message that is not yet charged. */
interface Unpaid {
  readonly job: Job;
  readonly copies: readonly Copy[];
  readonly tooLong: boolean;
  /** The copies before this one are charged. */
  at: number;
}

/** An entry of a session. `relayURL` is empty for a peer of this edge. */
export interface Target extends Recipient {
  readonly relayURL: string;
}

/** Why an entry of a fanout gets nothing: the mailbox's outcome, or too many recipients in the session. */
type Failure = Refusal["outcome"] | "recipients";

/** The status sent for each in a fanout session. */
const STATUS: Readonly<Record<Failure, number>> = {
  quota: SessionStatusId.QuotaWouldBeExceeded,
  recipients: SessionStatusId.QuotaWouldBeExceeded,
  tooLong: SessionStatusId.QuotaWouldBeExceeded,
  full: SessionStatusId.QuotaWouldBeExceeded,
  locked: SessionStatusId.LockedOut,
  notEntered: SessionStatusId.QuotaWouldBeExceeded,
  newer: SessionStatusId.QuotaWouldBeExceeded,
  DNSLookupFailed: SessionStatusId.DNSLookupFailed,
  HostNotReachable: SessionStatusId.HostNotReachable,
  ConnectionClosed: SessionStatusId.ConnectionClosed,
};

/** The close reason sent for each in a session with one recipient. */
const CLOSE_REASON: Readonly<Record<Refusal["outcome"], number>> = {
  quota: CloseReasonId.QuotaWouldBeExceeded,
  tooLong: CloseReasonId.QuotaWouldBeExceeded,
  full: CloseReasonId.QuotaWouldBeExceeded,
  // The recipient can no longer accept data.
  locked: CloseReasonId.EmptySession,
  // With this reason our devices send again at once: the fault is the relay's own.
  notEntered: CloseReasonId.InternalError,
  newer: CloseReasonId.QuotaWouldBeExceeded,
  DNSLookupFailed: CloseReasonId.EmptySession,
  HostNotReachable: CloseReasonId.EmptySession,
  ConnectionClosed: CloseReasonId.EmptySession,
};

/** Where a session's messages go. */
interface Session {
  readonly copies: readonly Copy[];
  readonly fanout: boolean;
  /** Whether it can be suspended for its mailbox. A session with several mailboxes would hold up the others. */
  readonly suspendable: boolean;
  /** Entries of a fanout session that have failed for good, by index. */
  readonly failed: Set<number>;
  /** The engine's session. Its number may be reused once the sender has closed it. */
  readonly of: ReturnType<Connection["session"]>;
  /** A message was refused: the session is about to be closed, and nothing after that message is accepted. */
  refused: boolean;
  /** The session was closed for that, so the sender knows. */
  told: boolean;
  /** The sender that has used up its share of the mailbox: the session is suspended until that has room. */
  suspendedFor: string | undefined;
  /** Bytes that were streamed on it and acknowledged, and are not passed on. */
  streamed: number;
  /** The session is suspended for that. */
  isHeldBack: boolean;
}

/** A message that has begun. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly body: MessageBody;
  /** Whether it is streamed to another device. */
  readonly streamed: boolean;
  /** Why the rest is not taken. */
  cut: "tooLong" | "lost" | undefined;
}

/** A message that has ended, and whose result has not been sent. */
interface Job {
  readonly sessionId: number;
  readonly session: Session;
  readonly message: number;
  readonly fields: ReceivedMessageFields;
  /** Released once no mailbox needs it. */
  body: Uint8Array;
  /** Whether it is streamed to another device. */
  readonly streamed: boolean;
  /** Whether it is acknowledged before its result is known. */
  early: boolean;
  /** Length of the body. */
  readonly length: number;
  /** Copies without a result. */
  left: number;
  /** Copies that were refused. */
  refused: Refused[] | undefined;
}

interface Refused {
  readonly copy: Copy;
  readonly outcome: Refusal["outcome"];
}

/** A message on its way to one mailbox. */
interface Pending extends Mail {
  readonly job: Job;
  readonly copy: Copy;
}

/** Messages that a mailbox holds: they have no result yet. */
interface Holding {
  readonly peer: string;
  readonly run: string;
  readonly batches: Queue<{ readonly upTo: number; readonly batch: readonly Pending[] }>;
}

/**
 * Messages on their way, by what they wait for: those to store; those with flag D, which the mailbox passes on or loses;
 * or those that are streamed, which do not go through the mailbox.
 */
interface Lane {
  readonly kind: "stored" | "passed" | "streamed";
  /** The largest batch, in bytes, unless a single message is longer. */
  readonly most: number;
  /** Keys with a queue whose mailboxes have to be woken. Behind a relay there are many senders, which take turns. */
  readonly asleep: RoundRobin<string>;
  readonly queues: Map<string, Pending[]>;
  readonly busy: Set<string>;
  readonly calls: DeadlinePool;
}

const NOTHING = new Uint8Array(0);

function laneOf(kind: Lane["kind"], most: number, timeout: number): Lane {
  const calls = new DeadlinePool(timeout);
  return { kind, most, asleep: new RoundRobin(), queues: new Map(), busy: new Set(), calls };
}

export interface InboundSnapshot {
  readonly sessions: readonly (readonly [
    number,
    { readonly copies: readonly Copy[]; readonly fanout: boolean; readonly failed: readonly number[] },
  ])[];
}

/** Charges for what a device uses beyond its own bytes. Resolves when it may proceed; undefined means at once. */
export interface Charges {
  copies(octets: number, messages: number): Promise<void> | undefined;
  /** Charges for waking or creating a mailbox. */
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
  readonly #stored = laneOf("stored", BATCH_OCTETS, CALL_TIMEOUT);
  readonly #passed = laneOf("passed", VOLATILE_BATCH_OCTETS, VOLATILE_TIMEOUT);
  readonly #streamed = laneOf("streamed", STREAM_BATCH, VOLATILE_TIMEOUT);
  readonly #lanes = [this.#streamed, this.#passed, this.#stored] as const;
  readonly #streamPeers: StreamPeers;
  /** Notices destinations that stall, and those that have. */
  readonly #stalling = new DeadlinePool(STREAM_STALL);
  readonly #stalled = new Set<string>();
  readonly #egress: EgressClient | undefined;
  /** In order of arrival. */
  readonly #jobs = new Queue<Job>();
  #voucher = new Voucher("", false);
  #fromRelay = false;
  /** Fanout messages that are not yet charged, in order. The first is being charged. */
  readonly #unpaid = new Queue<Unpaid>();
  /** Mailboxes that this device has sent to, which are charged once; and whether the charge for the last is pending. */
  readonly #woken = new Set<string>();
  #waking = false;
  /**
   * For mailboxes with a call under way: the last message when they announced room during the call, by the sender who has
   * it; undefined stands for all.
   */
  readonly #rooms = new Map<string, Map<string | undefined, number>>();
  /** Mailboxes of which the relay that brings the messages has used up its share. */
  readonly #full = new Set<string>();
  /** What mailboxes hold, by mailbox. */
  readonly #held = new Map<string, Holding>();
  /** Bytes in calls under way. Each call has a copy of its own. */
  #calling = 0;
  readonly #progress = new Condition();
  /** Bytes of messages that have arrived whole and are not stored or passed on. */
  octets = 0;
  /** The part of them that is streamed, and of that the part that is acknowledged. */
  streamed = 0;
  #streamedEarly = 0;
  /** Whether any message was ever accepted and acknowledged. */
  progressed = false;
  /** Bytes of messages that have arrived in part. */
  readonly #unfinished = unfinished.join(this);

  /**
   * @param charges asked before a message is stored more than once, with the cost beyond the first copy
   * @param egress takes what is for destinations; undefined if the edge dials none
   */
  constructor(
    host: EndpointContext,
    engine: Connection,
    changed: () => void,
    charges: Charges,
    snapshot?: InboundSnapshot,
    egress?: EgressClient,
  ) {
    this.#host = host;
    this.#engine = engine;
    this.#changed = changed;
    this.#charges = charges;
    this.#streamPeers = new StreamPeers(host);
    this.#egress = egress;
    for (const [sessionId, { copies, fanout, failed }] of snapshot?.sessions ?? []) {
      this.#sessions.set(sessionId, {
        // Other releases save no keys.
        copies: copies.map((copy) => ({ ...copy, key: keyOf(copy.peer, copy.envelope) })),
        fanout,
        suspendable: copies.length === 1,
        failed: new Set(failed),
        of: engine.session(sessionId),
        refused: false,
        told: false,
        suspendedFor: undefined,
        streamed: 0,
        isHeldBack: false,
      });
    }
  }

  /** Whether so much waits for mailboxes, or for the Tunnels of other devices, that the peer is not to be read. */
  get isBehind(): boolean {
    const early = this.#streamedEarly;
    if (this.octets - early > UNSTORED_OCTETS || this.streamed - early > STREAM_HELD) return true;
    return !this.#fromRelay && early > STALLED_HELD;
  }

  get quiet(): boolean {
    const idle = this.#lanes.every(({ queues, busy }) => queues.size === 0 && busy.size === 0);
    return idle && this.#held.size === 0 && this.#arriving.size === 0 && this.#unpaid.first === undefined;
  }

  snapshot(): InboundSnapshot {
    const sessions = [...this.#sessions].map(
      ([sessionId, { copies, fanout, failed }]) => [sessionId, { copies, fanout, failed: [...failed] }] as const,
    );
    return { sessions };
  }

  /**
   * Sets who brings the messages; message ids are rewritten accordingly.
   *
   * @param vouched whether the source, if it is a relay, declares that it vouches for its devices
   * @param owner whose connections share what they may hold of partly received messages
   */
  introduce(source: string, vouched: boolean, owner: string): void {
    this.#voucher = new Voucher(source, vouched);
    this.#fromRelay = isRelay(source);
    this.#streamPeers.ofRelay = this.#fromRelay;
    this.#unfinished.belongsTo(owner);
  }

  /** Whether the device should not be read for now: its principal has too many partly received messages. */
  mustWait(now: number): boolean {
    return this.#unfinished.mustWait(now);
  }

  open(sessionId: number, source: string, resourceURL: string, targets: readonly Target[], fanout: boolean): void {
    const peers = new Map<string, { readonly indexes: number[]; readonly envelope: Envelope }>();
    const relays = new Map<string, { readonly indexes: number[]; readonly entries: Recipient[] }>();
    for (const [index, { identityURL, deviceURL, relayURL }] of targets.entries()) {
      if (relayURL === "") {
        // A mailbox gets one copy, however often it is named: it has one reader.
        const mailbox = deviceURL === "" ? identityURL : deviceURL;
        const peer = isOriginResource(resourceURL) ? `${resourceURL} ${mailbox}` : mailbox;
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
    const copies: Copy[] = [...peers].map(([peer, { indexes, envelope }]) => ({ peer, key: peer, indexes, envelope }));
    for (const [peer, { indexes, entries }] of relays) {
      const envelope = { source, resourceURL, identityURL: "", deviceURL: "", entries };
      copies.push({ peer, key: keyOf(peer, envelope), indexes, envelope });
    }
    const session: Session = {
      copies,
      fanout,
      suspendable: copies.length === 1,
      failed: new Set(),
      of: this.#engine.session(sessionId),
      refused: false,
      told: false,
      suspendedFor: undefined,
      streamed: 0,
      isHeldBack: false,
    };
    this.#sessions.set(sessionId, session);
    const peer = storedFor(session);
    if (peer !== undefined && this.#full.has(peer)) this.#suspendFor(sessionId, session, source);
  }

  /** Fails entries of a fanout session. Reports them to the sender and skips them from now on. */
  fail(sessionId: number, indexes: readonly number[], outcome: Failure): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined || indexes.length === 0) return;
    for (const index of indexes) session.failed.add(index);
    this.#tellFailed(sessionId, indexes, outcome);
  }

  begin(sessionId: number, received: ReceivedMessageFields): void {
    const session = this.#sessions.get(sessionId);
    // Messages after a refused one belong to no session.
    if (session === undefined || session.refused) return;
    const userRef = this.#voucher.id(received.userRef);
    const fields = userRef === received.userRef ? received : { ...received, userRef };
    const isForEgress = session.copies.some(({ envelope }) => isOriginResource(envelope.resourceURL));
    const tooLong =
      (fields.fragmentation !== undefined && !fitsMessage(userRef, fields.fragmentation)) ||
      // There is no mailbox to store it.
      (isForEgress && !received.doNotDeliverIfOffline);
    const streamed = received.doNotDeliverIfOffline && session.copies.some(isStreamed);
    const cut = tooLong ? "tooLong" : undefined;
    this.#arriving.set(sessionId, { fields, body: new MessageBody(this.#arena), streamed, cut });
  }

  data(sessionId: number, octets: Uint8Array): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving === undefined || arriving.cut !== undefined) return;
    const { body, streamed } = arriving;
    const limit = streamed ? STREAM_BATCH : this.#host.messageLimit;
    const tooMuch = this.#unfinished.octets + octets.length > UNFINISHED_OCTETS;
    if (body.length + octets.length > limit || tooMuch) {
      this.#drop(arriving);
      // Of many channels of a relay each may be in the middle of a message.
      arriving.cut = tooMuch && streamed && this.#fromRelay ? "lost" : "tooLong";
      return;
    }
    this.#unfinished.add(octets.length);
    body.add(octets);
  }

  end(sessionId: number, message: number): void {
    const arriving = this.#arriving.get(sessionId);
    const session = this.#sessions.get(sessionId);
    if (arriving === undefined || session === undefined) return;
    this.#arriving.delete(sessionId);
    const { fields } = arriving;
    const { length } = arriving.body;
    this.#unfinished.add(-length);
    // The session is about to be closed for an earlier message, and this one goes with it.
    if (session.refused) return;
    const body = arriving.body.take();
    const { streamed } = arriving;
    const tooLong = arriving.cut === "tooLong";
    const isStalled = session.copies.length === 1 && this.#stalled.has(session.copies[0]?.key ?? "");
    const early = streamed && (this.#fromRelay || isStalled) && !tooLong;
    const isLost = arriving.cut === "lost" || (this.#fromRelay && early && this.streamed + length > LINK_STREAMS_HELD);
    this.octets += length;
    if (streamed) this.streamed += length;
    const copies =
      session.failed.size === 0 ? session.copies : session.copies.filter((copy) => isWanted(session, copy));
    const left = copies.length;
    const all = { sessionId, session, message, fields, body, length, streamed, left };
    const job: Job = { ...all, early: false, refused: undefined };
    this.#jobs.push(job);
    if (early) {
      this.#acknowledge(job);
      if (session.streamed > STREAM_HELD) this.#holdBack(sessionId, session);
      this.#settle(Date.now());
    }
    if (isLost) {
      for (const { key } of copies) this.#streamPeers.dropped(key, 1);
      job.left = 0;
    }
    if (job.left === 0) this.#done(job);
    else if (session.fanout) {
      this.#unpaid.push({ job, copies, at: 0, tooLong });
      if (this.#unpaid.size === 1) this.#pay();
    } else if (tooLong) this.#refuseAll(job, copies);
    else this.#give(job, copies);
  }

  /** Has a streamed message acknowledged, whatever becomes of it. */
  #acknowledge(job: Job): void {
    if (job.early) return;
    job.early = true;
    job.session.streamed += job.length;
    this.#streamedEarly += job.length;
  }

  /** Suspends a session until what came on it is passed on. */
  #holdBack(sessionId: number, session: Session): void {
    if (session.isHeldBack || this.#engine.closed !== undefined || !this.#isOpen(sessionId, session)) return;
    session.isHeldBack = true;
    this.#engine.setAvailability(sessionId, "notReady");
  }

  /** A message that was acknowledged early has left. Its session may go on when little is left. */
  #letCome({ session, sessionId, length }: Job): void {
    session.streamed -= length;
    this.#streamedEarly -= length;
    if (!session.isHeldBack || session.streamed > STREAM_BATCH) return;
    session.isHeldBack = false;
    if (this.#engine.closed === undefined && this.#isOpen(sessionId, session)) {
      this.#engine.setAvailability(sessionId, "ready");
    }
  }

  /** A destination has no room for a batch: from now on only its own sessions wait for it. */
  #stall(key: string, batch: readonly Pending[]): void {
    this.#stalled.add(key);
    for (const { job } of [...batch, ...(this.#streamed.queues.get(key) ?? [])]) {
      if (job.session.copies.length > 1) continue;
      this.#acknowledge(job);
      this.#holdBack(job.sessionId, job.session);
    }
    this.#settle(Date.now());
    this.#changed();
    this.#progress.notifyAll();
  }

  /** Refuses a message that is too long for all of its mailboxes. */
  #refuseAll(job: Job, copies: readonly Copy[]): void {
    for (const copy of copies) this.#lose(job, copy, "quota");
    job.left = 0;
    this.#done(job);
  }

  /** Charges for copies before they are stored, a few at a time, to limit the load on memory and disk. */
  #pay(): void {
    for (let first = this.#unpaid.first; first !== undefined; first = this.#unpaid.first) {
      const { job, copies, tooLong } = first;
      if (first.at >= copies.length || tooLong) {
        this.#unpaid.shift();
        // Only in its turn: earlier messages are stored.
        if (tooLong) this.#refuseAll(job, copies);
        continue;
      }
      const { length } = job;
      const some = copies.slice(first.at, first.at + Math.max(1, Math.floor(COPIES_OCTETS / (length + COPY_COST))));
      // The bytes of the first copy came over the wire and were charged there.
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
      // The connection may have ended.
      if (this.#unpaid.first?.job !== job) return;
      this.#give(job, copies);
      this.#pay();
      this.flush();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Queues copies of a message for their mailboxes. */
  #give(job: Job, copies: readonly Copy[]): void {
    const { fields, body, session, streamed } = job;
    for (const copy of copies) {
      const volatile = streamed && isStreamed(copy) ? this.#streamed : this.#passed;
      const lane = fields.doNotDeliverIfOffline ? volatile : this.#stored;
      const { queues, asleep } = lane;
      // An earlier message may have been refused meanwhile.
      if (!isWanted(session, copy)) {
        job.left -= 1;
        continue;
      }
      const pending: Pending = { job, copy, envelope: copy.envelope, fields, body };
      const key = keyIn(lane, copy);
      const queue = queues.get(key);
      if (queue !== undefined) {
        queue.push(pending);
        continue;
      }
      queues.set(key, [pending]);
      if (!this.#woken.has(key)) asleep.push(identityIn(fields.userRef), key);
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
   * Resumes the sessions suspended for a mailbox, which has room again.
   *
   * @param upTo the mailbox's last message at the time; answers to earlier messages no longer suspend a session
   * @param sender who has room again; undefined for all
   */
  room(peer: string, upTo: number, sender?: string): void {
    if (this.#stored.busy.has(peer)) this.#rooms.set(peer, (this.#rooms.get(peer) ?? new Map()).set(sender, upTo));
    if (sender === undefined || relayOfSender(sender) === undefined) this.#full.delete(peer);
    for (const [sessionId, session] of this.#sessions) {
      if (!session.suspendable || session.copies[0]?.peer !== peer || !this.#isOpen(sessionId, session)) continue;
      const { suspendedFor } = session;
      // What slept meanwhile does not know.
      if (sender !== undefined && suspendedFor !== undefined && suspendedFor !== sender) continue;
      session.suspendedFor = undefined;
      this.#engine.setAvailability(sessionId, "ready");
    }
  }

  /**
   * Suspends the sessions of these messages: their sender has used up its share of a mailbox. Messages in flight are
   * still accepted. If one is refused nevertheless, the suspension tells the sender that nothing is wrong with the
   * message.
   *
   * A relay has a session for each of its senders. If it has used up its own share, all of them are suspended at once, and
   * those that it opens later: the reserve holds what is in flight, but not one more message of each.
   */
  #suspend(peer: string, batch: readonly Pending[], at: number, senders: readonly string[] | undefined): void {
    if (this.#engine.closed !== undefined) return;
    const rooms = this.#rooms.get(peer);
    const isOver = (sender: string) => at > Math.max(rooms?.get(sender) ?? -1, rooms?.get(undefined) ?? -1);
    const source = batch[0]?.envelope.source ?? "";
    if (this.#fromRelay && senders?.includes(source) === true && isOver(source)) {
      this.#full.add(peer);
      for (const [sessionId, session] of this.#sessions) {
        if (storedFor(session) === peer) this.#suspendFor(sessionId, session, source);
      }
    }
    for (const { job, envelope, fields } of batch) {
      const names = [senderOf(envelope.source), senderOfMessage(envelope.source, fields.userRef)];
      const sender = senders === undefined ? names[0] : names.find((name) => senders.includes(name));
      if (sender !== undefined && isOver(sender)) this.#suspendFor(job.sessionId, job.session, sender);
    }
  }

  #suspendFor(sessionId: number, session: Session, sender: string): void {
    if (session.told || !this.#isOpen(sessionId, session)) return;
    session.suspendedFor = sender;
    this.#engine.setAvailability(sessionId, "notReady");
  }

  /** Whether the engine still has this session, and not another one of the same number. */
  #isOpen(sessionId: number, { of }: Session): boolean {
    return of !== undefined && this.#engine.session(sessionId) === of;
  }

  /** Closes the session to the device's Egress, which has lost its memory. The device asks what is left. */
  egressLost(): void {
    for (const [sessionId, session] of [...this.#sessions]) {
      const isToEgress = session.copies.some(({ envelope }) => isOriginResource(envelope.resourceURL));
      if (!isToEgress || !this.#isOpen(sessionId, session)) continue;
      this.close(sessionId);
      this.#engine.closeSession(sessionId, CloseReasonId.InternalError);
    }
  }

  /**
   * Returns a function that tells the other ends of this device's channels that its token has ended; undefined if it has
   * none. It works after the end of the connection too.
   */
  get channelsEnding(): (() => Promise<void>) | undefined {
    const all = [...this.#sessions.values()].flatMap(({ copies }) => copies).filter(isStreamed);
    if (all.length === 0) return undefined;
    const destinations = [...new Map(all.map((copy) => [copy.key, copy])).values()];
    return () => tellTokenEnded(this.#streamPeers, destinations, () => this.#voucher.id(crypto.randomUUID()));
  }

  /** Sends queued messages to every mailbox without a call under way, as far as memory allows. */
  flush(): void {
    for (const lane of this.#lanes) {
      for (const key of lane.queues.keys()) {
        if (!this.#mayCall(lane)) break;
        if (!lane.busy.has(key) && this.#woken.has(key)) this.#start(lane, key);
      }
      while (!this.#waking && lane.asleep.first !== undefined && this.#mayCall(lane)) this.#wake(lane);
    }
  }

  /** Messages with flag D need no slot: each of these calls has a deadline, and costs its mailbox nothing. */
  #mayCall({ kind, busy }: Lane): boolean {
    return this.#calling <= CALL_OCTETS && (kind !== "stored" || busy.size < CALLS_AT_ONCE);
  }

  /**
   * Wakes or creates a mailbox that this device has not sent to. Each is charged, one at a time, and so is each device
   * behind a relay that it streams to.
   */
  #wake(lane: Lane): void {
    const key = lane.asleep.shift();
    // Another lane may have woken it, and its queue may have been withdrawn.
    if (key === undefined || !lane.queues.has(key)) return;
    if (!this.#woken.has(key)) {
      if (this.#woken.size >= WOKEN_MAILBOXES) this.#forgetOne();
      this.#woken.add(key);
      const paid = this.#charges.wake();
      if (paid !== undefined) this.#host.waitUntil(this.#flushLater(paid));
    }
    if (!lane.busy.has(key)) this.#start(lane, key);
  }

  /** What is streamed needs nothing that keeps the object: if it goes, the device's connection breaks, or comes again. */
  #start(lane: Lane, key: string): void {
    if (lane.kind !== "streamed") this.#host.waitUntil(this.#run(lane, key));
    else if (!this.#streamNow(lane, key)) void this.#run(lane, key);
  }

  /** Passes on a short message of a stream without promises, if it is alone. Returns false if it was not passed on. */
  #streamNow(lane: Lane, key: string): boolean {
    const batch = lane.queues.get(key);
    const first = batch?.[0];
    if (batch?.length !== 1 || first === undefined || first.job.length > SHORT_MESSAGE) return false;
    const { job, copy, envelope } = first;
    if (isOriginResource(envelope.resourceURL)) return false;
    try {
      const destination = { key, peer: copy.peer, source: envelope.source };
      if (!this.#streamPeers.passNow(destination, pack(batch))) return false;
      lane.queues.delete(key);
      this.#stalled.delete(key);
      this.#finishCopy(job);
      this.#settle(Date.now());
      this.#changed();
      this.#progress.notifyAll();
    } catch (error) {
      this.#fail(error);
    }
    return true;
  }

  /** Forgets one woken mailbox for which nothing waits. */
  #forgetOne(): void {
    for (const key of this.#woken) {
      if (this.#lanes.some(({ queues, busy }) => queues.has(key) || busy.has(key))) continue;
      this.#woken.delete(key);
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

  /** Resolves when more messages were stored, or the connection has ended. */
  progress(): Promise<void> {
    return this.#progress.wait();
  }

  abandon(): void {
    this.#streamPeers.close();
    this.#sessions.clear();
    this.#arriving.clear();
    for (const { queues, asleep } of this.#lanes) {
      queues.clear();
      asleep.clear();
    }
    this.#unpaid.clear();
    this.#jobs.clear();
    this.#held.clear();
    this.octets = 0;
    this.streamed = 0;
    this.#streamedEarly = 0;
    this.#unfinished.add(-this.#unfinished.octets);
    this.#progress.notifyAll();
  }

  async #run(lane: Lane, key: string): Promise<void> {
    lane.busy.add(key);
    try {
      for (let batch = next(lane, key); batch.length > 0; batch = next(lane, key)) {
        const { refusals, suspend, suspended, held } = await this.#store(lane, key, batch);
        for (const { at, outcome } of refusals) {
          const pending = batch[at];
          if (pending === undefined) continue;
          this.#lose(pending.job, pending.copy, outcome);
          this.#withdraw(pending.job, pending.copy, outcome);
        }
        if (held === undefined) for (const { job } of batch) this.#finishCopy(job);
        else this.#hold(key, batch, held);
        // Before the acknowledgements: a sender that probes whether it may continue must see the suspension first.
        if (suspend !== undefined) this.#suspend(key, batch, suspend, suspended);
        // Reading the platform's clock costs more than completing a message.
        this.#settle(Date.now());
        this.#changed();
        this.#progress.notifyAll();
        // Other calls fill the memory limit. When one of them ends, this queue continues.
        if (this.#calling > CALL_OCTETS) break;
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      lane.busy.delete(key);
      if (lane.kind === "stored") this.#rooms.delete(key);
    }
    try {
      // A queue that had no room may have it now.
      this.flush();
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Ends the connection when a call failed, most likely because the mailbox vanished: what it stored is unknown. The
   * sender tries again on a new connection, in order, and ids identify what was stored.
   */
  #fail(error: unknown): void {
    if (!noticeStorageFull(error)) logError(error);
    this.#engine.close(ConnectCloseReasonId.Resting);
    this.#changed();
  }

  async #store(lane: Lane, key: string, batch: Pending[]): Promise<Appended> {
    const bundle = pack(batch);
    // A call copies what it carries. Bodies that no other mailbox needs, and then the batch, are not kept until it ends.
    for (const { job } of batch) if (job.left === 1) release(job.body);
    const octets = bundle.envelopes.reduce((sum, one) => sum + envelopeOctets(one), bundle.octets.length);
    this.#calling += octets;
    try {
      const peer = batch[0]?.copy.peer ?? key;
      if (lane.kind === "streamed") return { refusals: await this.#stream({ key, peer }, lane, batch, bundle) };
      const mailbox = this.#host.mailbox(peer);
      if (lane.kind === "stored") {
        const suspendable = batch[0]?.job.session.suspendable === true;
        const terms = { hold: true, after: this.#held.get(key)?.run };
        const appended = mailbox.append(bundle, suspendable ? this.#host.name : undefined, terms);
        release(bundle.octets);
        return await lane.calls.keep(appended);
      }
      const passing = mailbox.pass(bundle);
      release(bundle.octets);
      const passed = await lane.calls.within(passing).catch(logError);
      return { refusals: passed === undefined ? this.#lost(lane, key, batch) : passed.value };
    } finally {
      this.#calling -= octets;
    }
  }

  /** Messages that their mailbox holds are finished when they are durable, in order. */
  #hold(key: string, batch: readonly Pending[], { run, upTo }: Held): void {
    const before = this.#held.get(key);
    const holding = before ?? { peer: batch[0]?.copy.peer ?? key, run, batches: new Queue() };
    holding.batches.push({ upTo, batch });
    if (before !== undefined) return;
    this.#held.set(key, holding);
    this.#host.waitUntil(this.#finishHeld(key, holding));
  }

  async #finishHeld(key: string, { peer, run, batches }: Holding): Promise<void> {
    try {
      for (let { first } = batches; first !== undefined; first = batches.first) {
        const durable = this.#host.mailbox(peer).whenDurable({ run, upTo: first.upTo });
        const upTo = await this.#stored.calls.keep(durable);
        for (let next = batches.first; next !== undefined && next.upTo <= upTo; next = batches.first) {
          batches.shift();
          for (const { job } of next.batch) this.#finishCopy(job);
        }
        if (batches.first === undefined) this.#held.delete(key);
        this.#settle(Date.now());
        this.#changed();
        this.#progress.notifyAll();
      }
    } catch (error) {
      this.#held.delete(key);
      this.#fail(error);
    }
  }

  async #stream(
    to: { readonly key: string; readonly peer: string },
    lane: Lane,
    batch: Pending[],
    bundle: MessageBatch,
  ): Promise<readonly Refusal[]> {
    // Everything that one connection brings has one source.
    const { source = "", resourceURL = "" } = batch[0]?.envelope ?? {};
    const destination = { ...to, source };
    const isToOrigin = isOriginResource(resourceURL);
    let streamed: Streamed = "passed";
    if (isToOrigin || !this.#streamPeers.passNow(destination, bundle)) {
      const passing = isToOrigin
        ? (this.#egress?.pass(source, bundle) ?? Promise.resolve<Streamed>("lost"))
        : this.#streamPeers.pass(destination, bundle, batch.length);
      if ((await this.#stalling.within(passing)) === undefined) this.#stall(to.key, batch);
      streamed = await passing;
    }
    if (!lane.queues.has(to.key)) this.#stalled.delete(to.key);
    if (streamed === "passed" || streamed === "lost") return [];
    if (streamed !== "late") return batch.map((_, at) => ({ at, outcome: streamed }));
    this.#loseQueue(lane, to.key, batch);
    return [];
  }

  /**
   * Handles a timeout of a call with messages with flag D. They are lost, as the flag allows, and so are those queued
   * behind them: no sender should wait twice. Only a sender to another relay gets an error.
   */
  #lost(lane: Lane, key: string, batch: Pending[]): Refusal[] {
    this.#loseQueue(lane, key, batch);
    return batch.flatMap(({ envelope }, at) =>
      envelope.entries === undefined ? [] : [{ at, outcome: "HostNotReachable" as const }],
    );
  }

  /** Adds what is queued behind a batch to it. */
  #loseQueue({ queues }: Lane, key: string, batch: Pending[]): void {
    batch.push(...(queues.get(key) ?? []));
    queues.delete(key);
  }

  /** One mailbox has a message, or has refused it. */
  #finishCopy(job: Job): void {
    job.left -= 1;
    if (job.left > 0) return;
    this.#letGo(job);
    // Its acknowledgement is sent.
    if (job.early && job.refused !== undefined) this.#refuse(job, job.refused);
  }

  /** Records a refused copy. Nothing more is accepted on its session, or for its recipients. */
  #lose(job: Job, copy: Copy, outcome: Refusal["outcome"]): void {
    const { session } = job;
    job.refused ??= [];
    job.refused.push({ copy, outcome });
    if (!session.fanout) session.refused = true;
    else for (const index of copy.indexes) session.failed.add(index);
  }

  /** Withdraws queued messages behind a refused copy, which would overtake it. */
  #withdraw({ session }: Job, copy: Copy, outcome: Refusal["outcome"]): void {
    for (const lane of this.#lanes) {
      const { queues } = lane;
      const key = keyIn(lane, copy);
      const queue = queues.get(key);
      if (queue === undefined) continue;
      const [left, behind] = [[] as Pending[], [] as Pending[]];
      for (const pending of queue)
        (pending.copy === copy && pending.job.session === session ? behind : left).push(pending);
      for (const { job } of behind) {
        this.#lose(job, copy, outcome);
        this.#finishCopy(job);
      }
      if (left.length === 0) queues.delete(key);
      else queues.set(key, left);
    }
  }

  /** Releases the body of a message. Its result may still have to wait for earlier ones. */
  #letGo(job: Job): void {
    this.octets -= job.length;
    if (job.streamed) this.streamed -= job.length;
    if (job.early) this.#letCome(job);
    release(job.body);
    job.body = NOTHING;
  }

  /** Sends the results of finished messages, oldest first. */
  #settle(now: number): void {
    for (let job = this.#jobs.first; job !== undefined && (job.early || job.left === 0); job = this.#jobs.first) {
      this.#jobs.shift();
      if (this.#engine.closed !== undefined) continue;
      if (job.refused !== undefined) this.#refuse(job, job.refused, now);
      else {
        this.progressed = true;
        this.#engine.complete(job.message, now);
      }
    }
  }

  /** @param now undefined if the message is acknowledged already */
  #refuse({ sessionId, session, message }: Job, refused: readonly Refused[], now?: number): void {
    if (this.#engine.closed !== undefined) return;
    if (!this.#isOpen(sessionId, session)) {
      // The engine does not count messages behind the one for which the session was closed.
      if (session.told || now === undefined) return;
      this.#engine.close(ConnectCloseReasonId.Resting, REFUSED_REST);
      this.#changed();
    } else if (session.fanout) {
      // Earlier messages are acknowledged before the status, so the sender knows which message it is about.
      this.#engine.noop();
      for (const outcome of new Set(refused.map((one) => one.outcome))) {
        const indexes = refused.filter((one) => one.outcome === outcome).flatMap(({ copy }) => copy.indexes);
        this.#tellFailed(sessionId, indexes, outcome);
      }
      if (now !== undefined) this.#engine.complete(message, now);
    } else {
      // Earlier acknowledgements are sent before the Close, so the sender knows which messages were refused.
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
    this.#unfinished.add(-arriving.body.length);
    arriving.body.drop();
  }
}

/** The mailbox of a session that can be suspended for it; undefined also if the session is for streams, which are not stored. */
function storedFor({ suspendable, copies: [copy] }: Session): string | undefined {
  return suspendable && copy !== undefined && !isStreamed(copy) ? copy.peer : undefined;
}

/** Whether any recipient still gets a copy. A relay's entries fail together: its later refusals are not known here. */
function isWanted({ failed }: Session, { indexes }: Copy): boolean {
  return !indexes.every((index) => failed.has(index));
}

/** Whether a copy belongs to a channel, which is carried past the mailbox. */
function isStreamed({ envelope }: Copy): boolean {
  return isStreamResource(envelope.resourceURL);
}

/** Streams to devices behind one relay do not wait for each other, unlike messages, which wait for its mailbox. */
function keyOf(peer: string, { resourceURL, entries = [] }: Envelope): string {
  if (!isStreamResource(resourceURL)) return peer;
  return [peer, ...entries.flatMap(({ identityURL, deviceURL }) => [identityURL, deviceURL])].join("\n");
}

/** What a copy waits for in a lane. */
function keyIn({ kind }: Lane, { peer, key }: Copy): string {
  return kind === "streamed" ? key : peer;
}

/** Takes the next batch for a key: as much as one call may carry. */
function next({ queues, most }: Lane, key: string): Pending[] {
  const queue = queues.get(key) ?? [];
  let octets = 0;
  let count = 0;
  const envelopes = new Set<Envelope>();
  let last: Envelope | undefined;
  for (const pending of queue) {
    const { envelope } = pending;
    octets += lengthOfMail(pending);
    // Nearly always the same as the last one.
    if (envelope !== last && !envelopes.has(envelope)) {
      envelopes.add(envelope);
      octets += envelopeOctets(envelope);
    }
    last = envelope;
    if (count > 0 && (octets > most || count >= BATCH_MESSAGES)) break;
    // Messages of sessions that cannot be suspended have no reserve.
    if (pending.job.session.suspendable !== queue[0]?.job.session.suspendable) break;
    count += 1;
  }
  const batch = queue.splice(0, count);
  if (queue.length === 0) queues.delete(key);
  return batch;
}

const lengths = new WeakMap<Envelope, number>();

/** Approximate size of an envelope in a call, measured once for all messages of a session. */
function envelopeOctets(envelope: Envelope): number {
  let octets = lengths.get(envelope);
  if (octets === undefined) {
    octets = JSON.stringify(envelope).length;
    lengths.set(envelope, octets);
  }
  return octets;
}
