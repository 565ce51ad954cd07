/** Waits for expected events, without guessing how long they take. */
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
