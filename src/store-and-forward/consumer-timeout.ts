/**
 * How long a mailbox of an identity waits for its consumer while other devices of the identity are attached: until the
 * consumer has shown no sign of life for a while, or has kept messages too long without acknowledging any. Pure; an
 * alarm or a timer of the mailbox polls it, so no timer outlives the work.
 *
 * @module
 */

/**
 * While another device of its identity waits, a consumer with messages is given up after this long without a sign of
 * life. Our devices send one three times as often while they have messages.
 */
export const SIGN_OF_LIFE = 15_000;

/** How long a replaced consumer is not asked to replace another. */
export const BENCH_TIME = 10 * 60_000;

/** Since when the consumer of a generation has had messages without acknowledging any. */
export interface Held {
  readonly generation: number;
  readonly since: number;
}

/** Why another consumer is asked. */
export type Impatience = "NoSignOfLife" | "NotAcknowledged";

/** A replaced consumer, and until when it is not asked to replace another. */
type Benched<Who> = readonly [who: Who, until: number];

/** @typeParam Who identifies a consumer */
export class Patience<Who = string> {
  readonly #acknowledgeTime: number;
  #held: Held | undefined;
  /** The last sign of life that the consumer was judged by; undefined if none is known. */
  #lastSign: number | undefined;
  /** As last stored. It is not stored again if that was recent. */
  #written: Held | undefined;
  #benched: readonly Benched<Who>[];

  constructor(acknowledgeTime: number, held: Held | undefined, benched: readonly Benched<Who>[] = []) {
    this.#acknowledgeTime = acknowledgeTime;
    this.#held = held;
    this.#written = held;
    this.#benched = benched;
  }

  get held(): Held | undefined {
    return this.#held;
  }

  get benched(): readonly Benched<Who>[] {
    return this.#benched;
  }

  /** The consumer has messages, or is about to. Returns true if the state must be stored. */
  begin(generation: number, now: number): boolean {
    // The clock may have been set back.
    if (this.#held?.generation !== generation || this.#held.since > now) {
      this.#held = { generation, since: now };
      this.#lastSign = undefined;
    }
    return this.#unwritten();
  }

  /** The consumer has acknowledged something. Returns true if the state must be stored. */
  acknowledged(generation: number, now: number, hasMore: boolean): boolean {
    if (this.#held === undefined) return false;
    this.#held = hasMore ? { generation, since: now } : undefined;
    return this.#unwritten();
  }

  /** No other device waits for the consumer. Returns true if the state must be stored. */
  end(): boolean {
    this.#held = undefined;
    return this.#unwritten();
  }

  /**
   * Returns why another consumer must be asked now; undefined while the current one still has time.
   *
   * @param lastSign time of the device's last sign of life; undefined if unknown
   */
  impatience(now: number, lastSign: number | undefined): Impatience | undefined {
    this.#lastSign = lastSign;
    if (this.#held === undefined) return undefined;
    const { since } = this.#held;
    if (now - Math.max(since, lastSign ?? 0) >= SIGN_OF_LIFE) return "NoSignOfLife";
    return now - since >= this.#acknowledgeTime ? "NotAcknowledged" : undefined;
  }

  /**
   * When to call `impatience` again: as soon as the consumer can have been silent, or have held messages, for too long.
   * Once that time is over and no other consumer came, there is no hurry.
   */
  due(now: number): number {
    const since = this.#held?.since ?? now;
    const silent = Math.max(since, this.#lastSign ?? 0) + SIGN_OF_LIFE;
    const next = silent > now ? silent : now + SIGN_OF_LIFE;
    const end = since + this.#acknowledgeTime;
    return end > now ? Math.min(next, end) : next;
  }

  /** Benches a replaced consumer, so that it does not get the mailbox back at once. */
  bench(who: Who, now: number): void {
    const others = this.#benched.filter(([other, until]) => other !== who && until > now);
    this.#benched = [...others, [who, now + BENCH_TIME]];
  }

  isBenched(who: Who, now: number): boolean {
    return this.#benched.some(([other, until]) => other === who && until > now && until - now <= BENCH_TIME);
  }

  /**
   * Whether the state must be stored. An acknowledgement moves the start time; a slightly older one on disk is
   * harmless.
   */
  #unwritten(): boolean {
    const [held, written] = [this.#held, this.#written];
    const moved = (held?.since ?? 0) - (written?.since ?? 0);
    if (held?.generation === written?.generation && moved >= 0 && moved < SIGN_OF_LIFE) return false;
    this.#written = held;
    return true;
  }
}
