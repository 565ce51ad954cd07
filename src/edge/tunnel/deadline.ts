/**
 * When a Tunnel has to look whether its device is still there: one time, with one owner.
 *
 * While nothing is kept in storage it is a timer. Until the device is let in, nothing may be, and the timer keeps the
 * object in memory for half a minute at most; later, only an object that a relay's socket keeps in memory in any case
 * has one. A device that comes by single requests is missed by nobody while its object sleeps: its time is kept by the
 * alarm.
 *
 * @module
 */
import type { Kept } from "./kept.ts";

export class Deadline {
  readonly #kept: Kept;
  readonly #look: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param look called when the timer runs out; for an alarm the platform calls the object's `alarm()` */
  constructor(kept: Kept, look: () => void) {
    this.#kept = kept;
    this.#look = look;
  }

  /** @param at milliseconds since 1970 */
  set(at: number): void {
    this.clear();
    if (this.#kept.some) this.#kept.setAlarm(at);
    else this.#timer = setTimeout(this.#look, Math.max(0, at - Date.now()));
  }

  /** Stops the timer. An alarm goes with the storage (`Kept.clear`). */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
