/**
 * Gate: paces the Worker's first contacts with Tunnels, per source; who has shown a token is a source of its own. Any call
 * to a Durable Object creates it, even a call that it refuses, so GUIDs that this Worker does not know are rate-limited, and
 * refused while the edge's machine has few open files left, or a disk that takes no writes.
 *
 * - A source that names many GUIDs waits in its own queue; other sources do not wait for it.
 * - Misses are limited, so that a GUID cannot be found by guessing.
 * - While a source has too many half-open virtual connections, new ones are refused here.
 * - A refusal is delayed, so that a client which retries at once costs the Worker less.
 *
 * This is a first line, in the memory of one Worker of many; limits that must hold everywhere are the Meter's. Requests
 * here wait only for the time, never for each other, so an aborted request leaves nothing to undo.
 *
 * @module
 */

import type { Principal } from "../../auth/principal.ts";
import { type Bucket, bucket, charge, giveBack, levelOf, take, wait } from "../../lib/token-bucket.ts";
import { storageProblem } from "../disk-full.ts";
import { areFilesShort } from "../open-files.ts";
import type { Reason } from "../reasons.ts";
import {
  CONTACTS,
  CONTACTS_PATIENCE,
  CONTACTS_RATE,
  CROWDED_TIME,
  GATE_SOURCES,
  KNOWN_GUIDS,
  MACHINE_RETRY,
  MISSES,
  MISSES_RATE,
  TOKEN_CONTACTS,
  TOKEN_CONTACTS_RATE,
  TURNED_PAUSE,
  TURNED_WAITING,
} from "./limits.ts";

/** State of a source. */
interface Source {
  /** First contacts that are left. */
  readonly contacts: Bucket;
  /** Misses that are left. */
  readonly misses: Bucket;
  /** Refusals that may still be delayed. */
  readonly waiting: Bucket;
  /** Until when new virtual connections are refused without asking a Tunnel. */
  crowdedUntil: number;
}

/** What the machine lacks for another device. */
type MachineLack = Extract<Reason, "TooManyOpenFiles" | "StorageFailed">;

function machineLacks(): MachineLack | undefined {
  if (storageProblem() === "StorageFailed") return "StorageFailed";
  return areFilesShort() ? "TooManyOpenFiles" : undefined;
}

/** A refusal of the gate, and in how many seconds another try may succeed. */
export interface Turned {
  readonly reason: Extract<Reason, "TooManyHalfOpen" | "TooManyMisses" | "TooManyLookups" | MachineLack>;
  readonly retryAfter: number;
}

/** How to read a Tunnel's answers, and how to make one of a refusal. */
export interface Reading<T> {
  /** The reason of a refusal; undefined if the virtual connection exists. */
  reasonOf(answer: T): Reason | undefined;
  /** The answer for a request that the gate refuses. */
  turn(turned: Turned): T;
}

/** The clock, replaceable by tests. */
export interface GateClock {
  now(): number;
  sleep(milliseconds: number): Promise<void>;
}

const REAL: GateClock = { now: Date.now, sleep: (milliseconds) => scheduler.wait(milliseconds) };

/** Begins the sources that are tokens; no address does. */
const TOKEN = "token:";

/** The source that a token is. */
export function tokenSource({ id }: Principal): string {
  return TOKEN + id;
}

export class Gate {
  readonly #clock: GateClock;
  readonly #sources = new Map<string, Source>();
  /** GUIDs that are being asked for, or that existed when last asked, and when each one's turn comes; oldest first. */
  readonly #known = new Map<string, number>();

  /** First contacts that are left for all tokens. */
  readonly #tokens: Bucket;

  constructor(clock: GateClock = REAL) {
    this.#clock = clock;
    this.#tokens = bucket(TOKEN_CONTACTS_RATE, TOKEN_CONTACTS, clock.now());
  }

  /**
   * Makes a call that may be a first contact with a Tunnel.
   *
   * @param source the source, as `sourceOf` returns it, or a token, as `tokenSource` does; "" is unknown and passes at once
   */
  async ask<T>(source: string, guid: string, call: () => Promise<T>, reading: Reading<T>): Promise<T> {
    if (source === "") return call();
    const of = this.#source(source);
    const turned = await this.#takeTurn(of, guid, source.startsWith(TOKEN));
    if (turned !== undefined) {
      await this.#pause(of);
      return reading.turn(turned);
    }
    const answer = await call();
    this.#learn(of, guid, reading.reasonOf(answer));
    return answer;
  }

  /**
   * Admits a look-up of something that may not exist, other than a virtual connection. It counts as a miss until `found`
   * is called, so that look-ups in parallel cannot get around the limit. Half-open virtual connections do not matter to
   * it: who reads a stream has nothing to do with them.
   *
   * @returns why the look-up is refused, after a delay; undefined if it is admitted
   */
  async look(source: string): Promise<Turned | undefined> {
    if (source === "") return undefined;
    const of = this.#source(source);
    const now = this.#clock.now();
    const missed = wait(of.misses, 1, now);
    if (missed === 0) {
      charge(of.misses, 1, now);
      return undefined;
    }
    await this.#pause(of);
    return { reason: "TooManyLookups", retryAfter: Math.ceil(missed / 1000) };
  }

  found(source: string): void {
    if (source !== "") giveBack(this.#source(source).misses, 1, this.#clock.now());
  }

  async #takeTurn(of: Source, guid: string, isToken: boolean): Promise<Turned | undefined> {
    const now = this.#clock.now();
    const turn = this.#known.get(guid) ?? this.#queue(of, guid, now, isToken);
    if (typeof turn !== "number") return turn;
    // No turn is further off, unless the clock was set back.
    if (turn <= now || turn - now > CONTACTS_PATIENCE) return undefined;
    await this.#clock.sleep(turn - now);
    const turned = this.#turned(of);
    if (turned !== undefined) this.#known.delete(guid);
    return turned;
  }

  /**
   * Gives a new GUID its turn. The GUID is known from now on, so its other request, often in parallel, has the same
   * turn.
   */
  #queue(of: Source, guid: string, now: number, isToken: boolean): number | Turned {
    const lack = machineLacks();
    if (lack !== undefined) return { reason: lack, retryAfter: MACHINE_RETRY };
    const turned = this.#turned(of);
    if (turned !== undefined) return turned;
    const paces = isToken ? [of.contacts, this.#tokens] : [of.contacts];
    const waits = Math.max(...paces.map((pace) => charge(pace, 1, now)));
    if (waits > CONTACTS_PATIENCE) {
      for (const pace of paces) giveBack(pace, 1, now);
      return { reason: "TooManyHalfOpen", retryAfter: Math.ceil(waits / 1000) };
    }
    this.#know(guid, now + waits);
    return now + waits;
  }

  /** Delays a refusal. The number of delayed requests is limited, because each costs memory. */
  async #pause(of: Source): Promise<void> {
    if (take(of.waiting, 1, this.#clock.now())) await this.#clock.sleep(TURNED_PAUSE);
  }

  #turned(of: Source): Turned | undefined {
    const now = this.#clock.now();
    const crowded = of.crowdedUntil - now;
    if (crowded > 0 && crowded <= CROWDED_TIME) {
      return { reason: "TooManyHalfOpen", retryAfter: Math.ceil(crowded / 1000) };
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
    // Only UnknownConnection is a miss: a device may ask for a virtual connection that has just ended. Requests in
    // parallel may miss more often than is left; the bucket then goes below zero.
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

  /** Forgets sources with full buckets; if that is not enough, the oldest. */
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

/** The gate of this Worker. */
export const gate = new Gate();
