/**
 * How long a device waits before it connects again. The pause grows with each connection that fails, also with one that
 * began well: behind a proxy that spoils whatever comes after the beginning, each would. It is short again after a
 * connection that was of use.
 *
 * @module
 */
import { RECONNECT_FIRST, RECONNECT_LAST, STOOD } from "./limits.ts";

export class ReconnectPause {
  #failures = 0;

  /**
   * A connection is lost.
   *
   * @param carried whether the relay has acknowledged a message on it, or the application has taken one for good
   * @param stood for how long it stood, in milliseconds
   */
  lost(carried: boolean, stood: number): void {
    if (carried || stood >= STOOD) this.#failures = 0;
  }

  /** The longest pause before the next try, in milliseconds. The actual one is taken from anywhere below it. */
  next(): number {
    const limit = Math.min(RECONNECT_FIRST * 2 ** this.#failures, RECONNECT_LAST);
    this.#failures += 1;
    return limit;
  }
}
