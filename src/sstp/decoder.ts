/** Decodes bytes to commands. Layouts are in `wire.ts`; this file only knows how to read each kind of field. */

import type { Command, CommandName, FanoutDeviceEntry, FieldKind, Layout, Version } from "./wire.ts";
import {
  COMMAND_HEADER_OCTETS,
  DATA_HEADER_OCTETS,
  layouts,
  MESSAGE_CHOICE_FLAGS,
  MessageFlag,
  VERSION_1_6,
} from "./wire.ts";
import { WireError, type WireErrorCode } from "./wire-error.ts";

const presenceMask = MessageFlag.Ephemeral | MessageFlag.StreamSize | MessageFlag.Fragmentation;
const { id: DATA_ID, maxLength: DATA_MAX } = layouts.Data;
const NO_OCTETS = new Uint8Array(0);

function u16(octets: Uint8Array, at: number): number {
  return (octets[at] as number) | ((octets[at + 1] as number) << 8);
}

function u32(octets: Uint8Array, at: number): number {
  return (u16(octets, at) | (u16(octets, at + 2) << 16)) >>> 0;
}

/** Bytes per String.fromCharCode call, which takes them as arguments; more could overflow the stack. */
const TEXT_PIECE = 4096;

/** A Node Buffer, which converts to text much faster. */
interface Sliceable extends Uint8Array {
  latin1Slice(start: number, end: number): string;
}

/** Converts ASCII bytes to text. All SSTP strings are ASCII. */
export function textOf(octets: Uint8Array | Sliceable, start: number, end: number): string {
  if ("latin1Slice" in octets) return octets.latin1Slice(start, end);
  let text = "";
  for (let from = start; from < end; from += TEXT_PIECE) {
    // Faster than passing a view, since most texts are short.
    const codes = new Array<number>(Math.min(TEXT_PIECE, end - from));
    for (let i = 0; i < codes.length; i++) codes[i] = octets[from + i] as number;
    text += String.fromCharCode(...codes);
  }
  return text;
}

/** Reads one field. Returns undefined if it has no value or is absent. */
type ReadField = (reader: Reader) => unknown;

/** Position in the command being read. Decoding is synchronous and not re-entrant, so one instance serves all. */
class Reader {
  octets: Uint8Array = NO_OCTETS;
  at = 0;
  end = 0;
  version: Version = VERSION_1_6;
  /** Flags of the Message being read. */
  flags = 0;
  /** For error messages. */
  name: CommandName = "Noop";
  field = "";

  get left(): number {
    return this.end - this.at;
  }

  fail(code: WireErrorCode, what: string): never {
    throw new WireError(code, `${this.name}.${this.field} ${what}`);
  }

  skip(count: number): number {
    const { at } = this;
    if (count > this.end - at) this.fail("truncated", "runs past CommandLength");
    this.at = at + count;
    return at;
  }

  u8(): number {
    const at = this.skip(1);
    return this.octets[at] as number;
  }

  u16(): number {
    return u16(this.octets, this.skip(2));
  }

  u32(): number {
    return u32(this.octets, this.skip(4));
  }

  u64(): bigint {
    return BigInt(this.u32()) | (BigInt(this.u32()) << 32n);
  }

  zstring(): string {
    const { octets, at: start, end } = this;
    let at = start;
    for (; ; at++) {
      if (at >= end) this.fail("truncated", "has no NUL before the end of the command");
      const code = octets[at] as number;
      if (code === 0) break;
      if (code > 0x7f) this.fail("not-ascii", `has octet ${code} at offset ${at - start}: strings are ASCII`);
    }
    this.at = at + 1;
    return textOf(octets, start, at);
  }

  // Returns a view. The caller must copy it if it has to outlive the chunk.
  view(count: number): Uint8Array {
    const at = this.skip(count);
    return this.octets.subarray(at, at + count);
  }

  octets16(): Uint8Array {
    // Copy: a Buffer's slice would be a view.
    return new Uint8Array(this.view(this.u16()));
  }
}

function readEntry(reader: Reader): FanoutDeviceEntry {
  const identityURL = reader.zstring();
  const deviceURL = reader.zstring();
  const relayURL = reader.zstring();
  const failoverDeviceURLs = reader.version.minor < 6 ? "" : reader.zstring();
  return failoverDeviceURLs === ""
    ? { identityURL, deviceURL, relayURL }
    : { identityURL, deviceURL, relayURL, failoverDeviceURLs };
}

const readers: { readonly [K in FieldKind]: ReadField } = {
  u8: (reader) => reader.u8(),
  u32: (reader) => reader.u32(),
  reserved8(reader) {
    reader.skip(1);
  },
  reserved16(reader) {
    reader.skip(2);
  },
  filled(reader) {
    const text = reader.zstring();
    if (text === "") reader.fail("empty-field", "is empty: it MUST name something");
    return text;
  },
  zstring: (reader) => reader.zstring(),
  zstrings8(reader) {
    const texts: string[] = [];
    for (let left = reader.u8(); left > 0; left--) texts.push(reader.zstring());
    return texts;
  },
  octets: (reader) => reader.view(reader.left),
  octets16: (reader) => reader.octets16(),
  entries16(reader) {
    const entries: FanoutDeviceEntry[] = [];
    for (let left = reader.u16(); left > 0; left--) entries.push(readEntry(reader));
    return entries;
  },
  messageFlags(reader) {
    reader.flags = reader.u8() & (MESSAGE_CHOICE_FLAGS | presenceMask);
    return reader.flags;
  },
  ephemeral: (reader) => (reader.flags & MessageFlag.Ephemeral ? reader.u32() : undefined),
  streamSize: (reader) =>
    reader.flags & MessageFlag.StreamSize ? [reader.u64(), reader.u64(), reader.u64()] : undefined,
  fragmentation: (reader) => (reader.flags & MessageFlag.Fragmentation ? reader.octets16() : undefined),
  indexes16(reader) {
    if (reader.version.minor < 6 || reader.left === 0) return undefined;
    const indexes: number[] = [];
    for (let left = reader.u16(); left > 0; left--) indexes.push(reader.u16());
    return indexes;
  },
};

function readFields(name: CommandName, fields: Layout["fields"]): (reader: Reader) => Command {
  const steps = fields.map(([field, kind]) => ({ field, read: readers[kind] }));
  return (reader) => {
    const command: Record<string, unknown> = { command: name };
    for (const { field, read } of steps) {
      reader.field = field;
      const value = read(reader);
      if (value !== undefined) command[field] = value;
    }
    return command as unknown as Command;
  };
}

const readMessage = readFields("Message", layouts.Message.fields);

/**
 * Fast paths for the commands that, with Data, make up every message: setting their fields one by one would dominate
 * the cost. The encoder has no fast paths, so the tests check these against the layouts.
 */
const quickReaders: { readonly [N in CommandName]?: (reader: Reader) => Command } = {
  Message(reader) {
    const start = reader.at;
    reader.field = "sessionId";
    const sessionId = reader.u32();
    reader.field = "messageCount";
    const messageCount = reader.u32();
    reader.field = "flags";
    const flags = reader.u8() & (MESSAGE_CHOICE_FLAGS | presenceMask);
    if ((flags & presenceMask) !== 0) {
      reader.at = start;
      return readMessage(reader);
    }
    reader.field = "userRef";
    return { command: "Message", sessionId, messageCount, flags, userRef: reader.zstring() };
  },
  EndMessage(reader) {
    reader.field = "sessionId";
    return { command: "EndMessage", sessionId: reader.u32() };
  },
};

/** A layout with its field readers resolved. */
interface CommandReader {
  readonly name: CommandName;
  readonly maxLength: number;
  readonly read: (reader: Reader) => Command;
}

const reader = new Reader();

const readerOf: (CommandReader | undefined)[] = [];
for (const name of Object.keys(layouts) as CommandName[]) {
  const { id, maxLength, fields }: Layout = layouts[name];
  readerOf[id] = { name, maxLength, read: quickReaders[name] ?? readFields(name, fields) };
}

/** The layout for a header. Throws on an invalid header before anything is buffered for it. */
function checkHeader(id: number, length: number): CommandReader {
  const layout = readerOf[id];
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

function readCommand(layout: CommandReader, octets: Uint8Array, at: number, length: number, version: Version): Command {
  reader.name = layout.name;
  reader.version = version;
  reader.octets = octets;
  reader.at = at + COMMAND_HEADER_OCTETS;
  reader.end = at + length;
  const command = layout.read(reader);
  if (reader.left > 0) {
    throw new WireError("trailing-octets", `${layout.name} has ${reader.left} octets after its last field`);
  }
  // Release the chunk; otherwise it would stay in memory until the next read.
  reader.octets = NO_OCTETS;
  return command;
}

/** Receives each decoded command. Returning `false` stops the decoder and drops the rest of the chunk. */
export type CommandSink = (command: Command) => boolean;

/**
 * Extracts commands from a byte stream that arrives in chunks of any size.
 *
 * Data payloads that lie whole in a chunk are views of it, valid while the caller leaves the chunk unchanged.
 * Everything else is copied. Between chunks at most one incomplete command (65535 octets) is kept.
 */
export class Decoder {
  /** The connection's version. The sink may change it; the next command uses the new value. */
  version: Version;
  readonly #header = new Uint8Array(COMMAND_HEADER_OCTETS);
  #partial: Uint8Array | undefined;
  #held = 0;
  #failure: WireError | undefined;

  /** @param held bytes of an incomplete command, from `held` of another decoder */
  constructor(version: Version, held?: Uint8Array) {
    this.version = version;
    if (held !== undefined) this.#hold(held, 0);
  }

  /** A copy of the incomplete command's bytes. */
  get held(): Uint8Array {
    return (this.#partial ?? this.#header).slice(0, this.#held);
  }

  /**
   * Decodes `chunk` and passes each command to `sink`, in order.
   *
   * @throws WireError at the first bytes that are not a command, after earlier commands went to `sink`. The stream
   *   cannot be resumed: every later call throws the same error
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

  /** Appends bytes from `at` on to the incomplete command, up to its end. Returns the offset after them. */
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
 * Decodes bytes that consist of whole commands.
 *
 * @throws WireError also if the last command is incomplete
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
