/**
 * What one connection brings in: messages on their way from its sessions into the store, or past it with flag D.
 *
 * @module
 */
import { CloseReasonId, type Connection, type ReceivedMessageFields, SessionStatusId } from "../sstp/index.ts";
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
  message: Message | undefined;
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
  /** Octets of messages with flag D that are held in memory until they end. */
  #held = 0;

  constructor(hub: Hub, engine: Connection, messageLimit: number) {
    this.#hub = hub;
    this.#engine = engine;
    this.#limit = messageLimit;
  }

  open(
    sessionId: number,
    source: string,
    resourceURL: string,
    entries: readonly { readonly identityURL: string; readonly deviceURL: string }[],
    fanout = false,
  ): void {
    const recipients = entries.map(({ identityURL, deviceURL }) => ({
      peer: deviceURL === "" ? identityURL : deviceURL,
      resourceURL,
      identityURL,
      deviceURL,
    }));
    this.#sessions.set(sessionId, { recipients, source, fanout, failed: new Set(), message: undefined });
  }

  begin(sessionId: number, fields: ReceivedMessageFields): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return;
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
    for (const incoming of message.incoming) if (incoming !== undefined) this.#hub.store.append(incoming, octets);
  }

  end(sessionId: number, number: number, now: number): void {
    const session = this.#sessions.get(sessionId);
    const message = session?.message;
    if (session === undefined || message === undefined) return;
    session.message = undefined;
    if (message.kind === "refused") {
      this.#verdicts.push({ kind: "refuse", sessionId });
      return;
    }
    if (message.kind === "volatile") {
      this.#held -= message.size;
      for (const envelope of message.envelopes) {
        if (!this.#hub.pass(envelope, message.body, message.size)) this.#hub.drop("PeerOffline");
        this.#hub.filled(envelope.peer);
      }
      this.#verdicts.push({ kind: "complete", message: number });
      return;
    }
    const refused: number[] = [];
    message.incoming.forEach((incoming, index) => {
      if (incoming === undefined) return;
      const outcome = this.#hub.store.finish(incoming, now);
      if (outcome === "stored") this.#hub.filled(incoming.envelope.peer);
      else if (outcome === "duplicate") this.#hub.drop("DuplicateMessage");
      else {
        this.#hub.drop("QuotaWouldBeExceeded");
        refused.push(index);
      }
    });
    if (refused.length > 0 && !session.fanout) {
      this.#verdicts.push({ kind: "refuse", sessionId });
      return;
    }
    if (refused.length > 0) {
      for (const index of refused) session.failed.add(index);
      this.#engine.sessionStatus(sessionId, SessionStatusId.QuotaWouldBeExceeded, refused);
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
      }
    }
  }

  /** The connection is over: what had begun is forgotten, the sender still has it. */
  abandon(): void {
    for (const sessionId of [...this.#sessions.keys()]) this.close(sessionId);
    this.#verdicts = [];
  }

  #discard(message: Message): void {
    if (message.kind === "volatile") this.#held -= message.size;
    if (message.kind !== "stored") return;
    for (const incoming of message.incoming) if (incoming !== undefined) this.#hub.store.discard(incoming);
  }
}
