/**
 * The memory of a device for sealed records that its peers have not acknowledged, shared by all its channels: a peer that
 * grants much credit and acknowledges nothing takes it, and so may several.
 *
 * @module
 */
import { KEPT_LEAST, KEPT_OCTETS } from "./limits.ts";

export class KeptPool {
  readonly #size: number;
  #used = 0;

  /** @param size octets of all channels. One that is alone gets half of them, and any gets KEPT_LEAST. */
  constructor(size = 2 * KEPT_OCTETS) {
    this.#size = size;
  }

  /** Octets that are kept. */
  get used(): number {
    return this.#used;
  }

  /**
   * Whether a channel may keep more: as much as is left. So each later one finds room, and of those that take all they
   * can get each has the same.
   *
   * @param own octets that it keeps
   */
  hasRoom(own: number): boolean {
    return own < KEPT_LEAST || own < this.#size - this.#used;
  }

  /** Counts octets that a channel keeps. */
  take(octets: number): void {
    this.#used += octets;
  }

  /** Counts octets that it keeps no more. */
  release(octets: number): void {
    this.#used -= octets;
  }
}
