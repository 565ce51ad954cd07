/**
 * State machine of one outgoing transfer: splits a file into messages, and tracks how much the relay has stored. Pure:
 * the caller reads and hashes the file, sends, and records `acknowledged` in its journal.
 *
 * ```ts
 * const sending = new Sending({ transfer, name, size });
 * send(sending.begin());
 * for await (const bytes of piecesOf(file, PART_BYTES)) send(sending.part(bytes)).then(sending.acknowledge);
 * send(sending.end(hash));
 * ```
 *
 * An interrupted transfer resumes with `from`: the caller reads the acknowledged bytes again, only to hash them.
 *
 * @module
 */
import { Ranges } from "../lib/ranges.ts";
import type { BeginMessage, CancelMessage, EndMessage, FileAttributes, PartMessage, WholeMessage } from "./message.ts";

/** What to send. */
export interface SendingOptions extends FileAttributes {
  /** `transferId` of 16 random bytes; reuse it to resume an interrupted transfer. */
  readonly transfer: string;
  /** Null if known only at the end. */
  readonly size: number | null;
  /** Bytes that the relay has stored from an earlier run; default 0. */
  readonly from?: number;
}

/** Makes the single message for a file that fits into one part. */
export function wholeMessage(
  file: FileAttributes & { readonly transfer: string },
  bytes: Uint8Array,
  sha256: string,
): WholeMessage {
  return { type: "whole", ...attributesOf(file), transfer: file.transfer, size: bytes.length, sha256, bytes };
}

/** Makes the message that abandons a transfer. */
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

  /** Offset of the next part. */
  get next(): number {
    return this.#next;
  }

  /** Number of leading bytes that the relay has stored: where another run may resume. */
  get acknowledged(): number {
    return this.#acknowledged.nextMissing(0);
  }

  begin(): BeginMessage {
    const { transfer, size } = this.#options;
    return { type: "begin", ...attributesOf(this.#options), transfer, size };
  }

  /** Makes the next part. All but the last must have PART_BYTES, so that a resumed run makes the same parts. */
  part(bytes: Uint8Array): PartMessage {
    const part: PartMessage = { type: "part", transfer: this.#options.transfer, offset: this.#next, bytes };
    this.#next += bytes.length;
    return part;
  }

  /** Marks a part as stored by the relay. */
  acknowledge({ offset, bytes }: PartMessage): void {
    this.#acknowledged.add(offset, offset + bytes.length - 1);
  }

  /**
   * Makes the end message.
   *
   * @param sha256 hash of everything read, from the first byte on
   */
  end(sha256: string): EndMessage {
    return { type: "end", transfer: this.#options.transfer, size: this.#next, sha256 };
  }
}

function attributesOf({ name, modified, mode }: FileAttributes): FileAttributes {
  return { name, ...(modified !== undefined && { modified }), ...(mode !== undefined && { mode }) };
}
