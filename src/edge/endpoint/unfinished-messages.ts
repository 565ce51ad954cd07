/**
 * Bytes of partly received messages, in the memory of the isolate. A connection may hold two of the longest messages,
 * and a principal may have hundreds of connections, so all connections of a principal share that limit: above it, only
 * the one that began first is read, and the second if the first has stalled. It can finish, so the others go on after
 * it. Other principals notice nothing.
 *
 * A connection of another object may not be woken from here. It asks again after {@link UNFINISHED_PAUSE}.
 *
 * @module
 */
import { UNFINISHED_OCTETS, UNFINISHED_SMALL, UNFINISHED_STALL } from "./limits.ts";

/** What one connection holds. */
export class UnfinishedShare {
  readonly #pool: UnfinishedPool;
  #owner = "";
  #octets = 0;

  constructor(pool: UnfinishedPool) {
    this.#pool = pool;
  }

  get octets(): number {
    return this.#octets;
  }

  /** Sets whose connection it is. */
  belongsTo(owner: string): void {
    const octets = this.#octets;
    this.add(-octets);
    this.#owner = owner;
    this.add(octets);
  }

  add(octets: number): void {
    if (octets === 0) return;
    const before = this.#octets;
    this.#octets += octets;
    if (before === 0 || this.#octets === 0) this.#pool.changed(this, this.#owner);
  }

  /** Whether the connection should not be read for now. */
  mustWait(now: number): boolean {
    return this.#octets > UNFINISHED_SMALL && this.#pool.isBehind(this, this.#owner, now);
  }
}

interface Owner {
  /** The shares that are not empty, in order of their beginning. */
  readonly shares: Set<UnfinishedShare>;
  /** The size of the first at the last look of another, and since when it has that size. */
  first?: { readonly share: UnfinishedShare; readonly octets: number; readonly since: number };
}

export class UnfinishedPool {
  readonly #owners = new Map<string, Owner>();
  /** Eviction calls no handler, so what an object holds is released when the object is collected. */
  readonly #evicted = new FinalizationRegistry((share: UnfinishedShare) => share.add(-share.octets));

  /** Begins a share, which ends when its connection is collected. */
  join(connection: object): UnfinishedShare {
    const share = new UnfinishedShare(this);
    this.#evicted.register(connection, share);
    return share;
  }

  /** Number of owners that hold anything. */
  get size(): number {
    return this.#owners.size;
  }

  /** A share has become empty, or is not empty any more. */
  changed(share: UnfinishedShare, owner: string): void {
    const one = this.#owners.get(owner) ?? { shares: new Set() };
    if (share.octets > 0) this.#owners.set(owner, one);
    if (share.octets > 0) one.shares.add(share);
    else one.shares.delete(share);
    if (one.shares.size === 0) this.#owners.delete(owner);
  }

  /** Whether an owner holds too much, and another connection of it may go on instead of this one. */
  isBehind(share: UnfinishedShare, owner: string, now: number): boolean {
    const one = this.#owners.get(owner);
    if (one === undefined) return false;
    const [first, second] = one.shares;
    if (first === undefined || first === share) return false;
    let octets = 0;
    for (const other of one.shares) octets += other.octets;
    if (octets <= UNFINISHED_OCTETS) return false;
    if (one.first?.share !== first || one.first.octets !== first.octets) {
      one.first = { share: first, octets: first.octets, since: now };
    }
    return share !== second || now - one.first.since < UNFINISHED_STALL;
  }
}

/** All connections of this isolate. */
export const unfinished = new UnfinishedPool();
