/**
 * The ladder: which way to the relay to try first, when to leave one that does not last, and when to try a better one
 * again. Pure: times and events go in, orders and deadlines come out. `race.ts` finds the way that works among those
 * that the ladder names.
 *
 * Ways are named by ids, listed best first by the caller, which asks for the list anew each time: a laptop has a proxy
 * at work and none at home.
 *
 * A way that is cut again and again within two minutes is put aside, longer each time. While a device uses any but the
 * best way, it tries the better ones in the background. One that was cut soon after its beginning must first stand as
 * long without being used, so a proxy that accepts WebSocket and cuts it after 20 s costs no more switches.
 *
 * @module
 */
import {
  ASIDE_FIRST,
  ASIDE_LAST,
  CUTS_ALLOWED,
  LADDER_WAYS,
  LASTING,
  PROBE_FIRST,
  PROBE_LAST,
  TRIAL_LONGEST,
} from "../limits.ts";

/** What is held against a way that was cut. */
interface Record {
  /** Cuts since it last stood for LASTING (2 min). */
  readonly cuts: number;
  /** How long it last stood, in milliseconds. */
  readonly stood: number;
  /** Until when it is put aside. */
  readonly until: number;
}

/** The ways for a race. */
export interface Order {
  /** Ids, in the order in which to try them. */
  readonly ids: readonly string[];
  /** Whether the first has worked in this network before. */
  readonly isFirstKnown: boolean;
}

/** A way to try in the background. */
export interface Probe {
  readonly id: string;
  /** How long it must stand before it is used, in milliseconds. */
  readonly trial: number;
}

export class Ladder {
  readonly #random: () => number;
  /** Ways that were cut, least recently first. */
  readonly #records = new Map<string, Record>();
  /** The last way that worked. */
  #known: string | undefined;
  #inUse: { readonly id: string; readonly since: number } | undefined;
  #probes = 0;
  #probeAt = Number.POSITIVE_INFINITY;

  /**
   * @param known the way that last worked in this network
   * @param random returns a number from 0 to 1, for jitter
   */
  constructor(known?: string, random: () => number = Math.random) {
    this.#known = known;
    this.#random = random;
  }

  /** When to try better ways; Infinity while no way is in use. */
  get probeAt(): number {
    return this.#probeAt;
  }

  /** In which order to race all ways: the one that last worked, then the best, and those that were put aside last. */
  order(ways: readonly string[], now: number): Order {
    const usable = ways.filter((id) => !this.#isAside(id, now));
    const aside = ways.filter((id) => this.#isAside(id, now));
    aside.sort((one, other) => this.#until(one) - this.#until(other));
    const known = usable.find((id) => id === this.#known);
    if (known === undefined) return { ids: [...usable, ...aside], isFirstKnown: false };
    return { ids: [known, ...usable.filter((id) => id !== known), ...aside], isFirstKnown: true };
  }

  /** The ways to try in the background now: those better than the one in use, but for those that were put aside. */
  probes(ways: readonly string[], now: number): Probe[] {
    const rank = ways.indexOf(this.#inUse?.id ?? "");
    // A way that is no longer listed belongs to settings that have changed, and any other is better.
    const better = rank < 0 ? ways : ways.slice(0, rank);
    return better.filter((id) => !this.#isAside(id, now)).map((id) => ({ id, trial: this.#trialOf(id) }));
  }

  /** A way works and is in use. */
  adopted(id: string, now: number): void {
    this.#inUse = { id, since: now };
    this.#known = id;
    this.#probes = 0;
    this.#schedule(now);
  }

  /** Better ways were tried without success, or there are none. */
  probed(now: number): void {
    if (this.#inUse === undefined) return;
    this.#probes += 1;
    this.#schedule(now);
  }

  /**
   * The way in use has ended.
   *
   * @param wasCut whether the way is to blame: neither this side nor the relay has ended it
   */
  ended(now: number, wasCut: boolean): void {
    const ended = this.#inUse;
    if (ended === undefined) return;
    this.#inUse = undefined;
    this.#probeAt = Number.POSITIVE_INFINITY;
    const stood = now - ended.since;
    const before = this.#records.get(ended.id);
    if (stood >= LASTING) this.#records.delete(ended.id);
    if (stood >= LASTING || !wasCut) return;
    const cuts = (before?.cuts ?? 0) + 1;
    const aside =
      cuts < CUTS_ALLOWED ? 0 : this.#jittered(Math.min(ASIDE_FIRST * 2 ** (cuts - CUTS_ALLOWED), ASIDE_LAST));
    this.#records.delete(ended.id);
    this.#records.set(ended.id, { cuts, stood, until: now + aside });
    const [oldest] = this.#records.keys();
    if (this.#records.size > LADDER_WAYS && oldest !== undefined) this.#records.delete(oldest);
  }

  /**
   * The device is in another network, or has slept: what it knew about the ways is out of date.
   *
   * @param known the way that last worked in this network
   */
  moved(known: string | undefined, now: number): void {
    this.#records.clear();
    this.#known = known;
    this.#probes = 0;
    if (this.#inUse !== undefined) this.#schedule(now);
  }

  /** The next attempt is also due when a way is no longer put aside. */
  #schedule(now: number): void {
    const pause = this.#jittered(Math.min(PROBE_FIRST * 2 ** this.#probes, PROBE_LAST));
    const aside = [...this.#records.values()].map(({ until }) => until).filter((until) => until > now);
    this.#probeAt = Math.min(now + pause, ...aside);
  }

  /** Half to all of a time, so that devices that met an obstacle together do not come back together. */
  #jittered(milliseconds: number): number {
    return milliseconds * (1 - this.#random() / 2);
  }

  #isAside(id: string, now: number): boolean {
    return now < this.#until(id);
  }

  #until(id: string): number {
    return this.#records.get(id)?.until ?? 0;
  }

  #trialOf(id: string): number {
    const stood = this.#records.get(id)?.stood ?? 0;
    // A way that stood longer than a trial may last would pass it anyway.
    return stood >= TRIAL_LONGEST ? 0 : Math.min(1.5 * stood, TRIAL_LONGEST);
  }
}
