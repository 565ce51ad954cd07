/**
 * How long a device waits before it reconnects. The pause grows with each failed connection, even one that started
 * well: a proxy may break every connection after its beginning. A useful connection resets the pause.
 *
 * @module
 */
import { RECONNECT_FIRST, RECONNECT_LAST, STOOD } from "./limits.ts";

export class ReconnectPause {
  #failures = 0;

  /**
   * Records that a connection was lost.
   *
   * @param carried whether the relay acknowledged a message on it, or the application finished one
   * @param stood how long it lasted, in milliseconds
   */
  lost(carried: boolean, stood: number): void {
    if (carried || stood >= STOOD) this.#failures = 0;
  }

  /** The longest pause before the next attempt, in milliseconds. The caller picks a random value below it. */
  next(): number {
    const limit = Math.min(RECONNECT_FIRST * 2 ** this.#failures, RECONNECT_LAST);
    this.#failures += 1;
    return limit;
  }
}
