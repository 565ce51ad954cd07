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
import type { Envelope, Mail } from "./segment.ts";
import type { Outcome } from "./store.ts";
import { promptly } from "./streams.ts";
import type { Host } from "./terminal.ts";

type Recipient = Pick<Envelope, "resourceURL" | "identityURL" | "deviceURL"> & { readonly peer: string };

/** Where one session's messages go. */
interface Session {
  readonly source: string;
  readonly recipients: readonly Recipient[];
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
  readonly refused: { readonly index: number; readonly outcome: Outcome }[];
}

interface Pending {
  readonly mail: Mail;
  readonly job: Job;
  readonly index: number;
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

  open(
    sessionId: number,
    source: string,
    resourceURL: string,
    entries: readonly { readonly identityURL: string; readonly deviceURL: string }[],
    fanout: boolean,
  ): void {
    const recipients = entries.map(({ identityURL, deviceURL }) => ({
      peer: deviceURL === "" ? identityURL : deviceURL,
      resourceURL,
      identityURL,
      deviceURL,
    }));
    this.#sessions.set(sessionId, { source, recipients, fanout, failed: [] });
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
    const recipients = [...session.recipients.entries()].filter(([index]) => !session.failed.includes(index));
    const job: Job = { sessionId, message, size: length, left: recipients.length, refused: [] };
    if (arriving.tooLong) {
      this.#refuse(
        job,
        session,
        session.recipients.map((_, index) => ({ index, outcome: "quota" })),
      );
      return;
    }
    const body = arriving.body.take();
    this.octets += body.length;
    for (const [index, { peer, ...addressing }] of recipients) {
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
      const pending = { mail, job, index, volatile: fields.doNotDeliverIfOffline };
      if (queue === undefined) this.#queues.set(peer, [pending]);
      else queue.push(pending);
    }
    if (recipients.length === 0) this.#settle(job);
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
        batch.forEach(({ job, index }, at) => {
          const outcome = outcomes[at] ?? "quota";
          if (outcome !== "stored" && outcome !== "duplicate") job.refused.push({ index, outcome });
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
    for (const [outcome, statusId] of [
      ["quota", SessionStatusId.QuotaWouldBeExceeded],
      ["locked", SessionStatusId.LockedOut],
    ] as const) {
      const indexes = refused.filter((one) => one.outcome === outcome).map(({ index }) => index);
      if (indexes.length === 0) continue;
      session.failed.push(...indexes);
      for (let at = 0; at < indexes.length; at += STATUS_INDEXES) {
        this.#engine.sessionStatus(job.sessionId, statusId, indexes.slice(at, at + STATUS_INDEXES));
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
