/**
 * What a mailbox has sent to its consumer and the consumer has not acknowledged.
 *
 * @module
 */

/** Messages numbered one by one, of which the first `done` are acknowledged. */
interface Flight {
  readonly first: number;
  readonly sizes: readonly number[];
  done: number;
}

export class Flying {
  #flights: Flight[] = [];
  #octets = 0;
  #count = 0;

  /** By how much they count, as `Slice` has it. */
  get octets(): number {
    return this.#octets;
  }

  get count(): number {
    return this.#count;
  }

  /** Messages have been sent: the first of them by its number, and by how much each counts. */
  add(first: number, sizes: readonly number[]): void {
    this.#flights.push({ first, sizes, done: 0 });
    this.#count += sizes.length;
    for (const size of sizes) this.#octets += size;
  }

  /** Everything up to a number is acknowledged. */
  acknowledged(seq: number): void {
    for (let flight = this.#flights[0]; flight !== undefined; flight = this.#flights[0]) {
      const { first, sizes } = flight;
      for (; flight.done < sizes.length && first + flight.done <= seq; flight.done += 1) {
        this.#octets -= sizes[flight.done] ?? 0;
        this.#count -= 1;
      }
      if (flight.done < sizes.length) return;
      this.#flights.shift();
    }
  }

  clear(): void {
    this.#flights = [];
    this.#octets = 0;
    this.#count = 0;
  }
}
