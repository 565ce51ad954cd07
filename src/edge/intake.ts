/**
 * What one device brings in: messages from its sessions to the mailboxes of their recipients. What comes while a mailbox
 * is busy goes to it in one batch, and one batch at a time, so that order is kept whatever fails.
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
import type { Envelope, Mail, Recipient } from "../store-and-forward/envelope.ts";
import { pack } from "./bundle.ts";
import { Calls } from "./calls.ts";
import {
  BATCH_MESSAGES,
  BATCH_OCTETS,
  CALL_OCTETS,
  CALL_TIMEOUT,
  MESSAGE_LIMIT,
  STATUS_INDEXES,
  UNFINISHED_OCTETS,
} from "./defaults.ts";
import { Arena, Gathering } from "./gathering.ts";
import type { Refusal } from "./mailbox.ts";
import type { Host } from "./terminal.ts";

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

/** How the refusals of a mailbox are said to the sender of a fanout. */
const STATUS: Readonly<Record<Refusal["outcome"], number>> = {
  quota: SessionStatusId.QuotaWouldBeExceeded,
  locked: SessionStatusId.LockedOut,
  DNSLookupFailed: SessionStatusId.DNSLookupFailed,
  HostNotReachable: SessionStatusId.HostNotReachable,
  ConnectionClosed: SessionStatusId.ConnectionClosed,
};

/** Where one session's messages go. */
interface Session {
  readonly copies: readonly Copy[];
  readonly fanout: boolean;
  /** Entries of a fanout session that have failed for good, by index. */
  readonly failed: number[];
}

/** A message that has begun. */
interface Arriving {
  readonly fields: ReceivedMessageFields;
  readonly body: Gathering;
  tooLong: boolean;
}

/** A message that has ended and is not yet in all its mailboxes. */
interface Job {
  readonly sessionId: number;
  readonly message: number;
  readonly fields: ReceivedMessageFields;
  readonly body: Uint8Array;
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

export interface IntakeSnapshot {
  readonly sessions: readonly (readonly [number, Session])[];
}

export class Intake {
  readonly #host: Host;
  readonly #engine: Connection;
  readonly #changed: () => void;
  readonly #sessions: Map<number, Session>;
  readonly #arriving = new Map<number, Arriving>();
  readonly #arena = new Arena();
  readonly #calls = new Calls(CALL_TIMEOUT);
  readonly #queues = new Map<string, Pending[]>();
  readonly #busy = new Set<string>();
  /** Octets of the calls that are under way: each has a copy of its own. */
  #calling = 0;
  #waiters: (() => void)[] = [];
  /** Octets of messages that have arrived whole and are not stored. */
  octets = 0;
  /** Octets of messages that have arrived in part. */
  #unfinished = 0;

  constructor(host: Host, engine: Connection, changed: () => void, snapshot?: IntakeSnapshot) {
    this.#host = host;
    this.#engine = engine;
    this.#changed = changed;
    this.#sessions = new Map(snapshot?.sessions);
  }

  get quiet(): boolean {
    return this.#arriving.size === 0 && this.#queues.size === 0 && this.#busy.size === 0;
  }

  snapshot(): IntakeSnapshot {
    return { sessions: [...this.#sessions] };
  }

  open(sessionId: number, source: string, resourceURL: string, targets: readonly Target[], fanout: boolean): void {
    const copies: Copy[] = [];
    const relays = new Map<string, { readonly indexes: number[]; readonly entries: Recipient[] }>();
    for (const [index, { identityURL, deviceURL, relayURL }] of targets.entries()) {
      if (relayURL === "") {
        const peer = deviceURL === "" ? identityURL : deviceURL;
        copies.push({ peer, indexes: [index], envelope: { source, resourceURL, identityURL, deviceURL } });
        continue;
      }
      const group = relays.get(relayURL) ?? { indexes: [], entries: [] };
      group.indexes.push(index);
      group.entries.push({ identityURL, deviceURL });
      relays.set(relayURL, group);
    }
    for (const [peer, { indexes, entries }] of relays) {
      copies.push({ peer, indexes, envelope: { source, resourceURL, identityURL: "", deviceURL: "", entries } });
    }
    this.#sessions.set(sessionId, { copies, fanout, failed: [] });
  }

  /** Entries of a fanout session that cannot be had: they are told of, and left out from then on. */
  fail(sessionId: number, indexes: readonly number[], outcome: Refusal["outcome"]): void {
    const session = this.#sessions.get(sessionId);
    if (session === undefined || indexes.length === 0) return;
    session.failed.push(...indexes);
    for (let at = 0; at < indexes.length; at += STATUS_INDEXES) {
      this.#engine.sessionStatus(sessionId, STATUS[outcome], indexes.slice(at, at + STATUS_INDEXES));
    }
  }

  begin(sessionId: number, fields: ReceivedMessageFields): void {
    this.#arriving.set(sessionId, { fields, body: new Gathering(this.#arena), tooLong: false });
  }

  data(sessionId: number, octets: Uint8Array): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving === undefined || arriving.tooLong) return;
    const { body } = arriving;
    if (body.length + octets.length > MESSAGE_LIMIT || this.#unfinished + octets.length > UNFINISHED_OCTETS) {
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
    // All entries of a relay fail together, since what it refuses later is not known here.
    const { failed } = session;
    const copies =
      failed.length === 0
        ? session.copies
        : session.copies.filter(({ indexes }) => !indexes.every((index) => failed.includes(index)));
    if (arriving.tooLong) {
      this.#refuse(
        sessionId,
        message,
        copies.map((copy) => ({ copy, outcome: "quota" })),
      );
      return;
    }
    const body = arriving.body.take();
    this.octets += body.length;
    const job: Job = { sessionId, message, fields, body, left: copies.length, refused: undefined };
    for (const copy of copies) {
      const pending: Pending = { job, copy, envelope: copy.envelope, fields, body };
      const queue = this.#queues.get(copy.peer);
      if (queue === undefined) this.#queues.set(copy.peer, [pending]);
      else queue.push(pending);
    }
    if (copies.length === 0) this.#settle(job, Date.now());
  }

  close(sessionId: number): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving !== undefined) this.#drop(arriving);
    this.#arriving.delete(sessionId);
    this.#sessions.delete(sessionId);
  }

  /** Sends what has queued up to every mailbox that is not busy, as far as memory allows. */
  flush(): void {
    for (const peer of this.#queues.keys()) {
      if (this.#calling > CALL_OCTETS) return;
      if (!this.#busy.has(peer)) this.#host.waitUntil(this.#run(peer));
    }
  }

  /** Resolves when something more was stored, or the connection is over. */
  progress(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  abandon(): void {
    this.#sessions.clear();
    this.#arriving.clear();
    this.#queues.clear();
    this.octets = 0;
    this.#release();
  }

  async #run(peer: string): Promise<void> {
    this.#busy.add(peer);
    try {
      for (let batch = this.#next(peer); batch.length > 0; batch = this.#next(peer)) {
        for (const { at, outcome } of await this.#store(peer, batch)) {
          const pending = batch[at];
          if (pending === undefined) continue;
          pending.job.refused ??= [];
          pending.job.refused.push({ copy: pending.copy, outcome });
        }
        // The platform's clock costs more than to complete a message.
        const now = Date.now();
        for (const { job } of batch) {
          job.left -= 1;
          if (job.left === 0) this.#settle(job, now);
        }
        this.#changed();
        this.#release();
        // Others have the room for now: whoever of them is done lets this one go on.
        if (this.#calling > CALL_OCTETS) break;
      }
    } catch {
      // The mailbox has vanished under the call: nobody knows what it has. The sender asks again on a new connection,
      // in order, and ids tell what is there.
      this.#engine.close(ConnectCloseReasonId.Resting);
      this.#changed();
    } finally {
      this.#busy.delete(peer);
    }
    // Whoever had no room may have it now.
    this.flush();
  }

  /** The next batch for a mailbox: as much as one call may carry, flag D apart from the rest. */
  #next(peer: string): Pending[] {
    const queue = this.#queues.get(peer) ?? [];
    let octets = 0;
    let count = 0;
    const volatile = isVolatile(queue[0]);
    for (const pending of queue) {
      octets += pending.body.length;
      if (count > 0 && (octets > BATCH_OCTETS || count >= BATCH_MESSAGES || isVolatile(pending) !== volatile)) break;
      count += 1;
    }
    const batch = queue.splice(0, count);
    if (queue.length === 0) this.#queues.delete(peer);
    return batch;
  }

  async #store(peer: string, batch: readonly Pending[]): Promise<Refusal[]> {
    const mailbox = this.#host.mailbox(peer);
    const bundle = pack(batch);
    const octets = bundle.octets.length;
    this.#calling += octets;
    try {
      return await this.#calls.keep(isVolatile(batch[0]) ? mailbox.pass(bundle) : mailbox.append(bundle));
    } finally {
      this.#calling -= octets;
    }
  }

  /** A message is in all its mailboxes, or was refused there. */
  #settle({ sessionId, message, body, refused }: Job, now: number): void {
    this.octets -= body.length;
    if (refused !== undefined && this.#sessions.has(sessionId)) this.#refuse(sessionId, message, refused);
    else if (this.#engine.closed === undefined) this.#engine.complete(message, now);
  }

  #refuse(sessionId: number, message: number, refused: readonly Refused[]): void {
    if (this.#engine.closed !== undefined) return;
    if (this.#sessions.get(sessionId)?.fanout !== true) {
      // What was acknowledged before is told before the Close, so the sender knows which messages were refused.
      this.close(sessionId);
      this.#withdraw(sessionId);
      this.#engine.closeSession(sessionId, CloseReasonId.QuotaWouldBeExceeded);
      return;
    }
    // What was stored before is acknowledged before the status, so the sender knows which message it is about.
    if (this.#engine.session(sessionId) !== undefined) {
      this.#engine.noop();
      for (const outcome of new Set(refused.map((one) => one.outcome))) {
        const indexes = refused.filter((one) => one.outcome === outcome).flatMap(({ copy }) => copy.indexes);
        this.fail(sessionId, indexes, outcome);
      }
    }
    this.#engine.complete(message, Date.now());
  }

  /** Takes back what waits of a session that is refused: stored, it would overtake, and its sender takes it for refused. */
  #withdraw(sessionId: number): void {
    for (const [peer, queue] of this.#queues) {
      const left = queue.filter(({ job }) => job.sessionId !== sessionId);
      for (const { job } of queue) if (job.sessionId === sessionId) this.octets -= job.body.length;
      if (left.length === 0) this.#queues.delete(peer);
      else this.#queues.set(peer, left);
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

/** Flag D: handed on or lost, and never stored. */
function isVolatile(pending: Pending | undefined): boolean {
  return pending?.job.fields.doNotDeliverIfOffline === true;
}
