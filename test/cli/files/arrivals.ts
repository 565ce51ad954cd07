/** An in-memory recipient of transfers, by the rules of `src/transfer`: the files that are complete. */
import { createHash } from "node:crypto";
import { decodeMessage, type TransferMessage } from "../../../src/transfer/index.ts";

export interface Arrived {
  readonly name: string;
  readonly bytes: Buffer;
  readonly modified: number | undefined;
  readonly mode: number | undefined;
}

export class Arrivals {
  /** In order of completion. */
  readonly files: Arrived[] = [];
  readonly cancelled: { readonly transfer: string; readonly reason: string }[] = [];
  readonly #transfers = new Map<
    string,
    { begin?: TransferMessage; end?: TransferMessage; parts: Map<number, Uint8Array> }
  >();
  readonly #complete = new Set<string>();

  /** Transfers that are neither complete nor cancelled. */
  get unfinished(): string[] {
    const cancelled = new Set(this.cancelled.map(({ transfer }) => transfer));
    return [...this.#transfers.keys()].filter((transfer) => !this.#complete.has(transfer) && !cancelled.has(transfer));
  }

  take(body: Uint8Array): TransferMessage {
    const message = decodeMessage(body);
    const { transfer } = message;
    if (message.type === "cancel") {
      this.cancelled.push({ transfer, reason: message.reason });
      return message;
    }
    if (message.type === "whole") {
      if (!this.#complete.has(transfer)) this.#finish(transfer, message, Buffer.from(message.bytes), message.sha256);
      return message;
    }
    const state = this.#transfers.get(transfer) ?? { parts: new Map<number, Uint8Array>() };
    this.#transfers.set(transfer, state);
    if (message.type === "part") state.parts.set(message.offset, Buffer.from(message.bytes));
    else state[message.type] = message;
    const { begin, end, parts } = state;
    if (begin?.type !== "begin" || end?.type !== "end" || this.#complete.has(transfer)) return message;
    const bytes = Buffer.concat([...parts].sort(([one], [other]) => one - other).map(([, part]) => part));
    if (bytes.length < end.size) return message;
    this.#finish(transfer, begin, bytes, end.sha256);
    return message;
  }

  #finish(transfer: string, message: TransferMessage, bytes: Buffer, sha256: string): void {
    if (!("name" in message)) throw new Error("no name");
    if (createHash("sha256").update(bytes).digest("hex") !== sha256)
      throw new Error(`${message.name} has another hash`);
    this.#complete.add(transfer);
    this.files.push({ name: message.name, bytes, modified: message.modified, mode: message.mode });
  }
}
