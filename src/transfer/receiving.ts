/**
 * State machine of one incoming transfer: tracks what has arrived, and decides what to do about each message. Pure: the
 * caller does the I/O and keeps the journal.
 *
 * A range counts as received only once it is on disk (`written`), so that no decision depends on data that a crash may
 * lose.
 *
 * @module
 */
import { type Range, Ranges } from "../lib/ranges.ts";
import { GAPS } from "./limits.ts";
import type { BeginMessage, EndMessage, PartMessage } from "./message.ts";

/** Why a transfer was set aside. The command, its JSON output and the README use these same reasons. */
export const SET_ASIDE = {
  PartMissing: "The end arrived, but parts before it did not. If they still arrive, the file is completed.",
  HashMismatch: "What arrived is not what the sender read: the hashes differ.",
  SizeMismatch: "A part lies beyond the size that the end states.",
  TooManyGaps: "The parts arrived too far out of order to keep track of.",
  TooManyUnfinished: "The sender has too many unfinished transfers. Nothing of this one is kept.",
  Cancelled: "The sender cancelled the transfer. What had arrived was removed.",
  NameUnusable: "The file system rejects the file's name, even made harmless. The contents are complete.",
  CannotWrite: "The file is complete but cannot be put in place, or it is longer than the file system allows.",
  NotATransfer: "The message is not one of a transfer. Nothing of it is kept.",
} as const;

/** Name of a reason: stable, and listed in the README. */
export type SetAsideReason = keyof typeof SET_ASIDE;

/** What to do about a part. */
export type PartDecision =
  /** Write these ranges of it, both ends included; call `written` for each when it is on disk. */
  | { readonly do: "write"; readonly ranges: readonly Range[] }
  /** All of it has been received already. */
  | { readonly do: "ignore" }
  | { readonly do: "setAside"; readonly reason: SetAsideReason };

/** What to do after a change. */
export type Progress =
  | { readonly do: "wait" }
  /** All bytes are here: read the file back, and pass its size and hash to `verified`. */
  | { readonly do: "verify"; readonly end: EndMessage }
  | { readonly do: "setAside"; readonly reason: SetAsideReason };

export class Receiving {
  /** Bytes on disk, by offset. */
  readonly held = new Ranges();
  #begin: BeginMessage | undefined;
  #end: EndMessage | undefined;
  #reason: SetAsideReason | undefined;

  /** Undefined if it has not arrived, for example because another program received it. */
  get begin(): BeginMessage | undefined {
    return this.#begin;
  }

  get end(): EndMessage | undefined {
    return this.#end;
  }

  /** Why the transfer was set aside; undefined if it was not, or continues after all. */
  get reason(): SetAsideReason | undefined {
    return this.#reason;
  }

  /** Size of the file; until the end has arrived, the size that the sender expects. Undefined if unknown. */
  get size(): number | undefined {
    return this.#end?.size ?? this.#begin?.size ?? undefined;
  }

  /** Number of leading bytes on disk without a gap. */
  get contiguous(): number {
    return this.held.nextMissing(0);
  }

  /** Accepts the begin message. Only the first one counts; returns true for it. */
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
    // Always accept a part that closes a gap or extends a range.
    const apart = !this.held.has(offset - 1) && !this.held.has(last + 1) && offset > 0;
    if (apart && this.held.length > GAPS) return { do: "setAside", reason: "TooManyGaps" };
    return { do: "write", ranges };
  }

  /** Marks a range as on disk. */
  written(from: number, to: number): void {
    this.held.add(from, to);
  }

  /** Accepts the end message. Only the first one counts; returns true for it. */
  ended(end: EndMessage): boolean {
    if (this.#end !== undefined) return false;
    this.#end = end;
    return true;
  }

  /** Decides whether the file is complete, must wait, or is set aside. Call this only while no write is pending. */
  progress(): Progress {
    const end = this.#end;
    if (end === undefined) return { do: "wait" };
    if ((this.held.last ?? -1) >= end.size) return { do: "setAside", reason: "SizeMismatch" };
    if (this.#begin === undefined || this.contiguous < end.size) return { do: "setAside", reason: "PartMissing" };
    return { do: "verify", end };
  }

  /** Checks the file that was read back. Returns undefined if it is what was sent, otherwise the reason. */
  verified(size: number, sha256: string): SetAsideReason | undefined {
    if (size !== this.#end?.size) return "SizeMismatch";
    return sha256 === this.#end.sha256 ? undefined : "HashMismatch";
  }

  setAside(reason: SetAsideReason | undefined): void {
    this.#reason = reason;
  }
}
