/**
 * One incoming transfer: what has arrived, and what is to be done about each message. Pure: the caller writes, reads back,
 * and keeps the journal.
 *
 * A part counts as here when it is on the disk (`written`), so that what is decided never rests on what a crash takes away.
 *
 * @module
 */
import { type Range, Ranges } from "../lib/ranges.ts";
import { GAPS } from "./limits.ts";
import type { BeginMessage, EndMessage, PartMessage } from "./message.ts";

/** Why a transfer was set aside: one enumeration for the command, its JSON and the README. */
export const SET_ASIDE = {
  PartMissing: "The end came, and parts before it did not. When they come after all, the file is completed.",
  HashMismatch: "What arrived is not what the sender read: its hash is another.",
  SizeMismatch: "A part lies behind the size that the end names.",
  TooManyGaps: "The parts came in so wild an order that it cannot be kept track of.",
  TooManyUnfinished:
    "The sender has begun more transfers than it may without ending them. Nothing of this one is kept.",
  Cancelled: "The sender has given the transfer up. What had arrived of it was removed.",
  NameUnusable: "The file system takes no file of this name, also made harmless. The contents are all there.",
  CannotWrite:
    "The file has all its contents and cannot be put in its place, or is longer than the file system allows.",
  NotATransfer: "The message is none of a transfer. Nothing of it is kept.",
} as const;

/** Name of a reason: stable, and listed in the README. */
export type SetAsideReason = keyof typeof SET_ASIDE;

/** What is to be done about a part. */
export type PartDecision =
  /** Write these ranges of it, both ends included, and call `written` for each when it is on the disk. */
  | { readonly do: "write"; readonly ranges: readonly Range[] }
  /** All of it is here. */
  | { readonly do: "ignore" }
  | { readonly do: "setAside"; readonly reason: SetAsideReason };

/** What is to be done when something has changed. */
export type Progress =
  | { readonly do: "wait" }
  /** Everything is here: compare size and hash of the file with the end, and call `verified`. */
  | { readonly do: "verify"; readonly end: EndMessage }
  | { readonly do: "setAside"; readonly reason: SetAsideReason };

export class Receiving {
  /** Bytes that are on the disk, by offset. */
  readonly held = new Ranges();
  #begin: BeginMessage | undefined;
  #end: EndMessage | undefined;
  #reason: SetAsideReason | undefined;

  /** Undefined while it has not come, as when another program has taken it. */
  get begin(): BeginMessage | undefined {
    return this.#begin;
  }

  get end(): EndMessage | undefined {
    return this.#end;
  }

  /** Why it was set aside; undefined when it was not, or what was missing has come. */
  get reason(): SetAsideReason | undefined {
    return this.#reason;
  }

  /** How long the file will be; until the end has come, what the sender expects. Undefined while nobody has said. */
  get size(): number | undefined {
    return this.#end?.size ?? this.#begin?.size ?? undefined;
  }

  /** Every byte before this one is on the disk. */
  get contiguous(): number {
    return this.held.nextMissing(0);
  }

  /** The first one counts. True when this was it. */
  begun(begin: BeginMessage): boolean {
    if (this.#begin !== undefined) return false;
    this.#begin = begin;
    return true;
  }

  part({ offset, bytes }: Pick<PartMessage, "offset" | "bytes">): PartDecision {
    const last = offset + bytes.length - 1;
    if (last >= (this.#end?.size ?? Number.POSITIVE_INFINITY)) return { do: "setAside", reason: "SizeMismatch" };
    const ranges: Range[] = [];
    for (let from = this.held.nextMissing(offset); from <= last; ) {
      const to = Math.min(last, (this.held.next(from) ?? Number.POSITIVE_INFINITY) - 1);
      ranges.push([from, to]);
      from = this.held.nextMissing(to + 1);
    }
    if (ranges.length === 0) return { do: "ignore" };
    // A part that closes a gap, or goes on where another ended, is always welcome.
    const apart = !this.held.has(offset - 1) && !this.held.has(last + 1) && offset > 0;
    if (apart && this.held.length > GAPS) return { do: "setAside", reason: "TooManyGaps" };
    return { do: "write", ranges };
  }

  /** A range is on the disk. */
  written(from: number, to: number): void {
    this.held.add(from, to);
  }

  /** The first one counts. True when this was it. */
  ended(end: EndMessage): boolean {
    if (this.#end !== undefined) return false;
    this.#end = end;
    return true;
  }

  /** Asked when nothing is being written: whether it is complete, can become so, or is to be set aside. */
  progress(): Progress {
    const end = this.#end;
    if (end === undefined) return { do: "wait" };
    if ((this.held.last ?? -1) >= end.size) return { do: "setAside", reason: "SizeMismatch" };
    if (this.#begin === undefined || this.contiguous < end.size) return { do: "setAside", reason: "PartMissing" };
    return { do: "verify", end };
  }

  /** The file was read back: undefined when it is what was sent, else why it is not. */
  verified(size: number, sha256: string): SetAsideReason | undefined {
    if (size !== this.#end?.size) return "SizeMismatch";
    return sha256 === this.#end.sha256 ? undefined : "HashMismatch";
  }

  setAside(reason: SetAsideReason | undefined): void {
    this.#reason = reason;
  }
}
