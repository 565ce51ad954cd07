/**
 * When to ask the other end of a connection for a sign of life, and when its silence means that it is gone. Pure.
 *
 * A connection that falls silent after use is asked within 10 s, so that a device whose network has changed soon goes on;
 * an idle one is asked every 25 s. Counts looks, not time: a process that was stopped has not waited.
 *
 * @module
 */
import { BUFFER_SECOND, BUFFERED, WEBSOCKET_BUSY_PING as LOOK, STALL, WEBSOCKET_PING } from "../limits.ts";

export class LifeSigns {
  /** Milliseconds since the last question. */
  #quiet = 0;
  /** How long a question has been open, in milliseconds; undefined while none is. */
  #unanswered: number | undefined;
  /** Something was heard since the last look. */
  #hasHeard = false;
  /** Data has passed since the last question. */
  #isInUse = false;
  /** Bytes sent since something was heard: an answer may have to wait for them. */
  #sentBytes = 0;

  /** Call for what arrives: data, or the answer to a question. */
  heard(isData: boolean): void {
    this.#hasHeard = true;
    this.#sentBytes = 0;
    if (isData) this.#isInUse = true;
  }

  /** Call for data that is sent. */
  sent(bytes: number): void {
    this.#isInUse = true;
    this.#sentBytes += bytes;
  }

  /** Whether something was heard since the last look. */
  get hasHeard(): boolean {
    return this.#hasHeard;
  }

  /**
   * Call every WEBSOCKET_BUSY_PING (5 s). `ask`: put a question. `gone`: read what has arrived, and end the connection
   * unless `hasHeard` then.
   *
   * @param isPaused the connection is not read, so its silence says nothing
   */
  look(isPaused: boolean): "ask" | "gone" | undefined {
    const isSilent = !this.#hasHeard && !isPaused;
    this.#hasHeard = false;
    this.#quiet += LOOK;
    if (!isSilent) this.#unanswered = undefined;
    if (this.#unanswered !== undefined) {
      this.#unanswered += LOOK;
      return this.#unanswered >= this.#patience ? "gone" : undefined;
    }
    if (this.#quiet < WEBSOCKET_PING && !(isSilent && this.#isInUse)) return undefined;
    this.#quiet = 0;
    this.#isInUse = false;
    this.#unanswered = 0;
    return "ask";
  }

  get #patience(): number {
    return STALL + (Math.min(this.#sentBytes, BUFFERED) / BUFFER_SECOND) * 1000;
  }
}
