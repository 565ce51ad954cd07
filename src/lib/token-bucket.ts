/**
 * A token bucket: so much a second, and as much at once as the bucket holds. Plain data and functions that are told the
 * time, in milliseconds. A clock that goes back costs what would have come in meanwhile, and nothing else.
 *
 * @module
 */

export interface Bucket {
  /** What comes in, a second. */
  readonly rate: number;
  /** The most that it holds. */
  readonly burst: number;
  /** What was in it at that time; below nothing when more was taken than there was. */
  level: number;
  at: number;
}

/** A full bucket. */
export function bucket(rate: number, burst: number, now: number): Bucket {
  return { rate, burst, level: burst, at: now };
}

/** What is in it now. */
export function levelOf(of: Bucket, now: number): number {
  const came = (Math.max(0, now - of.at) / 1000) * of.rate;
  of.level = Math.min(of.burst, of.level + came);
  of.at = now;
  return of.level;
}

/** Takes an amount if it is there, all or nothing. */
export function take(of: Bucket, amount: number, now: number): boolean {
  if (levelOf(of, now) < amount) return false;
  of.level -= amount;
  return true;
}

/** Takes an amount whether it is there or not. Returns for how many milliseconds whoever takes it has to wait for it. */
export function charge(of: Bucket, amount: number, now: number): number {
  of.level = levelOf(of, now) - amount;
  return of.level >= 0 ? 0 : Math.ceil((-of.level / of.rate) * 1000);
}

/** Gives back what was taken and not used, as far as it holds it. */
export function giveBack(to: Bucket, amount: number, now: number): void {
  to.level = Math.min(to.burst, levelOf(to, now) + amount);
}

/** In how many milliseconds an amount will be there, when nobody takes anything. An amount beyond `burst` never is. */
export function wait(of: Bucket, amount: number, now: number): number {
  const missing = amount - levelOf(of, now);
  if (missing <= 0) return 0;
  return amount > of.burst ? Number.POSITIVE_INFINITY : Math.ceil((missing / of.rate) * 1000);
}
