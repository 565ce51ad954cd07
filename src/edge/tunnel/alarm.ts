/**
 * A Tunnel's alarm. Everything that waits for its device sets a deadline of its own name; the alarm is set for the
 * earliest.
 *
 *   "connect"   the device's Connect (opening.ts)
 *   "token"     the next judgement of the token of an idle device that has channels
 *   "device"    the timers of the encapsulation: the device is late, or silent (`DeviceConnection.expire`)
 *
 * It is a timer while the storage is empty, and the platform's alarm otherwise. The storage stays empty until the
 * device is admitted; the timer keeps the object in memory for half a minute at most. After that, only an object that a
 * relay's socket keeps in memory anyway has a timer. For a device that sends single requests (KeepAlive, Polling) it is
 * the platform's alarm: nothing else wakes the object when the device goes away.
 *
 * Invariant: stored state always has an alarm, also when there is no deadline. It wakes an object that a crash took out
 * of memory; that object finds its virtual connection lost, and clears the storage.
 *
 * @module
 */

import { LOST_LOOK } from "./limits.ts";
import type { Kept, StorageContext } from "./tunnel-storage.ts";

export type DeadlineName = "connect" | "token" | "device";

export class Alarm {
  readonly #context: StorageContext;
  readonly #kept: Kept;
  readonly #look: () => void;
  readonly #deadlines = new Map<DeadlineName, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the platform's alarm is set; undefined if it is as the object found it. */
  #isSet: boolean | undefined;

  /**
   * @param look called at the earliest deadline, or sooner; it sets those that remain
   */
  constructor(context: StorageContext, kept: Kept, look: () => void) {
    this.#context = context;
    this.#kept = kept;
    this.#look = look;
  }

  /** @param at milliseconds since 1970; infinite for none */
  set(name: DeadlineName, at: number): void {
    if (at === Number.POSITIVE_INFINITY) this.#deadlines.delete(name);
    else this.#deadlines.set(name, at);
    this.#arm();
  }

  /** Sets a deadline unless there is one of this name. */
  ensureBy(name: DeadlineName, at: number): void {
    if (!this.#deadlines.has(name)) this.set(name, at);
  }

  isDue(name: DeadlineName): boolean {
    return Date.now() >= (this.#deadlines.get(name) ?? Number.POSITIVE_INFINITY);
  }

  /** Sets the platform's alarm if there is stored state and no alarm. Call after something has been stored. */
  ensure(): void {
    if (this.#kept.some && !(this.#isSet ?? this.#kept.foundSome)) this.#arm();
  }

  /** Call when the platform's alarm has fired. */
  fired(): void {
    this.#isSet = false;
    this.#look();
    this.ensure();
  }

  /** Forgets all deadlines, when the virtual connection ends. The platform's alarm goes with the storage (`Kept.clear`). */
  end(): void {
    this.#deadlines.clear();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const earliest = Math.min(...this.#deadlines.values());
    if (this.#kept.some) {
      const at = earliest === Number.POSITIVE_INFINITY ? Date.now() + LOST_LOOK : earliest;
      this.#isSet = true;
      this.#context.waitUntil(this.#context.storage.setAlarm(at));
    } else if (earliest !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(this.#look, Math.max(0, earliest - Date.now()));
    }
  }
}
