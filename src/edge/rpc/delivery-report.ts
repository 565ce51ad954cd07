/**
 * Delivery reports: what a connection tells a mailbox about the messages it was given. A draft gathers them until the
 * mailbox can be called. A message is in only one of `done`, `aside`, `later` and `again`: the last statement about it
 * counts.
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";

/** Ranges of the mailbox's message numbers. An absent list is empty. */
export interface DeliveryReport {
  /** Messages that are done, in any order. They are not delivered again. */
  readonly done?: readonly Range[];
  /** Messages set aside: they wait in the mailbox, and do not count against the delivery window. */
  readonly aside?: readonly Range[];
  /** Messages set aside, to be delivered again after a while. */
  readonly later?: readonly Range[];
  /** Messages to be delivered again now. */
  readonly again?: readonly Range[];
  /** Those of `aside` that the device has refused for good. Each is counted as a drop once. */
  readonly declined?: readonly Range[];
  /** Those of `later` that the device has refused for their size. */
  readonly refused?: readonly number[];
  /** How many recipients an origin relay has refused messages for. */
  readonly recipients?: number;
  /** How many messages with flag D were dropped because their session was not ready. */
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

  /** The report as sent to the mailbox. */
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
