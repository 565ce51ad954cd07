/**
 * Octets to commands. What lies where is in `wire.ts`; this file only knows how each kind of field is read.
 */

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

/** String.fromCharCode takes its octets as arguments; more than this many could exceed the stack. */
const TEXT_PIECE = 4096;

/** Octets as a socket of Node gives them: its Buffer makes text of them in a fraction of the time. */
interface Sliceable extends Uint8Array {
  latin1Slice(start: number, end: number): string;
}

/** The text of octets that are known to be ASCII, as all strings of SSTP are. */
export function textOf(octets: Uint8Array | Sliceable, start: number, end: number): string {
  if ("latin1Slice" in octets) return octets.latin1Slice(start, end);
  let text = "";
  for (let from = start; from < end; from += TEXT_PIECE) {
    // Quicker than to give it a view of the octets: most texts are short.
    const codes = new Array<number>(Math.min(TEXT_PIECE, end - from));
    for (let i = 0; i < codes.length; i++) codes[i] = octets[from + i] as number;
    text += String.fromCharCode(...codes);
  }
  return text;
}

/** Reads one field; undefined when it carries no value, or is absent. */
type ReadField = (reader: Reader) => unknown;

/** Where a command is being read. Decoding of a command is synchronous and never re-entered, so one serves all. */
class Reader {
  octets: Uint8Array = NO_OCTETS;
  at = 0;
  end = 0;
  version: Version = VERSION_1_6;
  /** Of the Message that is being read. */
  flags = 0;
  /** For errors. */
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

  // A view: the caller decides whether it must outlive the chunk.
  view(count: number): Uint8Array {
    const at = this.skip(count);
    return this.octets.subarray(at, at + count);
  }

  octets16(): Uint8Array {
    // A Buffer's slice would be a view.
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
 * With Data, what every message consists of: to put its fields in one by one would cost more than all else that is done
 * for it. The encoder has no such exceptions, so the tests hold these to the layouts.
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

/** A layout made ready: what reads its fields is looked up once. */
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

/** The layout that a header names, or the error that the header deserves: before anything is kept for it. */
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
  // Or the chunk would stay for as long as nothing else is read.
  reader.octets = NO_OCTETS;
  return command;
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
