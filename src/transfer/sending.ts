/**
 * One outgoing transfer: which messages a file becomes, and how far the relay has it safe. Pure: the caller reads the
 * file, makes the hash, sends, and keeps `acknowledged` in its journal.
 *
 * ```ts
 * const sending = new Sending({ transfer, name, size });
 * send(sending.begin());
 * for await (const bytes of piecesOf(file, PART_BYTES)) send(sending.part(bytes)).then(sending.acknowledge);
 * send(sending.end(hash));
 * ```
 *
 * An interrupted transfer goes on with `from`: the caller reads what was acknowledged again, for the hash alone.
 *
 * @module
 */
import { Ranges } from "../lib/ranges.ts";
import type { BeginMessage, CancelMessage, EndMessage, FileAttributes, PartMessage, WholeMessage } from "./message.ts";

/** What is sent. */
export interface SendingOptions extends FileAttributes {
  /** `transferId` of 16 random bytes; the same one when an interrupted transfer goes on. */
  readonly transfer: string;
  /** Null when it is known only at the end. */
  readonly size: number | null;
  /** Bytes that the relay has safe from a run before; 0 by default. */
  readonly from?: number;
}

/** A file that fits into one part, as one message. */
export function wholeMessage(
  file: FileAttributes & { readonly transfer: string },
  bytes: Uint8Array,
  sha256: string,
): WholeMessage {
  return { type: "whole", ...attributesOf(file), transfer: file.transfer, size: bytes.length, sha256, bytes };
}

/** Gives a transfer up. */
export function cancelMessage(transfer: string, reason: string): CancelMessage {
  return { type: "cancel", transfer, reason };
}

export class Sending {
  readonly #options: SendingOptions;
  readonly #acknowledged = new Ranges();
  #next: number;

  constructor(options: SendingOptions) {
    this.#options = options;
    this.#next = options.from ?? 0;
    this.#acknowledged.add(0, this.#next - 1);
  }

  get transfer(): string {
    return this.#options.transfer;
  }

  /** Where the next part begins. */
  get next(): number {
    return this.#next;
  }

  /** Every byte before this one is safe at the relay: where another run may go on. */
  get acknowledged(): number {
    return this.#acknowledged.nextMissing(0);
  }

  begin(): BeginMessage {
    const { transfer, size } = this.#options;
    return { type: "begin", ...attributesOf(this.#options), transfer, size };
  }

  /** The next part; at most PART_BYTES, and all but the last that long, so that a run that goes on makes the same ones. */
  part(bytes: Uint8Array): PartMessage {
    const part: PartMessage = { type: "part", transfer: this.#options.transfer, offset: this.#next, bytes };
    this.#next += bytes.length;
    return part;
  }

  /** The relay has a part safe. */
  acknowledge({ offset, bytes }: PartMessage): void {
    this.#acknowledged.add(offset, offset + bytes.length - 1);
  }

  /** @param sha256 of all that was read, from the first byte on */
  end(sha256: string): EndMessage {
    return { type: "end", transfer: this.#options.transfer, size: this.#next, sha256 };
  }
}

function attributesOf({ name, modified, mode }: FileAttributes): FileAttributes {
  return { name, ...(modified !== undefined && { modified }), ...(mode !== undefined && { mode }) };
}
