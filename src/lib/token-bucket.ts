/**
 * A token bucket: a rate per second, and a burst up to its capacity. Plain data and functions that take the time in
 * milliseconds. If the clock goes back, only the refill of that period is lost.
 *
 * @module
 */

export interface Bucket {
  /** Units added per second. */
  readonly rate: number;
  /** Capacity. */
  readonly burst: number;
  /** Units available at time `at`; negative if more was charged than available. */
  level: number;
  at: number;
}

/** Creates a full bucket. */
export function bucket(rate: number, burst: number, now: number): Bucket {
  return { rate, burst, level: burst, at: now };
}

/** Refills the bucket and returns its level. */
export function levelOf(of: Bucket, now: number): number {
  const came = (Math.max(0, now - of.at) / 1000) * of.rate;
  of.level = Math.min(of.burst, of.level + came);
  of.at = now;
  return of.level;
}

/** Takes an amount if available, all or nothing. */
export function take(of: Bucket, amount: number, now: number): boolean {
  if (levelOf(of, now) < amount) return false;
  of.level -= amount;
  return true;
}

/** Takes an amount even if not available. Returns how many milliseconds the caller must wait for it. */
export function charge(of: Bucket, amount: number, now: number): number {
  of.level = levelOf(of, now) - amount;
  return of.level >= 0 ? 0 : Math.ceil((-of.level / of.rate) * 1000);
}

/** Returns unused units, up to the capacity. */
export function giveBack(to: Bucket, amount: number, now: number): void {
  to.level = Math.min(to.burst, levelOf(to, now) + amount);
}

/** Returns the milliseconds until an amount is available, if nothing else is taken; Infinity above `burst`. */
export function wait(of: Bucket, amount: number, now: number): number {
  const missing = amount - levelOf(of, now);
  if (missing <= 0) return 0;
  return amount > of.burst ? Number.POSITIVE_INFINITY : Math.ceil((missing / of.rate) * 1000);
}
