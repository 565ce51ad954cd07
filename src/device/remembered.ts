/**
 * The last so many of some texts.
 *
 * @module
 */
export class Remembered {
  readonly #limit: number;
  readonly #known = new Set<string>();
  /** The same, oldest first from `#next` on. A Set would be asked for its oldest in time that grows with what it forgot. */
  readonly #order: string[] = [];
  #next = 0;

  /** @param limit how many are remembered */
  constructor(limit: number) {
    this.#limit = limit;
  }

  has(text: string): boolean {
    return this.#known.has(text);
  }

  add(text: string): void {
    const before = this.#known.size;
    if (this.#known.add(text).size === before) return;
    const oldest = this.#order[this.#next];
    if (oldest !== undefined) this.#known.delete(oldest);
    this.#order[this.#next] = text;
    this.#next = (this.#next + 1) % this.#limit;
  }
}
