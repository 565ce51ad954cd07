/**
 * Alarms by name, and when the next one is due. Pure.
 *
 * They are kept by the second in which they are due, so that ten thousand of them cost the finding of the next one no
 * more than the seconds that have any.
 *
 * @module
 */

/** Alarms are due within this many milliseconds of each other at once: no deadline of a connection is finer than a second. */
const STEP = 1000;

/** A look that is this late, in milliseconds, was lost with the object that would have made it. */
const LOST = 5000;

export class Alarms {
  readonly #times = new Map<string, number>();
  /** Names by step. */
  readonly #due = new Map<number, Set<string>>();
  /** When somebody looks next. */
  #lookAt = Number.POSITIVE_INFINITY;

  /** When an alarm is due, in milliseconds since 1970. */
  of(name: string): number | undefined {
    return this.#times.get(name);
  }

  /** Sets an alarm. Returns whether somebody must look sooner than was planned. */
  set(name: string, at: number, now: number): boolean {
    this.delete(name);
    this.#times.set(name, at);
    const step = stepOf(at);
    const names = this.#due.get(step) ?? new Set();
    this.#due.set(step, names.add(name));
    return this.#lookAt > step * STEP || this.#lookAt + LOST < now;
  }

  delete(name: string): void {
    const at = this.#times.get(name);
    if (at === undefined) return;
    this.#times.delete(name);
    const names = this.#due.get(stepOf(at));
    names?.delete(name);
    if (names?.size === 0) this.#due.delete(stepOf(at));
  }

  /** Takes off the alarms that are due. */
  take(now: number): string[] {
    const steps = [...this.#due.keys()].filter((step) => step * STEP <= now);
    const names = steps.flatMap((step) => [...(this.#due.get(step) ?? [])]);
    for (const step of steps) this.#due.delete(step);
    for (const name of names) this.#times.delete(name);
    return names;
  }

  /**
   * Plans the next look.
   *
   * @param most the longest time until it, in milliseconds
   * @returns the time until it; undefined if there is no alarm
   */
  plan(now: number, most: number): number | undefined {
    let first = Number.POSITIVE_INFINITY;
    for (const step of this.#due.keys()) first = Math.min(first, step);
    const next = first * STEP;
    if (next === Number.POSITIVE_INFINITY) {
      this.#lookAt = next;
      return undefined;
    }
    const wait = Math.min(Math.max(0, next - now), most);
    this.#lookAt = now + wait;
    return wait;
  }
}

/** The step at whose beginning an alarm is rung: none is rung early. */
function stepOf(at: number): number {
  return Math.ceil(at / STEP);
}
