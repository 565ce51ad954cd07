/**
 * A Tunnel's only deadline: when to check whether its device is still there.
 *
 * It is a timer while the storage is empty, and an alarm otherwise. The storage stays empty until the device is
 * admitted; the timer keeps the object in memory for half a minute at most. After that, only an object that a relay's
 * socket keeps in memory anyway has a timer. For a device that sends single requests (KeepAlive, Polling) it is an
 * alarm: nothing else wakes the object when the device goes away.
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
