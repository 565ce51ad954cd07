/**
 * Finds where commands start and end in a byte stream without decoding them, by CommandLength alone [MS-GRVSSTP 2.2].
 */
import { COMMAND_HEADER_OCTETS } from "./wire.ts";

/** Length of the whole commands at the start of `octets` that fit in `max` bytes; at least one command. */
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

/** Follows a stream, cut anywhere, and tells whether it is between two commands. */
export class CommandWalker {
  /** Bytes of the current command that have not arrived. */
  #left: number;
  /** Bytes of an incomplete header. */
  #header: number[] = [];

  /** @param skip bytes before the first command */
  constructor(skip = 0) {
    this.#left = skip;
  }

  /** Takes the next bytes of the stream. */
  push(octets: Uint8Array): void {
    const { length } = octets;
    let at = this.#left;
    if (this.#header.length > 0) at = this.#finishHeader(octets);
    // In bulk nearly all is here, so it touches locals only.
    while (length - at >= COMMAND_HEADER_OCTETS) at += commandLength(octets, at);
    this.#left = Math.max(0, at - length);
    for (; at < length; at += 1) this.#header.push(octets[at] ?? 0);
  }

  /** Completes a header that was cut. Returns where its command ends, which may be beyond these bytes. */
  #finishHeader(octets: Uint8Array): number {
    let at = 0;
    while (this.#header.length < COMMAND_HEADER_OCTETS && at < octets.length) {
      this.#header.push(octets[at] ?? 0);
      at += 1;
    }
    if (this.#header.length < COMMAND_HEADER_OCTETS) return at;
    at += commandLength(Uint8Array.from(this.#header), 0) - COMMAND_HEADER_OCTETS;
    this.#header = [];
    return at;
  }

  /** Whether every command that has begun has ended. */
  get between(): boolean {
    return this.#left === 0 && this.#header.length === 0;
  }
}

/** CommandLength of the command at an offset, at least the header's length, so that a walk over broken data ends. */
function commandLength(octets: Uint8Array, at: number): number {
  const length = (octets[at + 1] ?? 0) | ((octets[at + 2] ?? 0) << 8);
  return Math.max(length, COMMAND_HEADER_OCTETS);
}
