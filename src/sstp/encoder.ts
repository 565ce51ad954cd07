/** Encodes commands to bytes. Layouts are in `wire.ts`; this file only knows how to write each kind of field. */

import type { Command, CommandName, FanoutDeviceEntry, FieldKind, Layout, StreamSize, Version } from "./wire.ts";
import {
  COMMAND_HEADER_OCTETS,
  DATA_HEADER_OCTETS,
  entryLayout,
  layouts,
  MAX_COMMAND_OCTETS,
  MESSAGE_CHOICE_FLAGS,
  MessageFlag,
  VERSION_1_6,
} from "./wire.ts";
import { WireError, type WireErrorCode } from "./wire-error.ts";

const { id: DATA_ID, maxLength: DATA_MAX } = layouts.Data;
const NO_OCTETS = new Uint8Array(0);

/** Writes the value of one field. `command` is for fields that depend on others. */
type WriteField = (writer: Writer, value: unknown, command: Command) => void;

/** Position in the command being written. Encoding is synchronous and not re-entrant, so one instance serves all. */
class Writer {
  target: Uint8Array = NO_OCTETS;
  at = 0;
  /** End of the space that CommandLength allows. */
  end = 0;
  version: Version = VERSION_1_6;
  /** For error messages. */
  name: CommandName = "Noop";
  field = "";

  fail(code: WireErrorCode, what: string): never {
    throw new WireError(code, `${this.name}.${this.field} ${what}`);
  }

  claim(count: number): number {
    const { at } = this;
    if (at + count > this.end) this.#tooLong();
    this.at = at + count;
    return at;
  }

  #tooLong(): never {
    const advice = this.name === "Data" ? "split the data" : "shorten its fields";
    const { maxLength } = layouts[this.name];
    throw new WireError("too-long", `${this.name} would be longer than ${maxLength} octets: ${advice}`);
  }

  #outOfRange(value: unknown, most: number): never {
    this.fail("out-of-range", `is ${String(value)}: give an integer from 0 to ${most}`);
  }

  u8(value: unknown): void {
    if (typeof value !== "number" || (value & 0xff) !== value) this.#outOfRange(value, 0xff);
    const at = this.claim(1);
    this.target[at] = value;
  }

  u16(value: unknown): void {
    if (typeof value !== "number" || (value & 0xffff) !== value) this.#outOfRange(value, 0xffff);
    const at = this.claim(2);
    this.target[at] = value;
    this.target[at + 1] = value >>> 8;
  }

  u32(value: unknown): void {
    if (typeof value !== "number" || value >>> 0 !== value) this.#outOfRange(value, 0xffff_ffff);
    putU32(this.target, this.claim(4), value);
  }

  zstring(text: string): void {
    const { target } = this;
    const { length } = text;
    const at = this.claim(length + 1);
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code === 0 || code > 0x7f) {
        this.fail("not-ascii", `has code ${code} at offset ${i}: percent-encode what is not ASCII, and leave out NUL`);
      }
      target[at + i] = code;
    }
    target[at + length] = 0;
  }

  octets(octets: Uint8Array): void {
    const at = this.claim(octets.length);
    this.target.set(octets, at);
  }

  octets16(octets: Uint8Array): void {
    this.u16(octets.length);
    this.octets(octets);
  }
}

function putU32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}

function presenceFlags(command: { ephemeral?: unknown; streamSize?: unknown; fragmentation?: unknown }): number {
  return (
    (command.ephemeral === undefined ? 0 : MessageFlag.Ephemeral) |
    (command.streamSize === undefined ? 0 : MessageFlag.StreamSize) |
    (command.fragmentation === undefined ? 0 : MessageFlag.Fragmentation)
  );
}

function writeEntry(writer: Writer, entry: FanoutDeviceEntry): void {
  for (const name of entryLayout) {
    const text = entry[name] ?? "";
    if (name === "failoverDeviceURLs" && writer.version.minor < 6) {
      if (text !== "") writer.fail("not-in-version", "has failoverDeviceURLs: leave them out on a 1.5 connection");
    } else {
      writer.zstring(text);
    }
  }
}

const writers: { readonly [K in FieldKind]: WriteField } = {
  u8: (writer, value) => writer.u8(value),
  u32: (writer, value) => writer.u32(value),
  reserved8: (writer) => writer.u8(0),
  reserved16: (writer) => writer.u16(0),
  filled(writer, value) {
    if (value === "") writer.fail("empty-field", "is empty: it MUST name something");
    writer.zstring(value as string);
  },
  zstring: (writer, value) => writer.zstring(value as string),
  zstrings8(writer, value) {
    const texts = value as readonly string[];
    writer.u8(texts.length);
    for (const text of texts) writer.zstring(text);
  },
  octets: (writer, value) => writer.octets(value as Uint8Array),
  octets16: (writer, value) => writer.octets16(value as Uint8Array),
  entries16(writer, value) {
    const entries = value as readonly FanoutDeviceEntry[];
    writer.u16(entries.length);
    for (const entry of entries) writeEntry(writer, entry);
  },
  messageFlags: (writer, value, command) =>
    writer.u8(((value as number) & MESSAGE_CHOICE_FLAGS) | presenceFlags(command as object)),
  ephemeral(writer, value) {
    if (value !== undefined) writer.u32(value);
  },
  streamSize(writer, value) {
    if (value === undefined) return;
    for (const part of value as StreamSize) {
      if (part < 0n || part >= 1n << 64n) writer.fail("out-of-range", `has ${part}: give integers of 64 bits`);
      writer.u32(Number(part & 0xffffffffn));
      writer.u32(Number(part >> 32n));
    }
  },
  fragmentation(writer, value) {
    if (value !== undefined) writer.octets16(value as Uint8Array);
  },
  indexes16(writer, value) {
    const indexes = value as readonly number[] | undefined;
    if (indexes === undefined) return;
    if (writer.version.minor < 6) writer.fail("not-in-version", "is given: send one command per entry in 1.5");
    writer.u16(indexes.length);
    for (const index of indexes) writer.u16(index);
  },
};

/** A layout with its field writers resolved. */
interface Encoder {
  readonly id: number;
  readonly maxLength: number;
  readonly fields: readonly { readonly name: string; readonly write: WriteField }[];
}

const encoders = Object.fromEntries(
  Object.entries<Layout>(layouts).map(([command, { id, maxLength, fields }]): [string, Encoder] => [
    command,
    { id, maxLength, fields: fields.map(([name, kind]) => ({ name, write: writers[kind] })) },
  ]),
) as Readonly<Record<CommandName, Encoder>>;

const writer = new Writer();
// For commands whose length is not known in advance.
const scratch = new Uint8Array(MAX_COMMAND_OCTETS);

/**
 * Writes one command at `offset` of `target`.
 *
 * @param version of the connection; affects the entries of FanoutOpen and the indexes of SessionStatus [3.1.4.3.3,
 *   2.2.8.1]
 * @returns the offset after the command; -1 if there is no room for the longest command of its kind
 * @throws WireError if the command cannot be encoded; discard what was written
 */
export function encodeInto(command: Command, version: Version, target: Uint8Array, offset: number): number {
  const { id, maxLength, fields } = encoders[command.command];
  if (offset + maxLength > target.length) return -1;
  writer.name = command.command;
  writer.version = version;
  writer.target = target;
  writer.at = offset + COMMAND_HEADER_OCTETS;
  writer.end = offset + maxLength;
  for (const field of fields) {
    writer.field = field.name;
    field.write(writer, (command as unknown as Record<string, unknown>)[field.name], command);
  }
  const length = writer.at - offset;
  target[offset] = id;
  target[offset + 1] = length;
  target[offset + 2] = length >>> 8;
  return writer.at;
}

/**
 * Encodes one command into a new array.
 *
 * @param version as for {@link encodeInto}
 * @throws WireError if the command cannot be encoded
 */
export function encode(command: Command, version: Version): Uint8Array<ArrayBuffer> {
  return encodeToScratch(command, version).slice();
}

/** Like {@link encode}, but into memory that the next call uses again. */
export function encodeToScratch(command: Command, version: Version): Uint8Array<ArrayBuffer> {
  return scratch.subarray(0, encodeInto(command, version, scratch, 0));
}

/**
 * Writes one Data command with `payload.subarray(from, to)` at `offset` of `target`. The payload is copied once.
 *
 * @param to at most `from + MAX_DATA_OCTETS`; the caller ensures that `DATA_HEADER_OCTETS + to - from` octets fit
 * @returns the offset after the command
 */
export function encodeDataInto(
  sessionId: number,
  payload: Uint8Array,
  from: number,
  to: number,
  target: Uint8Array,
  offset: number,
): number {
  const length = DATA_HEADER_OCTETS + to - from;
  if (length > DATA_MAX) {
    throw new WireError("too-long", `Data would be longer than ${DATA_MAX} octets: split the data`);
  }
  target[offset] = DATA_ID;
  target[offset + 1] = length & 0xff;
  target[offset + 2] = length >> 8;
  putU32(target, offset + COMMAND_HEADER_OCTETS, sessionId);
  target.set(from === 0 && to === payload.length ? payload : payload.subarray(from, to), offset + DATA_HEADER_OCTETS);
  return offset + length;
}
