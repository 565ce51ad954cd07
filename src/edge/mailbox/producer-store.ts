/**
 * Producers over HTTP that a mailbox remembers, so that what one of them repeats is stored once [PROTOCOL 5.2.1]. Part
 * of `mailbox-store.ts`.
 *
 *   producers  by sending device and Producer-Id: epoch, last number, and time. Without a Producer-Id: the last Stream-Seq
 *
 * The table is made for the first producer.
 *
 * @module
 */
import { senderOf } from "../../store-and-forward/sender-share.ts";
import type { ProducerState } from "../durable-streams/producer.ts";
import type { Statements } from "./id-store.ts";
import { PRODUCER_AGE, PRODUCERS, SENDER_PRODUCERS } from "./limits.ts";

interface ProducerRow extends ProducerState {
  /** The last Stream-Seq; empty for none. */
  readonly sequence: string;
}

const SCHEMA = `CREATE TABLE IF NOT EXISTS producers (
  source TEXT NOT NULL, id TEXT NOT NULL, sender TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  sequence TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (source, id)) WITHOUT ROWID`;

/** What has the Stream-Seq of a device without a Producer-Id: none of these is empty. */
export const NO_ID = "";

export class ProducerTable {
  readonly #sql: Statements;
  /** Whether the table exists; undefined until needed. */
  #made: boolean | undefined;

  constructor(sql: Statements) {
    this.#sql = sql;
  }

  /** Forgets what it knows of the tables. */
  forgetMemory(): void {
    this.#made = undefined;
  }

  /** What is known of a producer. @param source URL of the sending device */
  state(source: string, id: string): ProducerState | undefined {
    const row = this.#row(source, id);
    return row === undefined ? undefined : { epoch: row.epoch, seq: row.seq };
  }

  /** The last Stream-Seq of a sending device. */
  sequence(source: string): string | undefined {
    return this.#row(source, NO_ID)?.sequence;
  }

  #row(source: string, id: string): ProducerRow | undefined {
    if (!this.#exists) return undefined;
    const query = "SELECT epoch, seq, sequence FROM producers WHERE source = ? AND id = ?";
    return this.#sql.all<ProducerRow>(query, source, id)[0];
  }

  /**
   * Whether another producer may be remembered. One of all that was silent for long enough may be forgotten for it, and
   * of its own sender any: what a forgotten one repeats is still recognized by the ids of its messages.
   */
  hasRoom(source: string, id: string, now: number): boolean {
    if (!this.#exists || this.#row(source, id) !== undefined) return true;
    const sender = senderOf(source);
    const [own, all] = [this.#count("WHERE sender = ?", sender), this.#count("")];
    if (own >= SENDER_PRODUCERS || (all >= PRODUCERS && own > 0)) return true;
    return all < PRODUCERS || this.#count("WHERE time < ?", now - PRODUCER_AGE) > 0;
  }

  set(source: string, id: string, state: ProducerState, now: number): void {
    this.#write(source, id, { ...state, sequence: "" }, now);
  }

  setSequence(source: string, sequence: string, now: number): void {
    this.#write(source, NO_ID, { epoch: 0, seq: 0, sequence }, now);
  }

  #write(source: string, id: string, { epoch, seq, sequence }: ProducerRow, now: number): void {
    if (!this.#exists) {
      this.#sql.add(SCHEMA);
      this.#made = true;
    }
    const sender = senderOf(source);
    if (this.#row(source, id) === undefined) this.#makeRoom(sender);
    this.#sql.add(
      "INSERT OR REPLACE INTO producers (source, id, sender, epoch, seq, sequence, time) VALUES (?, ?, ?, ?, ?, ?, ?)",
      source,
      id,
      sender,
      epoch,
      seq,
      sequence,
      now,
    );
  }

  #makeRoom(sender: string): void {
    const isOwn = this.#count("WHERE sender = ?", sender) >= SENDER_PRODUCERS;
    if (!isOwn && this.#count("") < PRODUCERS) return;
    const own = "SELECT source, id FROM producers WHERE sender = ? ORDER BY time LIMIT 1";
    const [
      oldest = this.#sql.all<{ source: string; id: string }>(
        "SELECT source, id FROM producers ORDER BY time LIMIT 1",
      )[0],
    ] = this.#sql.all<{ source: string; id: string }>(own, sender);
    if (oldest !== undefined)
      this.#sql.change("DELETE FROM producers WHERE source = ? AND id = ?", oldest.source, oldest.id);
  }

  #count(where: string, ...bindings: (string | number)[]): number {
    const query = `SELECT count(*) AS count FROM producers ${where}`;
    return this.#sql.all<{ readonly count: number }>(query, ...bindings)[0]?.count ?? 0;
  }

  /** Forgets those that were silent for long. */
  expire(now: number): void {
    if (this.#exists && this.#count("WHERE time < ?", now - PRODUCER_AGE) > 0) {
      this.#sql.change("DELETE FROM producers WHERE time < ?", now - PRODUCER_AGE);
    }
  }

  clear(): void {
    if (this.#exists) this.#sql.change("DELETE FROM producers");
  }

  get #exists(): boolean {
    this.#made ??= this.#sql.all("SELECT 1 FROM sqlite_master WHERE name = 'producers'").length > 0;
    return this.#made;
  }
}
