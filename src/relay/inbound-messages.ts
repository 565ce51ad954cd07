/**
 * Incoming messages of one connection: from its sessions into the store, or straight to the recipient with flag D.
 * Results are sent after the commit, in order of arrival.
 *
 * What is streamed to another device, with flag D on the resource `stream`, slows its sender down: it is acknowledged when
 * the recipient's connection has sent it, and until then the device is read only as long as little waits. If a recipient
 * takes nothing for a while, its session is suspended, and what came on it is acknowledged without more ado, so that it
 * holds up nothing else. Another relay, which streams for many devices, is treated like that from the start.
 *
 * SSTP cannot refuse a message after its sender has closed the session, yet no later message can be acknowledged before
 * it. In that case the connection ends, and the sender retries on the next.
 *
 * @module
 */
import { Queue } from "../lib/queue.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  type Connection,
  isRelay,
  isStreamResource,
  type ReceivedMessageFields,
  SessionStatusId,
} from "../sstp/index.ts";
import { fitsMessage } from "../store-and-forward/envelope.ts";
import { Arena, GATHERING_BLOCK, MessageBody } from "../store-and-forward/message-body.ts";
import { senderOfMessage } from "../store-and-forward/sender-share.ts";
import { Voucher } from "../store-and-forward/vouched-id.ts";
import { ALL_ROUTES, encodeNotice } from "../streams/packet.ts";
import type { Hub } from "./hub.ts";
import {
  REFUSED_REST,
  RELAY_STREAMS_HELD,
  STALLED_HELD,
  STREAM_BATCH,
  STREAM_HELD,
  UNFINISHED_OCTETS,
  WORK_OCTETS,
} from "./limits.ts";
import type { Envelope, Incoming } from "./store.ts";
import type { Streamed } from "./stored-queue.ts";

/** A session and its recipients. */
interface Session {
  readonly recipients: readonly Pick<Envelope, "peer" | "resourceURL" | "identityURL" | "deviceURL">[];
  readonly source: string;
  readonly fanout: boolean;
  /** Indexes of fanout entries that have failed for good. */
  readonly failed: Set<number>;
  /** The engine's session object. Its number may be reused after the sender closes it. */
  readonly of: ReturnType<Connection["session"]>;
  /** A message was refused. The session is about to be closed, and nothing after that message may be stored. */
  refused: boolean;
  message: Message | undefined;
  /** The sender that has used up its share of the recipient's queue: the session is suspended until that has room. */
  suspendedFor: string | undefined;
  /** Bytes that were streamed on it and acknowledged, and have not left. */
  streamed: number;
  /** The session is suspended for that. */
  isHeldBack: boolean;
}

/** A recipient of a session. `relayURL` is empty if the peer belongs to this relay. */
export interface Target {
  readonly identityURL: string;
  readonly deviceURL: string;
  readonly relayURL: string;
}

/** A message in progress. */
type Message =
  | {
      readonly kind: "stored";
      readonly incoming: readonly (Incoming | undefined)[];
      readonly body: MessageBody;
      size: number;
    }
  | {
      readonly kind: "volatile";
      readonly envelopes: readonly Envelope[];
      readonly body: MessageBody;
      readonly streamed: boolean;
    }
  | { readonly kind: "refused" }
  /** There was no room for it, as flag D allows. */
  | { readonly kind: "lost" };

/** A result to send after the commit, in order of arrival. */
type Verdict = {
  readonly sessionId: number;
  readonly session: Session;
  readonly message: number;
  /** Recipients that a streamed message has not left for, as far as its result waits for that. */
  readonly waits?: { left: number };
} & (
  | { readonly kind: "stored" }
  | { readonly kind: "refused" }
  /** A fanout message was stored for all entries except these. */
  | { readonly kind: "lost"; readonly indexes: readonly number[] }
);

export interface InboundOptions {
  readonly messageLimit: number;
  /** Called when a session is suspended until its sender has less in a peer's queue. */
  readonly suspended: (peer: string) => void;
  /** Called when what was streamed has left: there may be something to settle, and to read. */
  readonly progressed: () => void;
}

export class InboundMessages {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #limit: number;
  readonly #suspended: (peer: string) => void;
  readonly #progressed: () => void;
  readonly #sessions = new Map<number, Session>();
  /** Sessions suspended until there is room in a queue, by its peer and the sender that has used up its share. */
  readonly #waiting = new Map<string, Map<string, Set<number>>>();
  readonly #verdicts = new Queue<Verdict>();
  readonly #arena = new Arena();
  #voucher = new Voucher("", false);
  #fromRelay = false;
  /** Bytes of unfinished messages held in memory. */
  #held = 0;
  /** Bytes that were streamed and have not left, and the part of them that is acknowledged. */
  #streamed = 0;
  #streamedEarly = 0;

  constructor(hub: Hub, engine: Connection, { messageLimit, suspended, progressed }: InboundOptions) {
    this.#hub = hub;
    this.#engine = engine;
    this.#limit = messageLimit;
    this.#suspended = suspended;
    this.#progressed = progressed;
  }

  /** Whether so much waits for the peers of a device's streams that it is not to be read. */
  get isBehind(): boolean {
    const early = this.#streamedEarly;
    return this.#streamed - early > STREAM_HELD || (!this.#fromRelay && early > STALLED_HELD);
  }

  /**
   * Sets the source of the messages, from which their ids are written.
   *
   * @param vouched whether the source is a relay that vouches for its devices
   */
  introduce(source: string, vouched: boolean): void {
    this.#voucher = new Voucher(source, vouched);
    this.#fromRelay = isRelay(source);
  }

  open(sessionId: number, source: string, resourceURL: string, entries: readonly Target[], fanout = false): void {
    const recipients = entries.map(({ identityURL, deviceURL, relayURL }) => ({
      // Messages for another relay's peers wait in that relay's queue, with their recipient.
      peer: relayURL || deviceURL || identityURL,
      resourceURL,
      identityURL,
      deviceURL,
    }));
    const session: Session = {
      recipients,
      source,
      fanout,
      failed: new Set(),
      of: this.#engine.session(sessionId),
      refused: false,
      message: undefined,
      suspendedFor: undefined,
      streamed: 0,
      isHeldBack: false,
    };
    this.#sessions.set(sessionId, session);
    const peer = storedFor(session);
    if (peer !== undefined && this.#isRelayAtMark(peer, source))
      this.#wait(sessionId, session, { peer, sender: source });
  }

  /** Reports fanout entries as failed and skips them from now on. */
  fail(sessionId: number, indexes: readonly number[], statusId: number = SessionStatusId.HostNotReachable): void {
    if (indexes.length === 0) return;
    for (const index of indexes) this.#sessions.get(sessionId)?.failed.add(index);
    this.#engine.sessionStatus(sessionId, statusId, indexes);
  }

  begin(sessionId: number, fields: ReceivedMessageFields): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return;
    if (session.refused) {
      session.message = { kind: "refused" };
      return;
    }
    const { acknowledgeImmediately: _, doNotDeliverIfOffline, ...rest } = fields;
    const kept = { ...rest, userRef: this.#voucher.id(rest.userRef) };
    if (!fitsMessage(kept.userRef, kept.fragmentation)) {
      session.message = { kind: "refused" };
      this.#hub.drop("MessageTooLong");
      return;
    }
    const envelopes = session.recipients.map((recipient) => ({ ...recipient, source: session.source, fields: kept }));
    const streamed = isStreamResource(session.recipients[0]?.resourceURL ?? "");
    session.message = doNotDeliverIfOffline
      ? { kind: "volatile", envelopes, body: new MessageBody(this.#arena), streamed }
      : {
          kind: "stored",
          body: new MessageBody(this.#arena),
          size: 0,
          incoming: envelopes.map((envelope, index) =>
            session.failed.has(index) ? undefined : this.#hub.store.begin(envelope),
          ),
        };
  }

  /** Adds body data. Returns the work of copying it to further recipients. */
  data(sessionId: number, octets: Uint8Array): number {
    const session = this.#sessions.get(sessionId);
    const message = session?.message;
    if (session === undefined || message === undefined) return 0;
    if (message.kind === "refused" || message.kind === "lost") return 0;
    const size = message.kind === "volatile" ? message.body.length : message.size;
    const streamed = message.kind === "volatile" && message.streamed;
    const limit = streamed ? STREAM_BATCH : this.#limit;
    const tooMuch = message.kind === "volatile" && this.#held + octets.length > UNFINISHED_OCTETS;
    if (tooMuch && streamed && this.#fromRelay) {
      // Of many channels each may be in the middle of a message.
      this.#discard(message);
      session.message = { kind: "lost" };
      this.#hub.drop("SlowPeer");
      return 0;
    }
    if (size + octets.length > limit || tooMuch) {
      this.#discard(message);
      session.message = { kind: "refused" };
      this.#hub.drop("MessageTooLong");
      return 0;
    }
    message.body.add(octets);
    this.#held += octets.length;
    // Recipients of a message with flag D share one body.
    if (message.kind === "volatile") return 0;
    message.size += octets.length;
    if (message.body.length >= GATHERING_BLOCK || this.#held > UNFINISHED_OCTETS) this.#handOver(message);
    return session.fanout ? (copiesBeside(session) * octets.length) / WORK_OCTETS : 0;
  }

  /** Moves the gathered data to the store, for each recipient. */
  #handOver({ incoming: all, body }: Extract<Message, { kind: "stored" }>): void {
    this.#held -= body.length;
    const octets = body.take();
    if (octets.length === 0) return;
    for (const incoming of all) {
      if (incoming === undefined) continue;
      const before = incoming.heldOctets;
      this.#hub.store.append(incoming, octets);
      this.#held += incoming.heldOctets - before;
      if (this.#held <= UNFINISHED_OCTETS) continue;
      this.#held -= incoming.heldOctets;
      this.#hub.store.spill(incoming);
    }
  }

  /** Completes a message. Returns the work, as `data` does. */
  end(sessionId: number, number: number, now: number): number {
    const session = this.#sessions.get(sessionId);
    const message = session?.message;
    if (session === undefined || message === undefined) return 0;
    session.message = undefined;
    if (message.kind === "refused") {
      this.#refuse(session, sessionId, number);
      return 0;
    }
    if (message.kind === "lost") {
      this.#verdicts.push({ kind: "stored", sessionId, session, message: number });
      return 0;
    }
    if (message.kind === "volatile") {
      const { length: size } = message.body;
      const body = [message.body.take()];
      this.#held -= size;
      const envelopes = message.envelopes.filter((_, index) => !session.failed.has(index));
      const waits = { left: 0 };
      if (message.streamed) this.#stream(sessionId, session, { envelopes, body, size, waits });
      else for (const envelope of envelopes) this.#pass(envelope, body, size);
      this.#verdicts.push({ kind: "stored", sessionId, session, message: number, waits });
      return copiesBeside(session);
    }
    this.#handOver(message);
    const refused: number[] = [];
    // Suspending a session with several recipients would block all for one.
    const suspendable = session.recipients.length === 1;
    message.incoming.forEach((incoming, index) => {
      if (incoming === undefined) return;
      this.#held -= incoming.heldOctets;
      const outcome = this.#hub.store.finish(incoming, now, {
        reserve: suspendable,
        awaited: this.#hub.consumer(incoming.envelope.peer) !== undefined,
      });
      if (outcome === "stored") this.#hub.filled(incoming.envelope.peer);
      else if (outcome === "duplicate") this.#hub.drop("DuplicateMessage");
      else {
        this.#hub.drop(outcome === "full" ? "StorageFull" : "QuotaWouldBeExceeded");
        refused.push(index);
      }
      if (suspendable && outcome !== "full") this.#suspendAtMark(sessionId, session, incoming.envelope);
    });
    const work = copiesBeside(session);
    if (refused.length > 0 && !session.fanout) {
      this.#refuse(session, sessionId, number);
      return work;
    }
    for (const index of refused) session.failed.add(index);
    const verdict = { sessionId, session, message: number };
    this.#verdicts.push(
      refused.length === 0 ? { ...verdict, kind: "stored" } : { ...verdict, kind: "lost", indexes: refused },
    );
    return work;
  }

  /**
   * Tells the other ends of this device's channels that its token was revoked: otherwise they keep their streams for the
   * resume time, in case it comes back.
   */
  endChannels(): void {
    const told = new Set<string>();
    const notice = encodeNotice(ALL_ROUTES, "TokenEnded");
    for (const { recipients, source } of this.#sessions.values()) {
      for (const recipient of recipients) {
        const { peer, resourceURL, identityURL, deviceURL } = recipient;
        const whom = `${peer} ${identityURL} ${deviceURL}`;
        if (!isStreamResource(resourceURL) || told.has(whom)) continue;
        told.add(whom);
        const fields = { userRef: this.#voucher.id(crypto.randomUUID()), track: false };
        this.#pass({ ...recipient, source, fields }, [notice], notice.length);
      }
    }
  }

  #pass(envelope: Envelope, body: readonly Uint8Array[], size: number, stream?: Streamed): boolean {
    const passed = this.#hub.pass(envelope, body, size, stream);
    if (!passed) this.#hub.drop("PeerOffline");
    this.#hub.filled(envelope.peer);
    return passed;
  }

  /** Streams a message to its recipients, and counts it until it has left for each. */
  #stream(sessionId: number, session: Session, { envelopes, body, size, waits }: Streaming): void {
    const mayWait = session.recipients.length > 1;
    for (const envelope of envelopes) {
      if (this.#fromRelay && this.#streamed + size > RELAY_STREAMS_HELD) {
        this.#hub.drop("SlowPeer");
        continue;
      }
      this.#streamed += size;
      waits.left += 1;
      let isEarly = false;
      const acknowledge = () => {
        if (isEarly) return;
        isEarly = true;
        waits.left -= 1;
        session.streamed += size;
        this.#streamedEarly += size;
      };
      if (this.#fromRelay || (session.isHeldBack && !mayWait)) acknowledge();
      const left = () => {
        acknowledge();
        this.#streamed -= size;
        this.#streamedEarly -= size;
        session.streamed -= size;
        this.#letCome(sessionId, session);
        this.#progressed();
      };
      const stalled = () => {
        if (isEarly || mayWait) return;
        acknowledge();
        this.#holdBack(sessionId, session);
        this.#progressed();
      };
      if (!this.#pass(envelope, body, size, { at: Date.now(), left, stalled })) left();
    }
    if (session.streamed > STREAM_HELD) this.#holdBack(sessionId, session);
  }

  /** Suspends a session until what was streamed on it has left. */
  #holdBack(sessionId: number, session: Session): void {
    if (session.isHeldBack || !this.#isOpen(sessionId, session)) return;
    session.isHeldBack = true;
    this.#engine.setAvailability(sessionId, "notReady");
  }

  /** Resumes a session that was suspended for what was streamed on it. */
  #letCome(sessionId: number, session: Session): void {
    if (!session.isHeldBack || session.streamed > STREAM_BATCH) return;
    session.isHeldBack = false;
    if (session.suspendedFor !== undefined || !this.#isOpen(sessionId, session)) return;
    this.#engine.setAvailability(sessionId, "ready");
  }

  /**
   * Suspends a session whose sender has used up its share. Messages in transit are still accepted; if one is refused
   * anyway, the sender knows from the suspension that the message itself is fine.
   *
   * A relay has a session for each of its senders. If it has used up its own share, all of them are suspended at once:
   * the reserve holds what is in transit, but not one more message of each.
   */
  #suspendAtMark(sessionId: number, session: Session, { peer, source, fields }: Envelope): void {
    if (this.#isRelayAtMark(peer, source)) {
      if (session.suspendedFor === source) return;
      for (const [id, one] of this.#sessions) {
        if (one === session || storedFor(one) === peer) this.#wait(id, one, { peer, sender: source });
      }
      return;
    }
    const sender = senderOfMessage(source, fields.userRef);
    if (this.#hub.store.isAtMark(peer, sender)) this.#wait(sessionId, session, { peer, sender });
  }

  /** Whether these messages come by a relay that has used up its share of a queue, or has yet to make room in it. */
  #isRelayAtMark(peer: string, source: string): boolean {
    if (!this.#fromRelay) return false;
    return this.#waiting.get(peer)?.has(source) === true || this.#hub.store.isAtMark(peer, source);
  }

  /** Suspends a session until a sender has room in a queue. It waits for one sender at a time. */
  #wait(
    sessionId: number,
    session: Session,
    { peer, sender }: { readonly peer: string; readonly sender: string },
  ): void {
    if (!this.#isOpen(sessionId, session)) return;
    this.#forgetWait(sessionId, session);
    session.suspendedFor = sender;
    const senders = this.#waiting.get(peer) ?? new Map<string, Set<number>>();
    this.#waiting.set(peer, senders.set(sender, (senders.get(sender) ?? new Set()).add(sessionId)));
    this.#engine.setAvailability(sessionId, "notReady");
    this.#suspended(peer);
  }

  #forgetWait(sessionId: number, session: Session): void {
    const [peer, sender] = [peerOf(session) ?? "", session.suspendedFor ?? ""];
    session.suspendedFor = undefined;
    const senders = this.#waiting.get(peer);
    const sessions = senders?.get(sender);
    sessions?.delete(sessionId);
    if (sessions?.size === 0) senders?.delete(sender);
    if (senders?.size === 0) this.#waiting.delete(peer);
  }

  /**
   * Resumes the sessions suspended for a queue in which their sender has room again.
   *
   * @returns whether there were any
   */
  room(peer: string, mayGoOn: (sender: string) => boolean): boolean {
    let any = false;
    for (const [sender, sessions] of this.#waiting.get(peer) ?? []) {
      if (!mayGoOn(sender)) continue;
      for (const sessionId of sessions) {
        const session = this.#sessions.get(sessionId);
        if (session === undefined) continue;
        this.#forgetWait(sessionId, session);
        if (session.isHeldBack || !this.#isOpen(sessionId, session)) continue;
        this.#engine.setAvailability(sessionId, "ready");
        any = true;
      }
    }
    return any;
  }

  /** Whether any session is suspended until there is room in a queue. */
  waitsFor(peer: string): boolean {
    return this.#waiting.has(peer);
  }

  /** Whether the engine still has this session, and not another with its number. */
  #isOpen(sessionId: number, { of }: Session): boolean {
    return of !== undefined && this.#engine.closed === undefined && this.#engine.session(sessionId) === of;
  }

  /** Handles a session closed by its sender. */
  close(sessionId: number): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return;
    if (session.message !== undefined) this.#discard(session.message);
    this.#forgetWait(sessionId, session);
    this.#sessions.delete(sessionId);
  }

  /** Called after the commit: everything received so far is on disk. */
  settle(): void {
    for (let verdict = this.#verdicts.first; verdict !== undefined; verdict = this.#verdicts.first) {
      if ((verdict.waits?.left ?? 0) > 0) return;
      this.#verdicts.shift();
      if (this.#engine.closed !== undefined) continue;
      const { sessionId, session, message } = verdict;
      if (verdict.kind === "stored") this.#engine.complete(message);
      else if (!this.#isOpen(sessionId, session)) {
        this.#engine.close(ConnectCloseReasonId.Resting, REFUSED_REST);
      } else if (verdict.kind === "lost") {
        // The noop acknowledges earlier messages before the status, so that the sender knows which message it is about.
        this.#engine.noop();
        this.#engine.sessionStatus(sessionId, SessionStatusId.QuotaWouldBeExceeded, verdict.indexes);
        this.#engine.complete(message);
      } else {
        // Messages before this one are acknowledged before the Close, later ones are not: the sender can tell.
        this.close(sessionId);
        this.#engine.closeSession(sessionId, CloseReasonId.QuotaWouldBeExceeded);
      }
    }
  }

  /** Drops unfinished messages when the connection ends. Their sender still has them. */
  abandon(): void {
    for (const sessionId of [...this.#sessions.keys()]) this.close(sessionId);
    this.#verdicts.clear();
  }

  #refuse(session: Session, sessionId: number, message: number): void {
    // One refusal is enough: closing the session drops everything unacknowledged on it.
    if (!session.refused) this.#verdicts.push({ kind: "refused", sessionId, session, message });
    session.refused = true;
  }

  #discard(message: Message): void {
    if (message.kind === "refused" || message.kind === "lost") return;
    this.#held -= message.body.length;
    if (message.kind === "volatile") return;
    for (const incoming of message.incoming) {
      if (incoming === undefined) continue;
      this.#held -= incoming.heldOctets;
      this.#hub.store.discard(incoming);
    }
  }
}

/** The recipient of a session that can be suspended; of several recipients, one would hold up the others. */
function peerOf({ recipients }: Session): string | undefined {
  return recipients.length === 1 ? recipients[0]?.peer : undefined;
}

/** The same, unless the session is for streams, which are not stored. */
function storedFor(session: Session): string | undefined {
  return isStreamResource(session.recipients[0]?.resourceURL ?? "") ? undefined : peerOf(session);
}

/** A streamed message. */
interface Streaming {
  readonly envelopes: readonly Envelope[];
  readonly body: readonly Uint8Array[];
  readonly size: number;
  readonly waits: { left: number };
}

/** Copies to recipients beyond the first. */
function copiesBeside({ fanout, recipients, failed }: Session): number {
  return fanout ? Math.max(0, recipients.length - failed.size - 1) : 0;
}
