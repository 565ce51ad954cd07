/**
 * Which messages of a mailbox are done with. They may be so in any order, but a mailbox is cut from its front: what counts
 * is how far everything is done with.
 *
 * @module
 */

/** How many entries are done with before their memory is given back. */
const COMPACT = 1024;

export class Progress {
  /** Messages that have begun, by number, oldest first; those before `#head` are done with. */
  #begun: number[] = [];
  #head = 0;
  /** Done with, while one before them is not. */
  readonly #done = new Set<number>();
  #upTo: number;

  /** @param upTo everything up to this message was done with before */
  constructor(upTo: number) {
    this.#upTo = upTo;
  }

  /** Everything up to this message is done with. */
  get upTo(): number {
    return this.#upTo;
  }

  /** A message is to be done; they begin in the order of their numbers. */
  begin(seq: number): void {
    this.#begun.push(seq);
  }

  done(seq: number): void {
    if (seq <= this.#upTo) return;
    // Nearly always it is the first.
    if (seq !== this.#begun[this.#head]) {
      this.#done.add(seq);
      return;
    }
    this.#upTo = seq;
    this.#head += 1;
    for (let first = this.#begun[this.#head]; first !== undefined; first = this.#begun[this.#head]) {
      if (!this.#done.delete(first)) break;
      this.#upTo = first;
      this.#head += 1;
    }
    if (this.#head < COMPACT) return;
    this.#begun = this.#begun.slice(this.#head);
    this.#head = 0;
  }
}
