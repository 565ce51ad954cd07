/**
 * Gate: the Worker's first contact with a Tunnel. To ask an object that is not there makes it, whatever it answers; so
 * GUIDs that this Worker does not know are asked for at a pace, each source by itself.
 *
 * - Who names many waits his turn, and whoever comes from elsewhere does not stand behind him.
 * - Who hits nothing again and again may try so often and no more: a GUID cannot be found by guessing.
 * - When the source has too many half-open virtual connections, the next are told so here.
 * - Whoever is turned away hears of it after a while: somebody who asks again at once costs others less of the Worker.
 *
 * It is memory of one Worker of many, and a first line: what must hold everywhere is counted by the Meter. Nobody here
 * waits for anybody else, only for the time: a request that is cut off leaves nothing behind that would have to be undone.
 *
 * @module
 */

import { type Bucket, bucket, charge, giveBack, levelOf, take, wait } from "../../lib/token-bucket.ts";
import type { Reason } from "../reasons.ts";
import {
  CONTACTS,
  CONTACTS_PATIENCE,
  CONTACTS_RATE,
  CROWDED_TIME,
  GATE_SOURCES,
  KNOWN_GUIDS,
  MISSES,
  MISSES_RATE,
  TURNED_PAUSE,
  TURNED_WAITING,
} from "./limits.ts";

/** What is known of a source. */
interface Source {
  /** First contacts that it may still make. */
  readonly contacts: Bucket;
  /** What it may still miss. */
  readonly misses: Bucket;
  /** How many may be kept waiting for their refusals. */
  readonly waiting: Bucket;
  /** Until when its new virtual connections are refused without asking. */
  crowdedUntil: number;
}

/** Why somebody is not let through, and in how many seconds another try may be worth it. */
export interface Turned {
  readonly reason: Extract<Reason, "TooManyHalfOpen" | "TooManyMisses">;
  readonly retryAfter: number;
}

/** What to make of an answer of a Tunnel. */
export interface Reading<T> {
  /** Why it refuses; undefined when the virtual connection lives. */
  reasonOf(answer: T): Reason | undefined;
  /** The answer to whoever is not let through. */
  turn(turned: Turned): T;
}

/** The time, for tests. */
export interface GateClock {
  now(): number;
  sleep(milliseconds: number): Promise<void>;
}

const REAL: GateClock = { now: Date.now, sleep: (milliseconds) => scheduler.wait(milliseconds) };

export class Gate {
  readonly #clock: GateClock;
  readonly #sources = new Map<string, Source>();
  /** GUIDs that are being asked for, or lived when they were last, and when the turn of each has come; oldest first. */
  readonly #known = new Map<string, number>();

  constructor(clock: GateClock = REAL) {
    this.#clock = clock;
  }

  /**
   * Asks a Tunnel something that may be the first that it hears.
   *
   * @param source as sourceOf tells it; what comes from nowhere known has no turn to take
   */
  async ask<T>(source: string, guid: string, call: () => Promise<T>, reading: Reading<T>): Promise<T> {
    if (source === "") return call();
    const of = this.#source(source);
    const turned = await this.#takeTurn(of, guid);
    if (turned !== undefined) {
      await this.#pause(of);
      return reading.turn(turned);
    }
    const answer = await call();
    this.#learn(of, guid, reading.reasonOf(answer));
    return answer;
  }

  /**
   * A source looks for something that may not be there: it counts as a miss until it is `found`, so that many at once are
   * no way around. Returns why it may not now, after a while; undefined when it may.
   */
  async look(source: string): Promise<Turned | undefined> {
    if (source === "") return undefined;
    const of = this.#source(source);
    const turned = this.#turned(of);
    if (turned === undefined) charge(of.misses, 1, this.#clock.now());
    else await this.#pause(of);
    return turned;
  }

  found(source: string): void {
    if (source !== "") giveBack(this.#source(source).misses, 1, this.#clock.now());
  }

  async #takeTurn(of: Source, guid: string): Promise<Turned | undefined> {
    const now = this.#clock.now();
    const turn = this.#known.get(guid) ?? this.#queue(of, guid, now);
    if (typeof turn !== "number") return turn;
    if (turn <= now) return undefined;
    await this.#clock.sleep(Math.min(turn - now, CONTACTS_PATIENCE));
    const turned = this.#turned(of);
    if (turned !== undefined) this.#known.delete(guid);
    return turned;
  }

  /** When the turn of a new GUID comes. It is known from now on: its other request, which often comes beside, has the same. */
  #queue(of: Source, guid: string, now: number): number | Turned {
    const turned = this.#turned(of);
    if (turned !== undefined) return turned;
    const waits = charge(of.contacts, 1, now);
    if (waits > CONTACTS_PATIENCE) {
      giveBack(of.contacts, 1, now);
      return { reason: "TooManyHalfOpen", retryAfter: Math.ceil(waits / 1000) };
    }
    this.#know(guid, now + waits);
    return now + waits;
  }

  /** Waits before a refusal. So many wait at a time and no more: they cost memory. */
  async #pause(of: Source): Promise<void> {
    if (take(of.waiting, 1, this.#clock.now())) await this.#clock.sleep(TURNED_PAUSE);
  }

  #turned(of: Source): Turned | undefined {
    const now = this.#clock.now();
    if (of.crowdedUntil > now) {
      return { reason: "TooManyHalfOpen", retryAfter: Math.ceil((of.crowdedUntil - now) / 1000) };
    }
    const missed = wait(of.misses, 1, now);
    return missed === 0 ? undefined : { reason: "TooManyMisses", retryAfter: Math.ceil(missed / 1000) };
  }

  #know(guid: string, turn: number): void {
    this.#known.set(guid, turn);
    const [oldest] = this.#known.keys();
    if (this.#known.size > KNOWN_GUIDS && oldest !== undefined) this.#known.delete(oldest);
  }

  #learn(of: Source, guid: string, reason: Reason | undefined): void {
    if (reason === undefined) return;
    this.#known.delete(guid);
    const now = this.#clock.now();
    if (reason === "TooManyHalfOpen") of.crowdedUntil = now + CROWDED_TIME;
    // A virtual connection that has ended is asked for once more by each device that has not heard of it: that hits
    // something. Several may have been on their way: what they missed beyond what was there is owed.
    else if (reason === "UnknownConnection") charge(of.misses, 1, now);
  }

  #source(name: string): Source {
    const known = this.#sources.get(name);
    if (known !== undefined) return known;
    if (this.#sources.size >= GATE_SOURCES) this.#tidy();
    const now = this.#clock.now();
    const source: Source = {
      contacts: bucket(CONTACTS_RATE, CONTACTS, now),
      misses: bucket(MISSES_RATE, MISSES, now),
      waiting: bucket(TURNED_WAITING, TURNED_WAITING, now),
      crowdedUntil: 0,
    };
    this.#sources.set(name, source);
    return source;
  }

  /** Forgets sources of which there is nothing to remember; if there are none, those that have been known for longest. */
  #tidy(): void {
    const now = this.#clock.now();
    for (const [name, { contacts, misses, crowdedUntil }] of this.#sources) {
      const full = levelOf(contacts, now) >= CONTACTS && levelOf(misses, now) >= MISSES;
      if (full && crowdedUntil <= now) this.#sources.delete(name);
    }
    for (const name of this.#sources.keys()) {
      if (this.#sources.size < GATE_SOURCES) return;
      this.#sources.delete(name);
    }
  }
}

/** That of this Worker. */
export const gate = new Gate();
