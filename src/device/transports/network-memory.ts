/**
 * Which way last worked in which network, and how soon idle connections are cut there, in bounded memory, and as text
 * that can be kept between runs.
 *
 * @module
 */
import { NETWORK_TEXT, NETWORKS } from "../limits.ts";

/** Where a device remembers the way that last worked in each network. */
export interface WayMemory {
  /** The way that last worked there. */
  recall(network: string): string | undefined;
  remember(network: string, way: string): void;
  /** After how many milliseconds idle connections are cut there; undefined if that is unknown. */
  recallIdle?(network: string): number | undefined;
  /** Called after `remember`. */
  rememberIdle?(network: string, milliseconds: number): void;
}

/** What is known of a network. */
interface Known {
  readonly way: string;
  readonly idle?: number | undefined;
}

/** Remembers 64 networks, and forgets the one that was not used for longest. */
export class NetworkMemory implements WayMemory {
  /** Least recently used first. */
  readonly #known = new Map<string, Known>();

  /** Reads what `format` has written. Anything else, such as a damaged file, is ignored: it is only a hint. */
  static parse(text: string): NetworkMemory {
    const memory = new NetworkMemory();
    for (const [network, way, idle] of entriesOf(text)) {
      memory.remember(network, way);
      if (idle !== undefined) memory.rememberIdle(network, idle);
    }
    return memory;
  }

  recall(network: string): string | undefined {
    return this.#known.get(network)?.way;
  }

  recallIdle(network: string): number | undefined {
    return this.#known.get(network)?.idle;
  }

  rememberIdle(network: string, milliseconds: number): void {
    const known = this.#known.get(network);
    if (known !== undefined && Number.isFinite(milliseconds))
      this.#known.set(network, { ...known, idle: milliseconds });
  }

  remember(network: string, way: string): void {
    if (network.length > NETWORK_TEXT || way.length > NETWORK_TEXT) return;
    const known = this.#known.get(network);
    this.#known.delete(network);
    this.#known.set(network, { ...known, way });
    const [oldest] = this.#known.keys();
    if (this.#known.size > NETWORKS && oldest !== undefined) this.#known.delete(oldest);
  }

  /** JSON, one network a line. */
  format(): string {
    const lines = [...this.#known].map(([network, { way, idle }]) =>
      JSON.stringify(idle === undefined ? [network, way] : [network, way, idle]),
    );
    return `[\n${lines.join(",\n")}\n]\n`;
  }
}

type Entry = readonly [network: string, way: string, idle?: number];

function entriesOf(text: string): Entry[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return [];
  }
  return Array.isArray(value) ? value.filter(isEntry) : [];
}

function isEntry(value: unknown): value is Entry {
  if (!Array.isArray(value) || value.length < 2 || value.length > 3) return false;
  const [network, way, idle] = value;
  return typeof network === "string" && typeof way === "string" && (idle === undefined || typeof idle === "number");
}
