/**
 * Detects a proxy or firewall that cuts connections on which nothing has passed for a while, so that heartbeats can come
 * sooner. Pure.
 *
 * One cut may be an accident: an edge that is restarted cuts idle connections too. Two after the same time are none.
 *
 * @module
 */
import { LONGEST_HOLD } from "../../encapsulation/index.ts";
import { IDLE_CUT_LEAST, IDLE_CUT_MOST, IDLE_CUT_SPREAD } from "../limits.ts";

export class IdleCuts {
  #limit: number;
  /** After which idle time the last connection was cut, in milliseconds. */
  #last: number | undefined;

  /** @param limit what is known of this network; undefined for nothing */
  constructor(limit: number | undefined) {
    this.#limit = limit === undefined || !(limit >= IDLE_CUT_LEAST) ? Number.POSITIVE_INFINITY : limit;
  }

  /** After how many milliseconds idle connections are cut; Infinity for never. */
  get limit(): number {
    return this.#limit;
  }

  /**
   * A connection was cut.
   *
   * @param idle for how many milliseconds nothing had passed
   * @returns whether that has lowered the limit
   */
  cut(idle: number): boolean {
    if (idle < IDLE_CUT_LEAST || idle > IDLE_CUT_MOST) return false;
    const last = this.#last;
    this.#last = idle;
    if (last === undefined || Math.abs(last - idle) > IDLE_CUT_SPREAD) return false;
    const limit = Math.min(last, idle);
    if (limit >= this.#limit) return false;
    this.#limit = limit;
    return true;
  }
}

/**
 * For how many seconds a server may hold a request; undefined if nothing is known.
 *
 * @param limit after how many milliseconds idle connections are cut; undefined for never
 * @param known the longest hold that the way lets through, in seconds
 */
export function holdFor(limit: number | undefined, known = LONGEST_HOLD): number | undefined {
  if (limit === undefined) return known < LONGEST_HOLD ? known : undefined;
  return Math.min(known, Math.max(1, Math.floor(limit / 2000)));
}

/** An interval of heartbeats that keeps a connection where idle ones are cut after `limit`: half of that, or less. */
export function keptAlive(interval: number, limit = Number.POSITIVE_INFINITY): number {
  return Math.min(interval, limit / 2);
}
