/**
 * Which way last worked in which network, in bounded memory, and as text that can be kept between runs.
 *
 * @module
 */
import { NETWORK_TEXT, NETWORKS } from "../limits.ts";

/** Where a device remembers the way that last worked in each network. */
export interface WayMemory {
  /** The way that last worked there. */
  recall(network: string): string | undefined;
  remember(network: string, way: string): void;
}

/** Remembers 64 networks, and forgets the one that was not used for longest. */
export class NetworkMemory implements WayMemory {
  /** Least recently used first. */
  readonly #ways = new Map<string, string>();

  /** Reads what `format` has written. Anything else, such as a damaged file, is ignored: it is only a hint. */
  static parse(text: string): NetworkMemory {
    const memory = new NetworkMemory();
    for (const [network, way] of entriesOf(text)) memory.remember(network, way);
    return memory;
  }

  recall(network: string): string | undefined {
    return this.#ways.get(network);
  }

  remember(network: string, way: string): void {
    if (network.length > NETWORK_TEXT || way.length > NETWORK_TEXT) return;
    this.#ways.delete(network);
    this.#ways.set(network, way);
    const [oldest] = this.#ways.keys();
    if (this.#ways.size > NETWORKS && oldest !== undefined) this.#ways.delete(oldest);
  }

  /** JSON, one network a line. */
  format(): string {
    const lines = [...this.#ways].map((entry) => JSON.stringify(entry));
    return `[\n${lines.join(",\n")}\n]\n`;
  }
}

function entriesOf(text: string): [string, string][] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return [];
  }
  return Array.isArray(value) ? value.filter(isEntry) : [];
}

function isEntry(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === "string");
}
