/** Messages of transfers, for tests of receiving. */
import { createHash, hash } from "node:crypto";
import type { IncomingMessage } from "../../../src/cli/files/file-receiver.ts";
import {
  encodeMessage,
  resourceOf,
  Sending,
  type SendingOptions,
  type TransferMessage,
  wholeMessage,
} from "../../../src/transfer/index.ts";

export const ALICE = "alice/pc";

/** A transfer identifier by number. */
export function transferOf(number: number): string {
  return number.toString(16).padStart(32, "0");
}

export function sha256(bytes: Uint8Array): string {
  return hash("sha256", bytes);
}

/** A received message; counts calls of `done`. */
export function arriving(
  body: TransferMessage | Uint8Array,
  { from = ALICE, vouched = true, done = () => {} }: Partial<Pick<IncomingMessage, "from" | "vouched" | "done">> = {},
): IncomingMessage {
  const resource = body instanceof Uint8Array ? "file" : resourceOf(body);
  return { id: "", from, vouched, resource, body: body instanceof Uint8Array ? body : encodeMessage(body), done };
}

/** A file in one message. */
export function wholeOf(transfer: number, name: string, contents: string | Uint8Array, more: object = {}) {
  const bytes = Buffer.from(contents);
  return wholeMessage({ transfer: transferOf(transfer), name, ...more }, bytes, sha256(bytes));
}

/** A file in parts of a given size. */
export function partsOf(
  options: Partial<SendingOptions> & { readonly transfer: string; readonly name: string },
  contents: Uint8Array,
  partBytes: number,
): TransferMessage[] {
  const sending = new Sending({ size: contents.length, ...options });
  const messages: TransferMessage[] = [sending.begin()];
  for (let at = 0; at < contents.length; at += partBytes)
    messages.push(sending.part(contents.subarray(at, at + partBytes)));
  messages.push(sending.end(createHash("sha256").update(contents).digest("hex")));
  return messages;
}
