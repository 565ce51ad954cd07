/**
 * How long a mailbox of an identity waits for its consumer while other devices of the identity are attached: until it has
 * shown no sign of life for a while, or has kept messages for long without acknowledging any. Pure; an alarm or a timer
 * of the mailbox asks, so none outlives the work.
 *
 * @module
 */

/**
 * While another device of its identity waits, a consumer that has messages and has shown no sign of life for so long is
 * not waited for: our devices show three times as often that they are there while they have some.
 */
export const SIGN_OF_LIFE = 15_000;

/** How long a consumer that others were asked instead of is not asked instead of them. */
export const BENCH_TIME = 10 * 60_000;

/** Since when the consumer of a generation has had messages without acknowledging any. */
export interface Held {
  readonly generation: number;
  readonly since: number;
}

/** Why another consumer is asked. */
export type Impatience = "NoSignOfLife" | "NotAcknowledged";

/** A consumer that others were asked instead of, and until when it is not asked instead of them. */
type Benched<Who> = readonly [who: Who, until: number];

/** @typeParam Who what a consumer is known by */
export class Patience<Who = string> {
  readonly #acknowledgeTime: number;
  #held: Held | undefined;
  /** As it was written down last: when that is recent it is not written again. */
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

  /** The consumer has messages, or is about to. True when this is to be written down. */
  begin(generation: number, now: number): boolean {
    if (this.#held?.generation !== generation) this.#held = { generation, since: now };
    return this.#unwritten();
  }

  /** The consumer has acknowledged something. True when this is to be written down. */
  acknowledged(generation: number, now: number, hasMore: boolean): boolean {
    if (this.#held === undefined) return false;
    this.#held = hasMore ? { generation, since: now } : undefined;
    return this.#unwritten();
  }

  /** Nobody waits for the consumer. True when this is to be written down. */
  end(): boolean {
    this.#held = undefined;
    return this.#unwritten();
  }

  /**
   * Why another is asked now; undefined when the consumer is waited for.
   *
   * @param lastSign when the device showed last that it is there; undefined when nobody can say
   */
  impatience(now: number, lastSign: number | undefined): Impatience | undefined {
    if (this.#held === undefined) return undefined;
    const { since } = this.#held;
    if (now - Math.max(since, lastSign ?? 0) >= SIGN_OF_LIFE) return "NoSignOfLife";
    return now - since >= this.#acknowledgeTime ? "NotAcknowledged" : undefined;
  }

  /** When `impatience` is worth asking again. One whose time is over, and instead of whom nobody came, is no hurry. */
  due(now: number): number {
    const end = (this.#held?.since ?? now) + this.#acknowledgeTime;
    return end > now ? Math.min(now + SIGN_OF_LIFE, end) : now + SIGN_OF_LIFE;
  }

  /** Others are asked instead of a consumer. It does not get the mailbox back from them at once. */
  bench(who: Who, now: number): void {
    const others = this.#benched.filter(([other, until]) => other !== who && until > now);
    this.#benched = [...others, [who, now + BENCH_TIME]];
  }

  isBenched(who: Who, now: number): boolean {
    return this.#benched.some(([other, until]) => other === who && until > now);
  }

  /** An acknowledgement moves the beginning of the time; one that is a little older on disk does no harm. */
  #unwritten(): boolean {
    const [held, written] = [this.#held, this.#written];
    if (held?.generation === written?.generation && (held?.since ?? 0) - (written?.since ?? 0) < SIGN_OF_LIFE) {
      return false;
    }
    this.#written = held;
    return true;
  }
}
