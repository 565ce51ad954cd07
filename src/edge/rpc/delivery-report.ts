/**
 * What a connection tells a mailbox that it consumes of the messages that it was given, gathered until the mailbox can
 * be told. A message stands in one of the lists: the last that was said of it counts.
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";

/** Absent lists are empty. Numbers are those of the mailbox. */
export interface DeliveryReport {
  /** Done with, in any order: they are not given again. */
  readonly done?: readonly Range[];
  /** Set aside: they wait in the mailbox, and take no room in what may be on its way. */
  readonly aside?: readonly Range[];
  /** Set aside, to be given again after a while. */
  readonly later?: readonly Range[];
  /** To be given again now. */
  readonly again?: readonly Range[];
  /** Of those set aside, what the device has refused for good: each is counted once. */
  readonly declined?: readonly Range[];
  /** Of those for later, what the device has refused for its size. */
  readonly refused?: readonly number[];
  /** Recipients of messages that an origin relay would not take for them. */
  readonly recipients?: number;
  /** Messages with flag D that were dropped since their session is not ready. */
  readonly dropped?: number;
}

export class DeliveryReportDraft {
  readonly #done = new Ranges();
  readonly #aside = new Ranges();
  readonly #later = new Ranges();
  readonly #again = new Ranges();
  readonly #declined = new Ranges();
  readonly #refused = new Set<number>();
  #recipients = 0;
  #dropped = 0;

  get isEmpty(): boolean {
    const counts = this.#done.count + this.#aside.count + this.#later.count + this.#again.count;
    return counts + this.#declined.count + this.#refused.size + this.#recipients + this.#dropped === 0;
  }

  done(seq: number): void {
    if (this.#aside.count > 0) this.#aside.delete(seq);
    if (this.#again.count > 0) this.#again.delete(seq);
    this.#done.add(seq);
  }

  setAside(seq: number): void {
    this.#later.delete(seq);
    this.#again.delete(seq);
    this.#aside.add(seq);
  }

  putOff(seq: number): void {
    this.#aside.delete(seq);
    this.#again.delete(seq);
    this.#later.add(seq);
  }

  askAgain(from: number, to = from): void {
    this.#aside.delete(from, to);
    this.#later.delete(from, to);
    this.#again.add(from, to);
  }

  decline(seq: number): void {
    this.setAside(seq);
    this.#declined.add(seq);
  }

  refuse(seq: number): void {
    this.putOff(seq);
    this.#refused.add(seq);
  }

  recipients(count: number): void {
    this.#recipients += count;
  }

  dropped(count: number): void {
    this.#dropped += count;
  }

  /** As it is sent. */
  toReport(): DeliveryReport {
    return {
      ...listed("done", this.#done),
      ...listed("aside", this.#aside),
      ...listed("later", this.#later),
      ...listed("again", this.#again),
      ...listed("declined", this.#declined),
      ...(this.#refused.size > 0 && { refused: [...this.#refused] }),
      ...(this.#recipients > 0 && { recipients: this.#recipients }),
      ...(this.#dropped > 0 && { dropped: this.#dropped }),
    };
  }
}

function listed(name: "done" | "aside" | "later" | "again" | "declined", ranges: Ranges): Partial<DeliveryReport> {
  return ranges.count === 0 ? {} : { [name]: [...ranges] };
}
