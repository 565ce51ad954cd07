/**
 * When a runtime that has ended is started again. Pure.
 *
 * @module
 */

/** Who ran this long, in milliseconds, has not ended because of how it starts: the count begins anew. */
const STEADY = 60_000;

/** Milliseconds before each start in a row. The first is at once; together they are a minute, and no busy loop. */
const PAUSES = [0, 500, 1000, 2000, 4000, 8000, 15_000, 30_000];

export class RestartPauses {
  #inRow = 0;

  /** How often in a row it has ended. */
  get inRow(): number {
    return this.#inRow;
  }

  /**
   * Counts an end.
   *
   * @param ran milliseconds for which it had served; 0 if it did not start
   * @returns milliseconds until the next start; undefined if there is to be none
   */
  ended(ran: number): number | undefined {
    if (ran >= STEADY) this.#inRow = 0;
    const pause = PAUSES[this.#inRow];
    this.#inRow += 1;
    return pause;
  }
}
