/**
 * Commands to octets and back. What lies where is in `wire.ts`; this file only knows how each kind of field is written.
 */

import type { Command, CommandName, FanoutDeviceEntry, FieldKind, Layout, StreamSize, Version } from "./wire.ts";
import {
  COMMAND_HEADER_OCTETS,
  DATA_HEADER_OCTETS,
  entryLayout,
  layouts,
  MAX_COMMAND_OCTETS,
  MESSAGE_CHOICE_FLAGS,
  MessageFlag,
} from "./wire.ts";

/** What is wrong with octets that do not decode, or with a command that does not encode. */
export type WireErrorCode =
  /** CommandId is none of the 18. */
  | "unknown-command"
  /** CommandLength, or the command to encode, is above the limit of its kind. */
  | "too-long"
  /** A field runs past CommandLength. */
  | "truncated"
  /** Octets are left after the last field. */
  | "trailing-octets"
  /** A string has a character outside ASCII, or (on encode) a NUL. */
  | "not-ascii"
  /** A string that MUST NOT be empty is. */
  | "empty-field"
  /** A number, count or length does not fit its field (encode only). */
  | "out-of-range"
  /** A field that the version of the connection does not have (encode only). */
  | "not-in-version";

/** The only error that encoding and decoding throw. */
export class WireError extends Error {
  readonly code: WireErrorCode;

  constructor(code: WireErrorCode, message: string) {
    super(message);
    this.name = "WireError";
    this.code = code;
  }
}

interface NamedLayout extends Layout {
  readonly name: CommandName;
}

const layoutById: (NamedLayout | undefined)[] = [];
for (const [name, layout] of Object.entries(layouts)) {
  layoutById[layout.id] = { ...layout, name: name as CommandName };
}

const presenceMask = MessageFlag.Ephemeral | MessageFlag.StreamSize | MessageFlag.Fragmentation;
const DATA_ID = layouts.Data.id;
const DATA_MAX = layouts.Data.maxLength;

// ---------------------------------------------------------------------------------------------------------- encode

// Encoding is synchronous and never re-entered, so one buffer of the greatest length serves every command.
const scratch = new Uint8Array(MAX_COMMAND_OCTETS);

class Writer {
  readonly #name: CommandName;
  readonly #limit: number;
  at = COMMAND_HEADER_OCTETS;
  field = "";

  constructor(name: CommandName, limit: number) {
    this.#name = name;
    this.#limit = limit;
  }

  fail(code: WireErrorCode, what: string): never {
    throw new WireError(code, `${this.#name}.${this.field} ${what}`);
  }

  claim(count: number): number {
    const at = this.at;
    if (at + count > this.#limit) {
      const advice = this.#name === "Data" ? "split the data" : "shorten its fields";
      throw new WireError("too-long", `${this.#name} would be longer than ${this.#limit} octets: ${advice}`);
    }
    this.at = at + count;
    return at;
  }

  integer(value: unknown, width: 1 | 2 | 4): void {
    const most = 2 ** (8 * width) - 1;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > most) {
      this.fail("out-of-range", `is ${String(value)}: give an integer from 0 to ${most}`);
    }
    const at = this.claim(width);
    for (let i = 0, rest = value; i < width; i++, rest = Math.floor(rest / 256)) scratch[at + i] = rest & 0xff;
  }

  zstring(text: string): void {
    const at = this.claim(text.length + 1);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === 0 || code > 0x7f) {
        this.fail("not-ascii", `has code ${code} at offset ${i}: percent-encode what is not ASCII, and leave out NUL`);
      }
      scratch[at + i] = code;
    }
    scratch[at + text.length] = 0;
  }

  octets(octets: Uint8Array): void {
    scratch.set(octets, this.claim(octets.length));
  }

  octets16(octets: Uint8Array): void {
    this.integer(octets.length, 2);
    this.octets(octets);
  }
}

function presenceFlags(command: { ephemeral?: unknown; streamSize?: unknown; fragmentation?: unknown }): number {
  return (
    (command.ephemeral === undefined ? 0 : MessageFlag.Ephemeral) |
    (command.streamSize === undefined ? 0 : MessageFlag.StreamSize) |
    (command.fragmentation === undefined ? 0 : MessageFlag.Fragmentation)
  );
}

function writeEntry(writer: Writer, entry: FanoutDeviceEntry, version: Version): void {
  for (const name of entryLayout) {
    const text = entry[name] ?? "";
    if (name === "failoverDeviceURLs" && version.minor < 6) {
      if (text !== "") writer.fail("not-in-version", "has failoverDeviceURLs: leave them out on a 1.5 connection");
    } else {
      writer.zstring(text);
    }
  }
}

function writeField(writer: Writer, kind: FieldKind, value: unknown, command: Command, version: Version): void {
  switch (kind) {
    case "u8":
      writer.integer(value, 1);
      return;
    case "u32":
      writer.integer(value, 4);
      return;
    case "reserved8":
      writer.integer(0, 1);
      return;
    case "reserved16":
      writer.integer(0, 2);
      return;
    case "filled":
      if (value === "") writer.fail("empty-field", "is empty: it MUST name something");
      writer.zstring(value as string);
      return;
    case "zstring":
      writer.zstring(value as string);
      return;
    case "zstrings8": {
      const texts = value as readonly string[];
      writer.integer(texts.length, 1);
      for (const text of texts) writer.zstring(text);
      return;
    }
    case "octets":
      writer.octets(value as Uint8Array);
      return;
    case "octets16":
      writer.octets16(value as Uint8Array);
      return;
    case "entries16": {
      const entries = value as readonly FanoutDeviceEntry[];
      writer.integer(entries.length, 2);
      for (const entry of entries) writeEntry(writer, entry, version);
      return;
    }
    case "messageFlags":
      writer.integer(((value as number) & MESSAGE_CHOICE_FLAGS) | presenceFlags(command as object), 1);
      return;
    case "ephemeral":
      if (value !== undefined) writer.integer(value, 4);
      return;
    case "streamSize":
      for (const part of (value as StreamSize | undefined) ?? []) {
        if (part < 0n || part >= 1n << 64n) writer.fail("out-of-range", `has ${part}: give integers of 64 bits`);
        writer.integer(Number(part & 0xffffffffn), 4);
        writer.integer(Number(part >> 32n), 4);
      }
      return;
    case "fragmentation":
      if (value !== undefined) writer.octets16(value as Uint8Array);
      return;
    case "indexes16": {
      const indexes = value as readonly number[] | undefined;
      if (indexes === undefined) return;
      if (version.minor < 6) writer.fail("not-in-version", "is given: send one command per entry in 1.5");
      writer.integer(indexes.length, 2);
      for (const index of indexes) writer.integer(index, 2);
    }
  }
}

/**
 * Encodes one command into octets of its own.
 *
 * @param version of the connection: entries of FanoutOpen and the indexes of SessionStatus depend on it
 *   [3.1.4.3.3, 2.2.8.1].
 * @throws WireError when the command cannot be said on the wire; nothing is written then.
 */
export function encode(command: Command, version: Version): Uint8Array<ArrayBuffer> {
  const layout: Layout = layouts[command.command];
  const writer = new Writer(command.command, layout.maxLength);
  for (const [name, kind] of layout.fields) {
    writer.field = name;
    writeField(writer, kind, (command as unknown as Record<string, unknown>)[name], command, version);
  }
  const length = writer.at;
  scratch[0] = layout.id;
  scratch[1] = length & 0xff;
  scratch[2] = length >> 8;
  return scratch.slice(0, length);
}

/**
 * Writes one Data command with `payload.subarray(from, to)` at `offset` of `target`; the payload is copied once.
 *
 * @param to at most `from + MAX_DATA_OCTETS`; the caller sees to it that `DATA_HEADER_OCTETS + to - from` octets fit.
 * @returns the offset after the command.
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
  target[offset + 3] = sessionId & 0xff;
  target[offset + 4] = (sessionId >>> 8) & 0xff;
  target[offset + 5] = (sessionId >>> 16) & 0xff;
  target[offset + 6] = sessionId >>> 24;
  target.set(from === 0 && to === payload.length ? payload : payload.subarray(from, to), offset + DATA_HEADER_OCTETS);
  return offset + length;
}

// ---------------------------------------------------------------------------------------------------------- decode

function u16(octets: Uint8Array, at: number): number {
  return (octets[at] as number) | ((octets[at + 1] as number) << 8);
}

function u32(octets: Uint8Array, at: number): number {
  return (u16(octets, at) | (u16(octets, at + 2) << 16)) >>> 0;
}

/** String.fromCharCode takes its octets as arguments; more than this many could exceed the stack. */
const TEXT_PIECE = 4096;

class Reader {
  readonly #octets: Uint8Array;
  readonly #end: number;
  readonly #name: CommandName;
  #at: number;
  field = "";

  constructor(name: CommandName, octets: Uint8Array, at: number, end: number) {
    this.#name = name;
    this.#octets = octets;
    this.#at = at;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  fail(code: WireErrorCode, what: string): never {
    throw new WireError(code, `${this.#name}.${this.field} ${what}`);
  }

  skip(count: number): number {
    const at = this.#at;
    if (count > this.#end - at) this.fail("truncated", "runs past CommandLength");
    this.#at = at + count;
    return at;
  }

  u8(): number {
    return this.#octets[this.skip(1)] as number;
  }

  u16(): number {
    return u16(this.#octets, this.skip(2));
  }

  u32(): number {
    return u32(this.#octets, this.skip(4));
  }

  u64(): bigint {
    return BigInt(this.u32()) | (BigInt(this.u32()) << 32n);
  }

  zstring(): string {
    const octets = this.#octets;
    const start = this.#at;
    let at = start;
    for (; ; at++) {
      if (at >= this.#end) this.fail("truncated", "has no NUL before the end of the command");
      const code = octets[at] as number;
      if (code === 0) break;
      if (code > 0x7f) this.fail("not-ascii", `has octet ${code} at offset ${at - start}: strings are ASCII`);
    }
    this.#at = at + 1;
    let text = "";
    for (let from = start; from < at; from += TEXT_PIECE) {
      text += String.fromCharCode.apply(null, octets.subarray(from, Math.min(from + TEXT_PIECE, at)) as never);
    }
    return text;
  }

  // A view: the caller decides whether it must outlive the chunk.
  octets(count: number): Uint8Array {
    const at = this.skip(count);
    return this.#octets.subarray(at, at + count);
  }
}

function readEntry(reader: Reader, version: Version): FanoutDeviceEntry {
  const identityURL = reader.zstring();
  const deviceURL = reader.zstring();
  const relayURL = reader.zstring();
  const failoverDeviceURLs = version.minor < 6 ? "" : reader.zstring();
  return failoverDeviceURLs === ""
    ? { identityURL, deviceURL, relayURL }
    : { identityURL, deviceURL, relayURL, failoverDeviceURLs };
}

function readField(reader: Reader, kind: FieldKind, flags: number, version: Version): unknown {
  switch (kind) {
    case "u8":
      return reader.u8();
    case "u32":
      return reader.u32();
    case "reserved8":
      reader.skip(1);
      return undefined;
    case "reserved16":
      reader.skip(2);
      return undefined;
    case "filled": {
      const text = reader.zstring();
      if (text === "") reader.fail("empty-field", "is empty: it MUST name something");
      return text;
    }
    case "zstring":
      return reader.zstring();
    case "zstrings8": {
      const texts: string[] = [];
      for (let left = reader.u8(); left > 0; left--) texts.push(reader.zstring());
      return texts;
    }
    case "octets":
      return reader.octets(reader.left);
    case "octets16":
      return reader.octets(reader.u16()).slice();
    case "entries16": {
      const entries: FanoutDeviceEntry[] = [];
      for (let left = reader.u16(); left > 0; left--) entries.push(readEntry(reader, version));
      return entries;
    }
    case "messageFlags":
      return reader.u8() & (MESSAGE_CHOICE_FLAGS | presenceMask);
    case "ephemeral":
      return flags & MessageFlag.Ephemeral ? reader.u32() : undefined;
    case "streamSize":
      return flags & MessageFlag.StreamSize ? [reader.u64(), reader.u64(), reader.u64()] : undefined;
    case "fragmentation":
      return flags & MessageFlag.Fragmentation ? reader.octets(reader.u16()).slice() : undefined;
    case "indexes16": {
      if (version.minor < 6 || reader.left === 0) return undefined;
      const indexes: number[] = [];
      for (let left = reader.u16(); left > 0; left--) indexes.push(reader.u16());
      return indexes;
    }
  }
}

/** The layout that a header names, or the error that the header deserves: before anything is kept for it. */
function checkHeader(id: number, length: number): NamedLayout {
  const layout = layoutById[id];
  if (layout === undefined) {
    throw new WireError("unknown-command", `0x${id.toString(16)} is no CommandId: the octets are not SSTP`);
  }
  if (length > layout.maxLength) {
    throw new WireError("too-long", `${layout.name} of ${length} octets: at most ${layout.maxLength} are allowed`);
  }
  if (length < COMMAND_HEADER_OCTETS) {
    throw new WireError("truncated", `${layout.name} of ${length} octets: CommandLength counts its own header`);
  }
  return layout;
}

function readCommand(layout: NamedLayout, octets: Uint8Array, at: number, length: number, version: Version): Command {
  const reader = new Reader(layout.name, octets, at + COMMAND_HEADER_OCTETS, at + length);
  const command: Record<string, unknown> = { command: layout.name };
  let flags = 0;
  for (const [name, kind] of layout.fields) {
    reader.field = name;
    const value = readField(reader, kind, flags, version);
    if (value !== undefined) command[name] = value;
    if (kind === "messageFlags") flags = value as number;
  }
  if (reader.left > 0) {
    throw new WireError("trailing-octets", `${layout.name} has ${reader.left} octets after its last field`);
  }
  return command as unknown as Command;
}

/** Takes each command as it is decoded; `false` ends the decoding: what is left of the chunk is dropped. */
export type CommandSink = (command: Command) => boolean;

/**
 * Finds the commands in a stream of octets that comes in chunks of any size.
 *
 * Data payloads are views of the chunk when they lie in it whole, so they are good for as long as the caller leaves the
 * chunk alone; everything else is copied. Between chunks at most one unfinished command (65535 octets) is kept.
 */
export class Decoder {
  /** Version of the connection. May be set from within the sink: the next command is read by it. */
  version: Version;
  readonly #header = new Uint8Array(COMMAND_HEADER_OCTETS);
  #partial: Uint8Array | undefined;
  #held = 0;
  #failure: WireError | undefined;

  /** @param held octets of an unfinished command, as `held` of another decoder gave them. */
  constructor(version: Version, held?: Uint8Array) {
    this.version = version;
    if (held !== undefined) this.#hold(held, 0);
  }

  /** Copy of the octets kept of an unfinished command. */
  get held(): Uint8Array {
    return (this.#partial ?? this.#header).slice(0, this.#held);
  }

  /**
   * Decodes `chunk` and gives each command to `sink`, in order.
   *
   * @throws WireError at the first octets that are no command, after the commands before them went to `sink`. A stream
   *   cannot be picked up again after that: every later call throws the same error.
   */
  push(chunk: Uint8Array, sink: CommandSink): void {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      this.#push(chunk, sink);
    } catch (error) {
      if (error instanceof WireError) this.#failure = error;
      throw error;
    }
  }

  #push(chunk: Uint8Array, sink: CommandSink): void {
    const end = chunk.length;
    let at = 0;
    if (this.#held > 0) {
      at = this.#hold(chunk, 0);
      const whole = this.#partial;
      if (whole === undefined || this.#held < whole.length) return;
      this.#partial = undefined;
      this.#held = 0;
      if (!sink(readCommand(checkHeader(whole[0] as number, whole.length), whole, 0, whole.length, this.version))) {
        return;
      }
    }
    while (end - at >= COMMAND_HEADER_OCTETS) {
      const id = chunk[at] as number;
      const length = u16(chunk, at + 1);
      if (id === DATA_ID && length >= DATA_HEADER_OCTETS && length <= DATA_MAX) {
        if (length > end - at) break;
        const data = chunk.subarray(at + DATA_HEADER_OCTETS, at + length);
        if (!sink({ command: "Data", sessionId: u32(chunk, at + 3), data })) return;
      } else {
        const layout = checkHeader(id, length);
        if (length > end - at) break;
        if (!sink(readCommand(layout, chunk, at, length, this.version))) return;
      }
      at += length;
    }
    if (at < end) this.#hold(chunk, at);
  }

  /** Adds octets from `at` on to the unfinished command, up to its end; returns the offset after them. */
  #hold(chunk: Uint8Array, at: number): number {
    let next = at;
    while (this.#partial === undefined) {
      if (next >= chunk.length) return next;
      this.#header[this.#held++] = chunk[next++] as number;
      if (this.#held < COMMAND_HEADER_OCTETS) continue;
      const length = u16(this.#header, 1);
      checkHeader(this.#header[0] as number, length);
      this.#partial = new Uint8Array(length);
      this.#partial.set(this.#header);
    }
    const partial = this.#partial;
    const count = Math.min(partial.length - this.#held, chunk.length - next);
    partial.set(chunk.subarray(next, next + count), this.#held);
    this.#held += count;
    return next + count;
  }
}

/**
 * Decodes octets that are whole commands.
 *
 * @throws WireError also when the last command is not whole.
 */
export function decode(octets: Uint8Array, version: Version): Command[] {
  const commands: Command[] = [];
  const decoder = new Decoder(version);
  decoder.push(octets, (command) => {
    commands.push(command);
    return true;
  });
  if (decoder.held.length > 0) throw new WireError("truncated", "the octets end inside a command");
  return commands;
}
