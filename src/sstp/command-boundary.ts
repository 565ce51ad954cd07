/**
 * Where commands begin and end in a stream of octets, without decoding them: by CommandLength alone [MS-GRVSSTP 2.2].
 */
import { COMMAND_HEADER_OCTETS } from "./wire.ts";

/** Octets of the whole commands at the beginning of `octets` that take at most `max`; at least one command. */
export function wholeCommands(octets: Uint8Array, max: number): number {
  if (octets.length <= max) return octets.length;
  let length = 0;
  for (;;) {
    const end = length + commandLength(octets, length);
    if (length > 0 && end > max) return length;
    if (end >= octets.length) return octets.length;
    length = end;
  }
}

/** Follows a stream, cut anywhere, and knows whether it stands between two commands. */
export class CommandWalker {
  /** Octets of the command at hand that have not come. */
  #left: number;
  /** Octets of a header that was cut. */
  #header: number[] = [];

  /** @param skip octets before the first command */
  constructor(skip = 0) {
    this.#left = skip;
  }

  /** Takes the next octets of the stream. */
  push(octets: Uint8Array): void {
    let at = 0;
    while (at < octets.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, octets.length - at);
        this.#left -= taken;
        at += taken;
        continue;
      }
      if (this.#header.length === 0 && octets.length - at >= COMMAND_HEADER_OCTETS) {
        this.#left = commandLength(octets, at);
        continue;
      }
      this.#header.push(octets[at] ?? 0);
      at += 1;
      if (this.#header.length < COMMAND_HEADER_OCTETS) continue;
      this.#left = commandLength(Uint8Array.from(this.#header), 0) - COMMAND_HEADER_OCTETS;
      this.#header = [];
    }
  }

  /** Whether all commands that began have ended. */
  get between(): boolean {
    return this.#left === 0 && this.#header.length === 0;
  }
}

/** CommandLength of the command at an offset; never less than its header, so that a broken stream ends the walk. */
function commandLength(octets: Uint8Array, at: number): number {
  const length = (octets[at + 1] ?? 0) | ((octets[at + 2] ?? 0) << 8);
  return Math.max(length, COMMAND_HEADER_OCTETS);
}
