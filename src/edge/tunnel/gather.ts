/**
 * Gathers what waits on a channel for one answer.
 *
 * @module
 */
import { joinOctets } from "../../lib/octets.ts";
import type { ByteChannel, Inflow } from "../byte-channel.ts";
import { COMMAND_OCTETS } from "./limits.ts";

/**
 * Takes the input that waits, at most `most` bytes of it; undefined if there is none. An endpoint gives whole commands, so
 * another piece is taken only if any command fits.
 */
export function gather(channel: Pick<ByteChannel, "take">, most: number): Inflow | undefined {
  const first = channel.take(most);
  if (first?.kind !== "octets") return first;
  const pieces = [first.octets];
  let length = first.octets.length;
  while (most - length >= COMMAND_OCTETS) {
    const next = channel.take(most - length);
    // An end is returned again by the next call.
    if (next?.kind !== "octets") break;
    pieces.push(next.octets);
    length += next.octets.length;
  }
  return pieces.length === 1 ? first : { kind: "octets", octets: joinOctets(pieces, length) };
}
