/**
 * What a mailbox keeps of its settled messages for readers over HTTP. Part of `mailbox-store.ts`.
 *
 *   kept       segments whose messages are all settled, as they were among those that wait
 *   facts      `kept`: {@link Keeping}
 *
 * Nothing is kept until a mailbox is read over HTTP, and nothing that was settled before. Settled messages of a segment
 * of which others still wait stay in that segment.
 *
 * Everything that was settled up to the floor, which is the end of a segment, is gone. A message that waits may be below
 * it. A reader that has begun at the first message that there was must not be told that what is below the floor is gone;
 * a reader that has stopped there must. So each loss below the floor begins an epoch, and an offset has the epoch that
 * its reader knows (`durable-streams/mailbox-offset.ts`).
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";
import type { Losses } from "../durable-streams/mailbox-offset.ts";
import type { Statements } from "./id-store.ts";
import { KEPT_OCTETS, KEPT_REST, NOTE_INTERVAL, RETENTION } from "./limits.ts";

/** SQL and facts, as the store has them. */
interface Tables extends Statements {
  fact(name: string): string | undefined;
  setFact(name: string, value: string): void;
}

/** The stored state. */
interface Keeping extends Losses {
  /** When the mailbox was last read over HTTP, as far as it was noted, in milliseconds since 1970. 0: nothing is kept. */
  readonly read: number;
}

/** A segment of which some or all messages are settled. */
export interface Settled {
  readonly first: number;
  readonly count: number;
  /** Bytes of its settled messages. */
  readonly octets: number;
  /** When the last of them was settled, in milliseconds since 1970. */
  readonly since: number;
}

interface KeptRow extends Pick<Settled, "first" | "count"> {
  /** How many of its envelopes are stored in `envelopes`. */
  readonly apart: number;
  /** Whether bodies of it are stored in `bodies`. */
  readonly long: number;
  readonly envelopes: string;
}

const SCHEMA = `CREATE TABLE IF NOT EXISTS kept (
  first INTEGER PRIMARY KEY, count INTEGER NOT NULL, octets INTEGER NOT NULL, at INTEGER NOT NULL,
  since INTEGER NOT NULL, apart INTEGER NOT NULL, long INTEGER NOT NULL, hidden TEXT NOT NULL,
  envelopes TEXT NOT NULL, body BLOB NOT NULL)`;

/** Rows looked at in one query while the oldest are removed. */
const PAGE = 64;

const NEVER: Keeping = { floor: 0, epoch: 0, read: 0 };

/** Limits of what is kept. */
export interface KeepOptions {
  /** How long a settled message is kept, in milliseconds; 0 keeps nothing. */
  readonly time: number;
  /** Bytes that are kept. Default KEPT_OCTETS. */
  readonly octets?: number;
}

export class KeptLog {
  readonly #sql: Tables;
  readonly #time: number;
  readonly #most: number;
  #state: Keeping = NEVER;
  /** Bytes in `kept`, and when the oldest of it was settled. */
  #octets = 0;
  #oldest: number | undefined;

  constructor(sql: Tables, { time, octets = KEPT_OCTETS }: KeepOptions) {
    this.#sql = sql;
    this.#time = time;
    this.#most = octets;
  }

  /** Refills memory from the tables. */
  load(): void {
    const text = this.#sql.fact("kept");
    this.#state = text === undefined ? NEVER : (JSON.parse(text) as Keeping);
    const [sum] = this.isOn
      ? this.#sql.all<{ readonly octets: number }>("SELECT coalesce(sum(octets), 0) AS octets FROM kept")
      : [];
    this.#octets = sum?.octets ?? 0;
    this.#findOldest();
  }

  #findOldest(): void {
    const query = "SELECT since FROM kept ORDER BY first LIMIT 1";
    this.#oldest = this.#octets === 0 ? undefined : this.#sql.all<Pick<Settled, "since">>(query)[0]?.since;
  }

  /** Whether settled messages are kept. */
  get isOn(): boolean {
    return this.#state.read > 0;
  }

  /** Bytes of whole segments that are kept. */
  get octets(): number {
    return this.#octets;
  }

  /** @param position the number before the first waiting message */
  losses(position: number): Losses {
    const { floor, epoch } = this.#state;
    // What is not kept is gone as soon as it is settled.
    return this.isOn ? { floor, epoch } : { floor: Math.max(floor, position), epoch: Math.max(epoch, floor, position) };
  }

  /** Whether settled messages of a segment are kept. */
  keeps(first: number): boolean {
    return this.isOn && first > this.#state.floor;
  }

  /** Whether it is time to note that the mailbox is read over HTTP. */
  isToNote(now: number): boolean {
    return this.#time > 0 && (!this.isOn || now - this.#state.read >= NOTE_INTERVAL);
  }

  /**
   * Notes that the mailbox is read over HTTP. From the first time on, what is settled is kept.
   *
   * @param settled the last number that was settled before
   */
  noteRead(now: number, settled: number): void {
    const { floor, epoch } = this.#state;
    if (this.isOn) {
      this.#keep({ floor, epoch, read: now });
      return;
    }
    this.#sql.add(SCHEMA);
    const above = Math.max(floor, settled);
    this.#keep({ floor: above, epoch: Math.max(epoch, above), read: now });
  }

  /**
   * Takes over whole segments, whose rows in `segments` are then deleted.
   *
   * @param octets of their messages
   */
  take(begin: number, end: number, octets: number, now: number): void {
    this.#sql.add(
      `INSERT INTO kept (first, count, octets, at, since, apart, long, hidden, envelopes, body)
        SELECT first, count, octets, at, ?, apart,
          EXISTS (SELECT 1 FROM bodies WHERE seq BETWEEN first AND first + count - 1), '', envelopes, body
        FROM segments WHERE first BETWEEN ? AND ?`,
      now,
      begin,
      end,
    );
    this.#octets += octets;
    this.#oldest ??= now;
  }

  /** Counts envelopes of a segment that was taken over, which are stored elsewhere. */
  addOctets(first: number, octets: number): void {
    this.#sql.change("UPDATE kept SET octets = octets + ? WHERE first = ?", octets, first);
    this.#octets += octets;
  }

  /** Hides messages of a segment that was taken over. @param ranges JSON of their numbers */
  hide(first: number, ranges: string): void {
    this.#sql.change("UPDATE kept SET hidden = ? WHERE first = ?", ranges, first);
  }

  /** Begins an epoch: a message below the floor was settled, and is gone. */
  lose(): void {
    this.raiseTo(this.#state.floor);
  }

  /** Everything that was settled up to a number is gone. The rows are removed by {@link KeptLog.removeBelow}. */
  raiseTo(number: number): void {
    const { floor, epoch, read } = this.#state;
    const raised = Math.max(floor, number);
    this.#keep({ floor: raised, epoch: Math.max(epoch + 1, raised), read });
  }

  /** Whether more is kept than may be. @param parts segments of which other messages wait, above the floor */
  isOver(parts: readonly Pick<Settled, "octets">[]): boolean {
    return this.isOn && parts.reduce((sum, { octets }) => sum + octets, this.#octets) > this.#most;
  }

  /**
   * Finds up to where kept messages are too old, or too many.
   *
   * @param parts segments of which other messages wait, above the floor, in order
   * @returns the end of a segment; undefined if there is nothing to remove
   */
  surplus(parts: readonly Settled[], now: number): number | undefined {
    let left = parts.reduce((sum, { octets }) => sum + octets, this.#octets);
    // A little more than needed, so that not every message removes another.
    const most = left > this.#most ? this.#most * KEPT_REST : this.#most;
    const old = now - this.#time;
    let end: number | undefined;
    let at = 0;
    for (let from = this.#state.floor; ; ) {
      const page = this.#sql.all<Settled>(
        "SELECT first, count, octets, since FROM kept WHERE first > ? ORDER BY first LIMIT ?",
        from,
        PAGE,
      );
      const last = page.at(-1)?.first ?? Number.POSITIVE_INFINITY;
      const upTo = page.length < PAGE ? Number.POSITIVE_INFINITY : last;
      const beside = parts.slice(at).filter(({ first }) => first <= upTo);
      at += beside.length;
      for (const { first, count, octets, since } of [...page, ...beside].sort(
        (one, other) => one.first - other.first,
      )) {
        if (since > old && left <= most) return end;
        left -= octets;
        end = first + count - 1;
      }
      if (page.length < PAGE) return end;
      from = last;
    }
  }

  /**
   * Removes what is kept up to the floor.
   *
   * @param release called with the envelopes of each segment that has some in `envelopes`
   */
  removeBelow(release: (row: Pick<KeptRow, "envelopes">) => void): void {
    const { floor } = this.#state;
    const [sum] = this.#sql.all<{ readonly octets: number | null }>(
      "SELECT sum(octets) AS octets FROM kept WHERE first <= ?",
      floor,
    );
    if (sum === undefined || sum.octets === null) return;
    const rows = this.#sql.all<KeptRow>(
      "SELECT first, count, long, apart, envelopes FROM kept WHERE first <= ? AND (long > 0 OR apart > 0)",
      floor,
    );
    for (const row of rows) {
      const { first, count, apart, long } = row;
      if (long > 0) this.#sql.change("DELETE FROM bodies WHERE seq BETWEEN ? AND ?", first, first + count - 1);
      if (apart > 0) release(row);
    }
    this.#sql.change("DELETE FROM kept WHERE first <= ?", floor);
    this.#octets -= sum.octets;
    this.#findOldest();
  }

  /** Whether nobody has read the mailbox over HTTP for so long that nothing more is kept. */
  isForgotten(now: number): boolean {
    return this.isOn && now - this.#state.read >= RETENTION + NOTE_INTERVAL;
  }

  /** Keeps nothing until the mailbox is read again. Everything must have been removed. */
  stop(): void {
    this.#keep({ ...this.#state, read: 0 });
  }

  /** When something is next to be removed; undefined if nothing is kept. */
  get expiry(): number | undefined {
    if (!this.isOn) return undefined;
    const forgotten = this.#state.read + RETENTION + NOTE_INTERVAL;
    // An alarm for each message would cost more than the message.
    const old = this.#oldest === undefined ? forgotten : this.#oldest + this.#time * (2 - KEPT_REST);
    return Math.ceil(Math.min(forgotten, old));
  }

  #keep(state: Keeping): void {
    this.#sql.setFact("kept", JSON.stringify(state));
    this.#state = state;
  }
}

/** Segments that are settled whole, and are kept. */
export class Taken {
  /** Consecutive ones, by the numbers of their messages, and the bytes of those. */
  readonly runs: { readonly from: number; to: number; octets: number }[] = [];
  /** Messages that readers must not see, by the first number of their segment. */
  readonly hidden = new Map<number, Ranges>();
  #isOpen = false;

  add(first: number, last: number, octets: number, hidden: Ranges): void {
    const run = this.#isOpen ? this.runs.at(-1) : undefined;
    if (run === undefined) this.runs.push({ from: first, to: last, octets });
    else {
      run.to = last;
      run.octets += octets;
    }
    this.#isOpen = true;
    if (hidden.count > 0) this.hidden.set(first, hidden);
  }

  /** The next segment is not kept. */
  end(): void {
    this.#isOpen = false;
  }

  has(first: number): boolean {
    return this.runs.some(({ from, to }) => first >= from && first <= to);
  }

  /** The part of a range outside of the segments. */
  others([from, to]: Range): Ranges {
    const others = new Ranges([[from, to]]);
    for (const run of this.runs) others.delete(run.from, run.to);
    return others;
  }
}
