/**
 * Remembers the most recent message ids per sender, to detect messages that a relay sends again, in bounded memory. A
 * busy sender evicts only its own ids.
 *
 * @module
 */

/**
 * Total bytes of remembered ids, to drop messages resent after a reconnect: a few hundred thousand ids. A relay resends
 * only what was not acknowledged, which is far less.
 */
const REMEMBERED_OCTETS = 16 * 1024 * 1024;

/** Bytes per identity or other relay: thirty thousand ids, many times what a mailbox has in flight. */
export const REMEMBERED_OF_SOURCE = 4 * 1024 * 1024;

/** Bytes guaranteed to each source while there are at most a thousand of them: a hundred ids. */
const REMEMBERED_SHARE = 16 * 1024;

/** Overhead of a remembered id, in bytes, besides its characters. */
const COST = 64;

/** Evicted entries are kept in the array until there are this many, and as many as those that are left. */
const SLACK = 64;

/** Ids of one source. Finding the oldest entry of a Set takes time proportional to the number of deleted ones. */
class Source {
  readonly #known = new Set<string>();
  /** The same ids, oldest first from `#head` on. */
  #order: string[] = [];
  #head = 0;
  octets = 0;

  has(text: string): boolean {
    return this.#known.has(text);
  }

  add(text: string): void {
    this.#known.add(text);
    this.#order.push(text);
    this.octets += text.length + COST;
  }

  /** Evicts the oldest ids until at most `octets` bytes are left. */
  cut(octets: number): void {
    while (this.octets > octets) {
      const oldest = this.#order[this.#head];
      if (oldest === undefined) return;
      this.#head += 1;
      this.#known.delete(oldest);
      this.octets -= oldest.length + COST;
    }
    if (this.#head < SLACK || this.#head < this.#known.size) return;
    this.#order = this.#order.slice(this.#head);
    this.#head = 0;
  }
}

export class RecentSet {
  /** Least recently used first. */
  readonly #sources = new Map<string, Source>();
  #octets = 0;

  has(source: string, text: string): boolean {
    return this.#sources.get(source)?.has(text) === true;
  }

  add(source: string, text: string): void {
    const known = this.#sources.get(source) ?? new Source();
    if (known.has(text)) return;
    this.#sources.delete(source);
    this.#sources.set(source, known);
    this.#change(known, () => {
      known.add(text);
      known.cut(REMEMBERED_OF_SOURCE);
    });
    if (this.#octets > REMEMBERED_OCTETS) this.#makeRoom();
  }

  #change(source: Source, change: () => void): void {
    this.#octets -= source.octets;
    change();
    this.#octets += source.octets;
  }

  /** Frees a tenth at once, to amortise the cost: first from the largest sources, then from the least recently used. */
  #makeRoom(): void {
    const room = REMEMBERED_OCTETS * 0.9;
    const level = Math.max(
      levelOf(
        [...this.#sources.values()].map(({ octets }) => octets),
        room,
      ),
      REMEMBERED_SHARE,
    );
    for (const source of this.#sources.values()) {
      if (source.octets > level) this.#change(source, () => source.cut(level));
    }
    for (const [name, source] of this.#sources) {
      if (this.#octets <= room) return;
      this.#octets -= source.octets;
      this.#sources.delete(name);
    }
  }
}

/** Returns the size to which the largest must be cut for all to fit. */
function levelOf(sizes: readonly number[], room: number): number {
  let left = room;
  const sorted = [...sizes].sort((a, b) => a - b);
  for (const [at, size] of sorted.entries()) {
    const share = left / (sorted.length - at);
    if (size > share) return share;
    left -= size;
  }
  return Number.POSITIVE_INFINITY;
}
