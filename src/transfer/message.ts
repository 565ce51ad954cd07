/**
 * The wire format of transfer messages; index.ts explains their meaning.
 *
 *   length of the header   2 bytes, most significant first
 *   header                 JSON in UTF-8, at most 8 KiB
 *   contents               bytes of the file: `whole` and `part` only
 *
 * Unknown keys are ignored, so that later versions can add some. A value of the wrong type is rejected.
 *
 * @module
 */
import { HEADER_BYTES, NAME_LENGTH, TIME_RANGE } from "./limits.ts";

/** Resource of all messages but `cancel`: one session per sender and recipient, so that they arrive in order. */
export const FILE_RESOURCE = "file";

/** Resource of `cancel`: a separate session, so that it is not held back with the parts. */
export const CANCEL_RESOURCE = "file-cancel";

/** What a sender knows about a file. */
export interface FileAttributes {
  /** A file name, or a relative path with `/` between its components. The recipient sanitizes it. */
  readonly name: string;
  /** Modification time, in milliseconds from 1970; an integer. */
  readonly modified?: number | undefined;
  /** POSIX permission bits, at most 0o7777. The recipient uses the lower nine. */
  readonly mode?: number | undefined;
}

/** A file in one message. */
export interface WholeMessage extends FileAttributes {
  readonly type: "whole";
  readonly transfer: string;
  readonly size: number;
  /** Hash of the contents: 64 hexadecimal digits in lower case. */
  readonly sha256: string;
  readonly bytes: Uint8Array;
}

/** The first message of a file in parts. */
export interface BeginMessage extends FileAttributes {
  readonly type: "begin";
  readonly transfer: string;
  /** Expected size; the file may change while it is read. Null if unknown, as for standard input. */
  readonly size: number | null;
}

/** Contents of a file from an offset on. */
export interface PartMessage {
  readonly type: "part";
  readonly transfer: string;
  readonly offset: number;
  /** At least one byte. */
  readonly bytes: Uint8Array;
}

/** The last message of a file in parts: what the sender has read. */
export interface EndMessage {
  readonly type: "end";
  readonly transfer: string;
  readonly size: number;
  /** Hash of the whole file: 64 hexadecimal digits in lower case. */
  readonly sha256: string;
}

/** The sender abandons the transfer. What has arrived of it is useless. */
export interface CancelMessage {
  readonly type: "cancel";
  readonly transfer: string;
  /** A word for people and logs, at most 100 characters. The recipient escapes it for display. */
  readonly reason: string;
}

export type TransferMessage = WholeMessage | BeginMessage | PartMessage | EndMessage | CancelMessage;

/** Thrown for a message that is not a valid transfer message. Its message states the problem. */
export class NotATransfer extends Error {
  readonly code = "NotATransfer";

  constructor(problem: string) {
    super(`this is not a message of a transfer: ${problem}`);
    this.name = "NotATransfer";
  }
}

const REASON_LENGTH = 100;

/** All permission bits: rwx three times, and setuid, setgid and sticky, which the recipient drops. */
const MODE_MAX = 0o7777;

/**
 * Makes a transfer identifier, 32 hexadecimal digits, from 16 random bytes.
 *
 * @throws RangeError if there are not 16 bytes
 */
export function transferId(random: Uint8Array): string {
  if (random.length !== 16) throw new RangeError("an identifier of a transfer is made of 16 random bytes");
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Returns the id to send a message under. Equal messages have equal ids, so that what is resent after an interruption
 * is dropped where it is already stored. A part or an end of another length has another id.
 */
export function messageId(message: TransferMessage): string {
  const { transfer } = message;
  switch (message.type) {
    case "whole":
      return `${transfer}.whole`;
    case "begin":
      return `${transfer}.begin`;
    case "part":
      return `${transfer}.${message.offset}+${message.bytes.length}`;
    case "end":
      return `${transfer}.end.${message.size}`;
    case "cancel":
      return `${transfer}.cancel`;
  }
}

/** Returns the resource to send a message on. */
export function resourceOf(message: TransferMessage): string {
  return message.type === "cancel" ? CANCEL_RESOURCE : FILE_RESOURCE;
}

/** Reports whether a resource carries transfer messages. */
export function isTransferResource(resource: string): boolean {
  return resource === FILE_RESOURCE || resource === CANCEL_RESOURCE;
}

const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);

/**
 * Encodes a message as a body.
 *
 * @param headroom how many bytes before the contents, in their buffer, may be overwritten: a header that fits there
 *   saves a copy of the contents
 * @throws RangeError if a value is invalid, or the name is too long for the header
 */
export function encodeMessage(message: TransferMessage, headroom = 0): Uint8Array {
  const { bytes = NOTHING, ...fields } = "bytes" in message ? message : { ...message, bytes: NOTHING };
  const header = encoder.encode(JSON.stringify(fields));
  if (header.length > HEADER_BYTES) throw new RangeError(`the name is too long: its header has ${header.length} bytes`);
  try {
    checked(fields, bytes);
  } catch (error) {
    throw new RangeError((error as Error).message);
  }
  const before = 2 + header.length;
  const fits = before <= Math.min(headroom, bytes.byteOffset);
  const body = fits
    ? new Uint8Array(bytes.buffer, bytes.byteOffset - before, before + bytes.length)
    : new Uint8Array(before + bytes.length);
  body[0] = header.length >>> 8;
  body[1] = header.length & 0xff;
  body.set(header, 2);
  if (!fits) body.set(bytes, before);
  return body;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Decodes a body. The returned contents share its memory.
 *
 * @throws NotATransfer
 */
export function decodeMessage(body: Uint8Array): TransferMessage {
  const [high, low] = body;
  if (high === undefined || low === undefined) throw new NotATransfer("it has no header");
  const length = (high << 8) | low;
  if (length > HEADER_BYTES)
    throw new NotATransfer(`its header has ${length} bytes; at most ${HEADER_BYTES} are allowed`);
  if (body.length < 2 + length) throw new NotATransfer("its header is cut off");
  return checked(parsed(body.subarray(2, 2 + length)), body.subarray(2 + length));
}

function parsed(header: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(header));
  } catch {
    throw new NotATransfer("its header is not JSON in UTF-8");
  }
}

function checked(header: unknown, bytes: Uint8Array): TransferMessage {
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new NotATransfer("its header is not a JSON object");
  }
  const fields = new Map<string, unknown>(Object.entries(header));
  const transfer = hexIn(fields, "transfer", 32);
  const type = fields.get("type");
  if (type !== "whole" && type !== "part" && bytes.length > 0) throw new NotATransfer("only a part has contents");
  switch (type) {
    case "whole": {
      const size = countIn(fields, "size");
      if (size !== bytes.length) throw new NotATransfer(`it states ${size} bytes but has ${bytes.length}`);
      return { type, transfer, ...attributesIn(fields), size, sha256: hexIn(fields, "sha256", 64), bytes };
    }
    case "begin":
      return {
        type,
        transfer,
        ...attributesIn(fields),
        size: fields.get("size") === null ? null : countIn(fields, "size"),
      };
    case "part": {
      const offset = countIn(fields, "offset");
      if (bytes.length === 0) throw new NotATransfer("a part has no contents");
      if (!Number.isSafeInteger(offset + bytes.length)) throw new NotATransfer("a part ends beyond 2^53 bytes");
      return { type, transfer, offset, bytes };
    }
    case "end":
      return { type, transfer, size: countIn(fields, "size"), sha256: hexIn(fields, "sha256", 64) };
    case "cancel":
      return { type, transfer, reason: textIn(fields, "reason", REASON_LENGTH) };
    default:
      throw new NotATransfer("its type is none of whole, begin, part, end, cancel");
  }
}

function attributesIn(fields: ReadonlyMap<string, unknown>): FileAttributes {
  const modified = fields.get("modified");
  const mode = fields.get("mode");
  return {
    name: textIn(fields, "name", NAME_LENGTH),
    ...(modified !== undefined && { modified: integerIn(fields, "modified", -TIME_RANGE, TIME_RANGE) }),
    ...(mode !== undefined && { mode: integerIn(fields, "mode", 0, MODE_MAX) }),
  };
}

function textIn(fields: ReadonlyMap<string, unknown>, key: string, longest: number): string {
  const text = fields.get(key);
  if (typeof text !== "string") throw new NotATransfer(`${key} is not a string`);
  if (text.length > longest) throw new NotATransfer(`${key} has more than ${longest} characters`);
  return text;
}

function hexIn(fields: ReadonlyMap<string, unknown>, key: string, digits: number): string {
  const text = fields.get(key);
  if (typeof text !== "string" || text.length !== digits || !/^[0-9a-f]+$/.test(text)) {
    throw new NotATransfer(`${key} is not ${digits} hexadecimal digits in lower case`);
  }
  return text;
}

function countIn(fields: ReadonlyMap<string, unknown>, key: string): number {
  return integerIn(fields, key, 0, Number.MAX_SAFE_INTEGER);
}

function integerIn(fields: ReadonlyMap<string, unknown>, key: string, least: number, most: number): number {
  const number = fields.get(key);
  if (!Number.isSafeInteger(number) || (number as number) < least || (number as number) > most) {
    throw new NotATransfer(`${key} is not an integer from ${least} to ${most}`);
  }
  return number as number;
}
