/**
 * Ids of messages that are done, by who sent them: the last of each, so many that a relay's repetition is known, and no
 * more than memory allows. A busy sender pushes out only its own ids.
 *
 * @module
 */

/**
 * Octets of ids of processed messages that are remembered, to drop one that is sent again after a reconnect: some hundred
 * thousand. A relay resends what was not acknowledged, which is less than this by far.
 */
export const REMEMBERED_OCTETS = 16 * 1024 * 1024;

/** The same of one identity, or of one other relay: thirty thousand, many times what a mailbox has on its way. */
export const REMEMBERED_OF_SOURCE = 4 * 1024 * 1024;

/** What each of them keeps however many there are, as long as there are no more than a thousand: a hundred ids. */
export const REMEMBERED_SHARE = 16 * 1024;

/** What a remembered text costs beside its characters. */
const COST = 64;

/** Entries that were forgotten are kept until there are so many, and as many as those that are left. */
const SLACK = 64;

/** Texts of one source. A Set would be asked for its oldest in time that grows with what it forgot. */
class Source {
  readonly #known = new Set<string>();
  /** The same, oldest first from `#head` on. */
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

  /** Forgets the oldest until no more than `octets` are left. */
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

  /** Takes a tenth away, so that it is not done for each text: of those who have most, then of those heard of least lately. */
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

/** To what the largest have to be cut for all to have room. */
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
