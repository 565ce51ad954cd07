/** Waits for expected events, without guessing how long they take. */
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "./sockets.ts";

/** Lets tests wait for a condition that is checked after every change. */
export class Watch {
  #wake: (() => void)[] = [];

  /** Called after a change. */
  changed(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }

  /** Resolves with what `look` returns, once that is neither undefined nor false; fails after `patience` ms. */
  async until<T>(look: () => T | undefined | false, what: string, patience = PATIENCE): Promise<T> {
    const limit = performance.now() + patience;
    for (;;) {
      const found = look();
      if (found !== undefined && found !== false) return found;
      const left = limit - performance.now();
      if (left <= 0) throw new Error(`waited in vain for ${what}`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
  }
}

/** The result of a promise, or an error that names what was awaited. */
export async function soon<T>(promise: Promise<T>, what: string, patience = PATIENCE): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls a condition that reports no changes. */
export async function eventually<T>(look: () => T | undefined | false, what: string, patience = PATIENCE): Promise<T> {
  const watch = new Watch();
  const ticking = setInterval(() => watch.changed(), 5);
  try {
    return await watch.until(look, what, patience);
  } finally {
    clearInterval(ticking);
  }
}

/** Pause before `until` looks again, in milliseconds; but from ten seconds on it may be a twentieth of the time waited. */
const LOOK_AGAIN = { soonest: 20, latest: 500 };

/**
 * Waits until a condition holds. Looks again after a tenth of the time waited so far, and after a third if that is a call
 * to an object of the edge: many calls would take the processor from what is waited for.
 */
export async function until(what: string, holds: () => boolean | Promise<boolean>, patience = PATIENCE): Promise<void> {
  const begin = Date.now();
  for (;;) {
    const looked = holds();
    if (await looked) return;
    const waited = Date.now() - begin;
    if (waited > patience) throw new Error(`in vain: ${what}`);
    const share = typeof looked === "boolean" ? 10 : 3;
    await sleep(Math.min(Math.max(LOOK_AGAIN.soonest, waited / share), Math.max(LOOK_AGAIN.latest, waited / 20)));
  }
}

/** Seeded random numbers: a failure that depends on them can be reproduced. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000;
  };
}

/** Octets that reveal their position: no two places of a body look alike for long. */
export function pattern(length: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}
