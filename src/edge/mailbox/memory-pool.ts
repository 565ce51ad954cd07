/**
 * Memory that the objects of an isolate share, beyond what each may always use. One of them gets at most half of what is
 * free, so those who keep theirs leave some for the next.
 *
 * @module
 */

/** What one object has, in bytes. */
export interface MemoryShare {
  octets: number;
}

export class MemoryPool {
  #free: number;
  /** Eviction calls no handler, so what an object has returns to the pool when the object is collected. */
  readonly #evicted = new FinalizationRegistry((share: MemoryShare) => this.resize(share, 0));

  constructor(octets: number) {
    this.#free = octets;
  }

  /** Bytes that nobody has. Negative if somebody has taken more than was allowed. */
  get free(): number {
    return this.#free;
  }

  /** Begins a share, which ends when its owner is collected. */
  join(owner: object): MemoryShare {
    const share = { octets: 0 };
    this.#evicted.register(owner, share);
    return share;
  }

  /** How large a share may become, in bytes. */
  allowed({ octets }: MemoryShare): number {
    return octets + Math.max(0, this.#free) / 2;
  }

  resize(share: MemoryShare, octets: number): void {
    this.#free -= octets - share.octets;
    share.octets = octets;
  }
}
