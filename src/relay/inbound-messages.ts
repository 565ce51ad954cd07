/**
 * Incoming messages of one connection: from its sessions into the store, or straight to the recipient with flag D.
 * Results are sent after the commit, in order of arrival.
 *
 * SSTP cannot refuse a message after its sender has closed the session, yet no later message can be acknowledged before
 * it. In that case the connection ends, and the sender retries on the next.
 *
 * @module
 */
import {
  CloseReasonId,
  ConnectCloseReasonId,
  type Connection,
  type ReceivedMessageFields,
  SessionStatusId,
} from "../sstp/index.ts";
import { fitsMessage } from "../store-and-forward/envelope.ts";
import { Arena, GATHERING_BLOCK, MessageBody } from "../store-and-forward/message-body.ts";
import { senderOf } from "../store-and-forward/sender-share.ts";
import { Voucher } from "../store-and-forward/vouched-id.ts";
import type { Hub } from "./hub.ts";
import { REFUSED_REST, UNFINISHED_OCTETS, WORK_OCTETS } from "./limits.ts";
import type { Envelope, Incoming } from "./store.ts";

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
  | { readonly kind: "volatile"; readonly envelopes: readonly Envelope[]; readonly body: MessageBody }
  | { readonly kind: "refused" };

/** A result to send after the commit, in order of arrival. */
type Verdict = { readonly sessionId: number; readonly session: Session; readonly message: number } & (
  | { readonly kind: "stored" }
  | { readonly kind: "refused" }
  /** A fanout message was stored for all entries except these. */
  | { readonly kind: "lost"; readonly indexes: readonly number[] }
);

export class InboundMessages {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #limit: number;
  readonly #suspended: (peer: string, sender: string) => void;
  readonly #sessions = new Map<number, Session>();
  #verdicts: Verdict[] = [];
  readonly #arena = new Arena();
  #voucher = new Voucher("", false);
  /** Bytes of unfinished messages held in memory. */
  #held = 0;

  /** @param suspended called when a session is suspended until the sender has less in a peer's queue */
  constructor(hub: Hub, engine: Connection, messageLimit: number, suspended: (peer: string, sender: string) => void) {
    this.#hub = hub;
    this.#engine = engine;
    this.#limit = messageLimit;
    this.#suspended = suspended;
  }

  /**
   * Sets the source of the messages, from which their ids are written.
   *
   * @param vouched whether the source is a relay that vouches for its devices
   */
  introduce(source: string, vouched: boolean): void {
    this.#voucher = new Voucher(source, vouched);
  }

  open(sessionId: number, source: string, resourceURL: string, entries: readonly Target[], fanout = false): void {
    const recipients = entries.map(({ identityURL, deviceURL, relayURL }) => ({
      // Messages for another relay's peers wait in that relay's queue, with their recipient.
      peer: relayURL || deviceURL || identityURL,
      resourceURL,
      identityURL,
      deviceURL,
    }));
    this.#sessions.set(sessionId, {
      recipients,
      source,
      fanout,
      failed: new Set(),
      of: this.#engine.session(sessionId),
      refused: false,
      message: undefined,
    });
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
    session.message = doNotDeliverIfOffline
      ? { kind: "volatile", envelopes, body: new MessageBody(this.#arena) }
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
    if (session === undefined || message === undefined || message.kind === "refused") return 0;
    const size = message.kind === "volatile" ? message.body.length : message.size;
    const tooMuch = message.kind === "volatile" && this.#held + octets.length > UNFINISHED_OCTETS;
    if (size + octets.length > this.#limit || tooMuch) {
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
    if (message.kind === "volatile") {
      const { length: size } = message.body;
      const body = [message.body.take()];
      this.#held -= size;
      for (const [index, envelope] of message.envelopes.entries()) {
        if (session.failed.has(index)) continue;
        if (!this.#hub.pass(envelope, body, size)) this.#hub.drop("PeerOffline");
        this.#hub.filled(envelope.peer);
      }
      this.#verdicts.push({ kind: "stored", sessionId, session, message: number });
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
   * Suspends a session whose sender has used up its share. Messages in transit are still accepted; if one is refused
   * anyway, the sender knows from the suspension that the message itself is fine.
   */
  #suspendAtMark(sessionId: number, session: Session, { peer, source }: Envelope): void {
    const sender = senderOf(source);
    if (!this.#isOpen(sessionId, session) || !this.#hub.store.isAtMark(peer, sender)) return;
    this.#engine.setAvailability(sessionId, "notReady");
    this.#suspended(peer, sender);
  }

  /** Resumes the sessions suspended for a queue that has room again. */
  room(peer: string): void {
    for (const [sessionId, session] of this.#sessions) {
      const [only, ...others] = session.recipients;
      if (only?.peer !== peer || others.length > 0 || !this.#isOpen(sessionId, session)) continue;
      this.#engine.setAvailability(sessionId, "ready");
    }
  }

  /** Whether the engine still has this session, and not another with its number. */
  #isOpen(sessionId: number, { of }: Session): boolean {
    return of !== undefined && this.#engine.closed === undefined && this.#engine.session(sessionId) === of;
  }

  /** Handles a session closed by its sender. */
  close(sessionId: number): void {
    const message = this.#sessions.get(sessionId)?.message;
    if (message !== undefined) this.#discard(message);
    this.#sessions.delete(sessionId);
  }

  /** Called after the commit: everything received so far is on disk. */
  settle(): void {
    const verdicts = this.#verdicts;
    this.#verdicts = [];
    for (const verdict of verdicts) {
      if (this.#engine.closed !== undefined) return;
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
    this.#verdicts = [];
  }

  #refuse(session: Session, sessionId: number, message: number): void {
    // One refusal is enough: closing the session drops everything unacknowledged on it.
    if (!session.refused) this.#verdicts.push({ kind: "refused", sessionId, session, message });
    session.refused = true;
  }

  #discard(message: Message): void {
    if (message.kind === "refused") return;
    this.#held -= message.body.length;
    if (message.kind === "volatile") return;
    for (const incoming of message.incoming) {
      if (incoming === undefined) continue;
      this.#held -= incoming.heldOctets;
      this.#hub.store.discard(incoming);
    }
  }
}

/** Copies to recipients beyond the first. */
function copiesBeside({ fanout, recipients, failed }: Session): number {
  return fanout ? Math.max(0, recipients.length - failed.size - 1) : 0;
}
