/**
 * The contents of a record: frames, which only the two devices read.
 *
 *   received   8 octets    number of the first record that this side has not received
 *   frames
 *
 *   1  open     stream 4, length 1, service           begins a stream
 *   2  data     stream 4, length 2, octets
 *   3  credit   stream 4, limit 8                      how many octets of data may be sent in all; the first accepts
 *   4  end      stream 4                               half-close: no data follows
 *   5  reset    stream 4, reason 1                     ends both directions at once
 *   6  ping                                            asks for an acknowledgement
 *   7  resume                                          asks for what follows `received`, again
 *   8  close    reason 1                               ends the channel
 *
 * @module
 */
import { TAG_OCTETS } from "./ciphers.ts";
import { BODY_OCTETS, SERVICE_OCTETS } from "./limits.ts";
import { RECORD_HEADER } from "./packet.ts";
import { REASONS, type Reason, reasonOf, Violation } from "./reasons.ts";

export type Frame =
  | { readonly type: "open"; readonly stream: number; readonly service: string }
  | { readonly type: "data"; readonly stream: number; readonly data: Uint8Array }
  | { readonly type: "credit"; readonly stream: number; readonly limit: number }
  | { readonly type: "end"; readonly stream: number }
  | { readonly type: "reset"; readonly stream: number; readonly reason: Reason }
  | { readonly type: "ping" }
  | { readonly type: "resume" }
  | { readonly type: "close"; readonly reason: Reason };

const TYPE = { open: 1, data: 2, credit: 3, end: 4, reset: 5, ping: 6, resume: 7, close: 8 } as const;

/** Octets before the frames. */
const RECEIVED_OCTETS = 8;

/** Octets of a data frame before its data. */
export const DATA_HEADER = 7;

/** Octets of a record with one data frame, beside the data. */
export const RECORD_OVERHEAD = RECEIVED_OCTETS + DATA_HEADER;

/** The longest contents of a record. */
const CONTENT_OCTETS = BODY_OCTETS - RECORD_HEADER - TAG_OCTETS;

/** Whether a text can name a service: 1 to SERVICE_OCTETS visible ASCII characters. */
export function isServiceName(text: string): boolean {
  return text.length <= SERVICE_OCTETS && /^[\x21-\x7e]+$/.test(text);
}

/** Reads an integer of eight octets; undefined if it is 2^53 or more. */
function integerAt(view: DataView, at: number): number | undefined {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Composes the contents of records, one at a time, in the same memory. */
export class RecordWriter {
  readonly #octets = new Uint8Array(CONTENT_OCTETS);
  readonly #view = new DataView(this.#octets.buffer);
  #at = 0;

  /** Octets that still fit. */
  get room(): number {
    return CONTENT_OCTETS - this.#at;
  }

  /** Whether there is no frame. */
  get empty(): boolean {
    return this.#at === RECEIVED_OCTETS;
  }

  /** What was written since `begin`: a view, valid until the next record. */
  get contents(): Uint8Array {
    return this.#octets.subarray(0, this.#at);
  }

  /** Begins a record. */
  begin(received: number): void {
    this.#at = 0;
    this.#u64(received);
  }

  /** Appends a frame. Returns false, and appends nothing, if it does not fit. */
  append(frame: Frame): boolean {
    if (frame.type === "data") return this.data(frame.stream, [frame.data], frame.data.length);
    if (this.room < octetsOf(frame)) return false;
    this.#u8(TYPE[frame.type]);
    if ("stream" in frame) this.#u32(frame.stream);
    switch (frame.type) {
      case "open":
        this.#u8(frame.service.length);
        for (let at = 0; at < frame.service.length; at += 1) this.#u8(frame.service.charCodeAt(at));
        break;
      case "credit":
        this.#u64(frame.limit);
        break;
      case "reset":
      case "close":
        this.#u8(REASONS[frame.reason].code);
        break;
    }
    return true;
  }

  /** Appends one data frame made of pieces of `length` octets in all. Returns false if it does not fit. */
  data(stream: number, pieces: readonly Uint8Array[], length: number): boolean {
    if (this.room < DATA_HEADER + length) return false;
    this.#u8(TYPE.data);
    this.#u32(stream);
    this.#view.setUint16(this.#at, length);
    this.#at += 2;
    for (const piece of pieces) {
      this.#octets.set(piece, this.#at);
      this.#at += piece.length;
    }
    return true;
  }

  #u8(value: number): void {
    this.#octets[this.#at++] = value;
  }

  #u32(value: number): void {
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
  }

  #u64(value: number): void {
    this.#u32(Math.floor(value / 2 ** 32));
    this.#u32(value >>> 0);
  }
}

/** Octets of a frame other than data. */
function octetsOf(frame: Frame): number {
  switch (frame.type) {
    case "open":
      return 6 + frame.service.length;
    case "credit":
      return 13;
    case "end":
      return 5;
    case "reset":
      return 6;
    case "close":
      return 2;
    default:
      return 1;
  }
}

/** Reads the contents of one record. */
export class RecordReader {
  readonly #octets: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  /** Number of the first record that the sender has not received. */
  readonly received: number;

  /** @throws Violation `MalformedFrame` */
  constructor(contents: Uint8Array) {
    this.#octets = contents;
    this.#view = new DataView(contents.buffer, contents.byteOffset, contents.length);
    this.received = this.#u64();
  }

  /**
   * The next frame; undefined after the last. Data is a view.
   *
   * @throws Violation `MalformedFrame` or `UnknownFrame`
   */
  next(): Frame | undefined {
    if (this.#at === this.#octets.length) return undefined;
    const type = this.#u8();
    switch (type) {
      case TYPE.open: {
        const stream = this.#u32();
        const service = String.fromCharCode(...this.#take(this.#u8()));
        if (!isServiceName(service)) throw new Violation("MalformedFrame");
        return { type: "open", stream, service };
      }
      case TYPE.data: {
        const stream = this.#u32();
        const data = this.#take(this.#u16());
        if (data.length === 0) throw new Violation("MalformedFrame");
        return { type: "data", stream, data };
      }
      case TYPE.credit:
        return { type: "credit", stream: this.#u32(), limit: this.#u64() };
      case TYPE.end:
        return { type: "end", stream: this.#u32() };
      case TYPE.reset:
        return { type: "reset", stream: this.#u32(), reason: reasonOf(this.#u8()) };
      case TYPE.ping:
        return { type: "ping" };
      case TYPE.resume:
        return { type: "resume" };
      case TYPE.close:
        return { type: "close", reason: reasonOf(this.#u8()) };
      default:
        throw new Violation("UnknownFrame");
    }
  }

  #take(count: number): Uint8Array {
    return this.#octets.subarray(this.#skip(count), this.#at);
  }

  #u8(): number {
    return this.#view.getUint8(this.#skip(1));
  }

  #u16(): number {
    return this.#view.getUint16(this.#skip(2));
  }

  #u32(): number {
    return this.#view.getUint32(this.#skip(4));
  }

  #u64(): number {
    const value = integerAt(this.#view, this.#skip(8));
    if (value === undefined) throw new Violation("MalformedFrame");
    return value;
  }

  #skip(count: number): number {
    const at = this.#at;
    if (count > this.#octets.length - at) throw new Violation("MalformedFrame");
    this.#at = at + count;
    return at;
  }
}
