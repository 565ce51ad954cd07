/**
 * How long a mailbox of an identity waits for its consumer while other devices of the identity are attached: until it has
 * shown no sign of life for a while, or has kept messages for long without acknowledging any. Pure; the mailbox's alarm
 * asks, so no timer outlives the work.
 *
 * @module
 */
import { BENCH_TIME, SIGN_OF_LIFE } from "./defaults.ts";

/** Since when the consumer of a generation has had messages without acknowledging any. */
export interface Held {
  readonly generation: number;
  readonly since: number;
}

/** Why another consumer is asked. */
export type Impatience = "NoSignOfLife" | "NotAcknowledged";

/** A consumer that others were asked instead of, and until when it is not asked instead of them. */
type Benched = readonly [tunnel: string, until: number];

export class Patience {
  readonly #acknowledgeTime: number;
  #held: Held | undefined;
  /** As it was written down last: when that is recent it is not written again. */
  #written: Held | undefined;
  #benched: readonly Benched[];

  constructor(acknowledgeTime: number, held: Held | undefined, benched: readonly Benched[] = []) {
    this.#acknowledgeTime = acknowledgeTime;
    this.#held = held;
    this.#written = held;
    this.#benched = benched;
  }

  get held(): Held | undefined {
    return this.#held;
  }

  get benched(): readonly Benched[] {
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

  /** When `impatience` is worth asking again. */
  due(now: number): number {
    const since = this.#held?.since ?? now;
    return Math.max(now, Math.min(now + SIGN_OF_LIFE, since + this.#acknowledgeTime));
  }

  /** Others are asked instead of a consumer. It does not get the mailbox back from them at once. */
  bench(tunnel: string, now: number): void {
    const others = this.#benched.filter(([other, until]) => other !== tunnel && until > now);
    this.#benched = [...others, [tunnel, now + BENCH_TIME]];
  }

  isBenched(tunnel: string, now: number): boolean {
    return this.#benched.some(([other, until]) => other === tunnel && until > now);
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
