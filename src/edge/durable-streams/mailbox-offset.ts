/**
 * Offsets of a mailbox. Positions are numbers of messages. A mailbox loses messages, which nobody may miss unawares, so
 * an offset also has the epoch of losses that its reader knows:
 *
 *     0001790000000000_0000000000000042     epoch, position; 16 digits each
 *
 * Up to the floor, settled messages are gone; others may still wait there. Each loss below the floor begins an epoch. A
 * reader that has come to the floor has nothing to lose below it, and gets the current epoch, as does one that begins
 * anew. Both numbers only grow, so offsets sort like the places that they name.
 *
 * @module
 */
import { formatOffset, type Offset } from "./offset.ts";

/** What a mailbox has lost. */
export interface Losses {
  /** Everything that was settled up to this number is gone. */
  readonly floor: number;
  readonly epoch: number;
}

/** Where a reader is: it has seen everything up to this number, but for losses of its epoch and earlier ones. */
export interface Place {
  readonly position: number;
  readonly epoch: number;
}

/**
 * The place that an offset names; undefined if something after it was lost that its reader does not know of, or if it
 * is of no message of this mailbox.
 *
 * @param last number of the last message that has arrived
 */
export function placeOf(offset: Offset, { floor, epoch }: Losses, last: number): Place | undefined {
  if (offset === "beginning") return { position: 0, epoch };
  if (offset === "now") return { position: last, epoch };
  const { position, incarnation: known } = offset;
  if (position > last || (position < floor && known < epoch)) return undefined;
  return placeAfter({ position, epoch: Math.min(known, epoch) }, position, { floor, epoch });
}

/** The place of a reader that has read on to a position. */
export function placeAfter(before: Place, position: number, { floor, epoch }: Losses): Place {
  return { position, epoch: position >= floor ? epoch : before.epoch };
}

/** Writes the offset of a place. */
export function formatPlace({ position, epoch }: Place): string {
  return formatOffset([{ name: "", incarnation: epoch, from: 0 }], position);
}
