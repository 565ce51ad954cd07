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
import {
  BATCH_MESSAGES,
  BATCH_OCTETS,
  CALL_TIMEOUT,
  MESSAGE_LIMIT,
  STATUS_INDEXES,
  UNFINISHED_OCTETS,
} from "./defaults.ts";
import { Gathering } from "./gathering.ts";
import type { Envelope, Mail, Recipient } from "./segment.ts";
import type { Outcome } from "./store.ts";
import { promptly } from "./streams.ts";
import type { Host } from "./terminal.ts";

/** Who gets a copy: one peer of ours, or an origin relay for all of its own. */
interface Copy extends Pick<Envelope, "resourceURL" | "identityURL" | "deviceURL" | "entries"> {
  /** Whose mailbox it goes into. */
  readonly peer: string;
  /** The entries of the session that it is for. */
  readonly indexes: readonly number[];
}

/** An entry of a session; `relayURL` is empty for a peer of ours. */
export interface Target extends Recipient {
  readonly relayURL: string;
}

/** How the refusals of a mailbox are said to the sender of a fanout. */
const STATUS: Readonly<Record<Exclude<Outcome, "stored" | "duplicate">, number>> = {
  quota: SessionStatusId.QuotaWouldBeExceeded,
  locked: SessionStatusId.LockedOut,
  DNSLookupFailed: SessionStatusId.DNSLookupFailed,
  HostNotReachable: SessionStatusId.HostNotReachable,
  ConnectionClosed: SessionStatusId.ConnectionClosed,
};

/** Where one session's messages go. */
interface Session {
  readonly source: string;
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
  readonly size: number;
  left: number;
  readonly refused: Refusal[];
}

interface Refusal {
  readonly indexes: readonly number[];
  readonly outcome: Exclude<Outcome, "stored" | "duplicate">;
}

interface Pending {
  readonly mail: Mail;
  readonly job: Job;
  readonly indexes: readonly number[];
  /** Flag D. */
  readonly volatile: boolean;
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
  readonly #queues = new Map<string, Pending[]>();
  readonly #busy = new Set<string>();
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
        copies.push({ peer, indexes: [index], resourceURL, identityURL, deviceURL });
        continue;
      }
      const group = relays.get(relayURL) ?? { indexes: [], entries: [] };
      group.indexes.push(index);
      group.entries.push({ identityURL, deviceURL });
      relays.set(relayURL, group);
    }
    for (const [peer, group] of relays) copies.push({ peer, ...group, resourceURL, identityURL: "", deviceURL: "" });
    this.#sessions.set(sessionId, { source, copies, fanout, failed: [] });
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
    this.#arriving.set(sessionId, { fields, body: new Gathering(), tooLong: false });
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
    const copies = session.copies.filter(({ indexes }) => !indexes.every((index) => session.failed.includes(index)));
    const job: Job = { sessionId, message, size: length, left: copies.length, refused: [] };
    if (arriving.tooLong) {
      this.#refuse(
        job,
        session,
        copies.map(({ indexes }) => ({ indexes, outcome: "quota" })),
      );
      return;
    }
    const body = arriving.body.take();
    this.octets += body.length;
    for (const { peer, indexes, ...addressing } of copies) {
      const mail: Mail = {
        ...addressing,
        source: session.source,
        id: fields.userRef,
        track: fields.track,
        ephemeral: fields.ephemeral,
        streamSize: fields.streamSize,
        fragmentation: fields.fragmentation,
        body,
      };
      const queue = this.#queues.get(peer);
      const pending = { mail, job, indexes, volatile: fields.doNotDeliverIfOffline };
      if (queue === undefined) this.#queues.set(peer, [pending]);
      else queue.push(pending);
    }
    if (copies.length === 0) this.#settle(job);
  }

  close(sessionId: number): void {
    const arriving = this.#arriving.get(sessionId);
    if (arriving !== undefined) this.#drop(arriving);
    this.#arriving.delete(sessionId);
    this.#sessions.delete(sessionId);
  }

  /** Sends what has queued up to every mailbox that is not busy. */
  flush(): void {
    for (const peer of this.#queues.keys()) {
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
        const outcomes = await this.#store(peer, batch);
        batch.forEach(({ job, indexes }, at) => {
          const outcome = outcomes[at] ?? "quota";
          if (outcome !== "stored" && outcome !== "duplicate") job.refused.push({ indexes, outcome });
          job.left -= 1;
          if (job.left === 0) this.#settle(job);
        });
        this.#changed();
        this.#release();
      }
    } catch {
      // The mailbox has vanished under the call: nobody knows what it has. The sender asks again on a new connection,
      // in order, and ids tell what is there.
      this.#engine.close(ConnectCloseReasonId.Resting);
      this.#changed();
    } finally {
      this.#busy.delete(peer);
    }
  }

  /** The next batch for a mailbox: as much as one call may carry, flag D apart from the rest. */
  #next(peer: string): Pending[] {
    const queue = this.#queues.get(peer) ?? [];
    let octets = 0;
    let count = 0;
    for (const { mail, volatile } of queue) {
      octets += mail.body.length;
      if (count > 0 && (octets > BATCH_OCTETS || count >= BATCH_MESSAGES || volatile !== queue[0]?.volatile)) break;
      count += 1;
    }
    const batch = queue.splice(0, count);
    if (queue.length === 0) this.#queues.delete(peer);
    return batch;
  }

  async #store(peer: string, batch: readonly Pending[]): Promise<Outcome[]> {
    const mailbox = this.#host.mailbox(peer);
    const mails = batch.map(({ mail }) => mail);
    return promptly(CALL_TIMEOUT, batch[0]?.volatile ? mailbox.pass(mails) : mailbox.append(mails));
  }

  /** A message is in all its mailboxes, or was refused there. */
  #settle(job: Job): void {
    this.octets -= job.size;
    const session = this.#sessions.get(job.sessionId);
    if (job.refused.length > 0 && session !== undefined) this.#refuse(job, session, job.refused);
    else if (this.#engine.closed === undefined) this.#engine.complete(job.message, Date.now());
  }

  #refuse(job: Job, session: Session, refused: Job["refused"]): void {
    if (this.#engine.closed !== undefined) return;
    if (!session.fanout) {
      // What was acknowledged before is told before the Close, so the sender knows which messages were refused.
      this.close(job.sessionId);
      this.#withdraw(job.sessionId);
      this.#engine.closeSession(job.sessionId, CloseReasonId.QuotaWouldBeExceeded);
      return;
    }
    // What was stored before is acknowledged before the status, so the sender knows which message it is about.
    if (this.#engine.session(job.sessionId) !== undefined) {
      this.#engine.noop();
      for (const outcome of new Set(refused.map((one) => one.outcome))) {
        const indexes = refused.filter((one) => one.outcome === outcome).flatMap((one) => one.indexes);
        this.fail(job.sessionId, indexes, outcome);
      }
    }
    this.#engine.complete(job.message, Date.now());
  }

  /** Takes back what waits of a session that is refused: stored, it would overtake, and its sender takes it for refused. */
  #withdraw(sessionId: number): void {
    for (const [peer, queue] of this.#queues) {
      const left = queue.filter(({ job }) => job.sessionId !== sessionId);
      for (const { job } of queue) if (job.sessionId === sessionId) this.octets -= job.size;
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
