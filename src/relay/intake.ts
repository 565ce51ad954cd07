/**
 * What one connection brings in: messages on their way from its sessions into the store, or past it with flag D.
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
import { UNFINISHED_OCTETS } from "./defaults.ts";
import type { Hub } from "./hub.ts";
import type { Envelope, Incoming } from "./store.ts";

/** Where one session's messages go. */
interface Session {
  readonly recipients: readonly Pick<Envelope, "peer" | "resourceURL" | "identityURL" | "deviceURL">[];
  readonly source: string;
  readonly fanout: boolean;
  /** Entries of a fanout session that have failed for good, by index. */
  readonly failed: Set<number>;
  /** A message was refused: the session is about to be closed, and what comes behind that message must not be kept. */
  refused: boolean;
  message: Message | undefined;
}

/** An entry of a session; `relayURL` is empty for a peer of ours. */
export interface Target {
  readonly identityURL: string;
  readonly deviceURL: string;
  readonly relayURL: string;
}

/** A message that has begun. */
type Message =
  | { readonly kind: "stored"; readonly incoming: readonly (Incoming | undefined)[] }
  | { readonly kind: "volatile"; readonly envelopes: readonly Envelope[]; readonly body: Uint8Array[]; size: number }
  | { readonly kind: "refused" };

/** What is to be told after the commit, in the order in which the messages came. */
type Verdict =
  | { readonly kind: "complete"; readonly message: number }
  | { readonly kind: "refuse"; readonly sessionId: number };

export class Intake {
  readonly #hub: Hub;
  readonly #engine: Connection;
  readonly #limit: number;
  readonly #sessions = new Map<number, Session>();
  #verdicts: Verdict[] = [];
  /** Octets of messages that are held in memory until they end or fill a row. */
  #held = 0;

  constructor(hub: Hub, engine: Connection, messageLimit: number) {
    this.#hub = hub;
    this.#engine = engine;
    this.#limit = messageLimit;
  }

  open(sessionId: number, source: string, resourceURL: string, entries: readonly Target[], fanout = false): void {
    const recipients = entries.map(({ identityURL, deviceURL, relayURL }) => ({
      // What is for peers of another relay waits in that relay's queue, with who it is for.
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
      refused: false,
      message: undefined,
    });
  }

  /** Entries of a fanout session that are out of reach: they are told of, and left out from then on. */
  fail(sessionId: number, indexes: readonly number[]): void {
    if (indexes.length === 0) return;
    for (const index of indexes) this.#sessions.get(sessionId)?.failed.add(index);
    this.#engine.sessionStatus(sessionId, SessionStatusId.HostNotReachable, indexes);
  }

  begin(sessionId: number, fields: ReceivedMessageFields): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return;
    if (session.refused) {
      session.message = { kind: "refused" };
      return;
    }
    const { acknowledgeImmediately: _, doNotDeliverIfOffline, ...kept } = fields;
    const envelopes = session.recipients.map((recipient) => ({ ...recipient, source: session.source, fields: kept }));
    session.message = doNotDeliverIfOffline
      ? { kind: "volatile", envelopes, body: [], size: 0 }
      : {
          kind: "stored",
          incoming: envelopes.map((envelope, index) =>
            session.failed.has(index) ? undefined : this.#hub.store.begin(envelope),
          ),
        };
  }

  data(sessionId: number, octets: Uint8Array): void {
    const session = this.#sessions.get(sessionId);
    const message = session?.message;
    if (session === undefined || message === undefined || message.kind === "refused") return;
    const size = message.kind === "volatile" ? message.size : (message.incoming.find((one) => one)?.size ?? 0);
    const tooMuch = message.kind === "volatile" && this.#held + octets.length > UNFINISHED_OCTETS;
    if (size + octets.length > this.#limit || tooMuch) {
      this.#discard(message);
      session.message = { kind: "refused" };
      this.#hub.drop("MessageTooLong");
      return;
    }
    if (message.kind === "volatile") {
      message.body.push(octets);
      message.size += octets.length;
      this.#held += octets.length;
      return;
    }
    for (const incoming of message.incoming) {
      if (incoming === undefined) continue;
      const before = incoming.heldOctets;
      this.#hub.store.append(incoming, octets);
      this.#held += incoming.heldOctets - before;
      if (this.#held <= UNFINISHED_OCTETS) continue;
      this.#held -= incoming.heldOctets;
      this.#hub.store.spill(incoming);
    }
  }

  end(sessionId: number, number: number, now: number): void {
    const session = this.#sessions.get(sessionId);
    const message = session?.message;
    if (session === undefined || message === undefined) return;
    session.message = undefined;
    if (message.kind === "refused") {
      this.#refuse(session, sessionId);
      return;
    }
    if (message.kind === "volatile") {
      this.#held -= message.size;
      for (const [index, envelope] of message.envelopes.entries()) {
        if (session.failed.has(index)) continue;
        if (!this.#hub.pass(envelope, message.body, message.size)) this.#hub.drop("PeerOffline");
        this.#hub.filled(envelope.peer);
      }
      this.#verdicts.push({ kind: "complete", message: number });
      return;
    }
    const refused: number[] = [];
    message.incoming.forEach((incoming, index) => {
      if (incoming === undefined) return;
      this.#held -= incoming.heldOctets;
      const outcome = this.#hub.store.finish(incoming, now);
      if (outcome === "stored") this.#hub.filled(incoming.envelope.peer);
      else if (outcome === "duplicate") this.#hub.drop("DuplicateMessage");
      else {
        this.#hub.drop("QuotaWouldBeExceeded");
        refused.push(index);
      }
    });
    if (refused.length > 0 && !session.fanout) {
      this.#refuse(session, sessionId);
      return;
    }
    if (refused.length > 0) {
      for (const index of refused) session.failed.add(index);
      // The sender may have closed the session behind the message.
      if (this.#engine.session(sessionId) !== undefined) {
        this.#engine.sessionStatus(sessionId, SessionStatusId.QuotaWouldBeExceeded, refused);
      }
    }
    this.#verdicts.push({ kind: "complete", message: number });
  }

  /** The sender has closed the session. */
  close(sessionId: number): void {
    const message = this.#sessions.get(sessionId)?.message;
    if (message !== undefined) this.#discard(message);
    this.#sessions.delete(sessionId);
  }

  /** Everything until now is on the disk. */
  settle(): void {
    const verdicts = this.#verdicts;
    this.#verdicts = [];
    for (const verdict of verdicts) {
      if (this.#engine.closed !== undefined) return;
      if (verdict.kind === "complete") {
        this.#engine.complete(verdict.message);
      } else if (this.#sessions.has(verdict.sessionId)) {
        // Messages before it are acknowledged before the Close, those behind it are not: the sender knows which is which.
        this.close(verdict.sessionId);
        this.#engine.closeSession(verdict.sessionId, CloseReasonId.QuotaWouldBeExceeded);
      } else {
        // The sender has closed the session behind the message, so nothing can refuse it any more, and while it is
        // neither acknowledged nor refused nothing behind it can be: only another connection can.
        this.#engine.close(ConnectCloseReasonId.Resting);
      }
    }
  }

  /** The connection is over: what had begun is forgotten, the sender still has it. */
  abandon(): void {
    for (const sessionId of [...this.#sessions.keys()]) this.close(sessionId);
    this.#verdicts = [];
  }

  #refuse(session: Session, sessionId: number): void {
    // Once is enough: with the session all that is not yet acknowledged on it goes.
    if (!session.refused) this.#verdicts.push({ kind: "refuse", sessionId });
    session.refused = true;
  }

  #discard(message: Message): void {
    if (message.kind === "volatile") this.#held -= message.size;
    if (message.kind !== "stored") return;
    for (const incoming of message.incoming) {
      if (incoming === undefined) continue;
      this.#held -= incoming.heldOctets;
      this.#hub.store.discard(incoming);
    }
  }
}
