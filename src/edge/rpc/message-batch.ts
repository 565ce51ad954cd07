/**
 * MessageBatch: the format of messages between objects and in a mailbox. Messages are concatenated bytes; an envelope
 * that many share is stored once. No object on the way from the sender's Tunnel to the reader's decodes them one by
 * one.
 *
 *   message  = envelope, flags, length of id, length of body, id, [ephemeral], [stream size], [fragmentation], [body]
 *   envelope = index into the batch's envelopes (2)   flags = 1        length of id = 2        length of body = 4
 *
 * All numbers are little-endian. A body that is stored elsewhere, in rows of its own, has its length here but no bytes.
 *
 * @module
 */
import { type StreamSize, textOf } from "../../sstp/index.ts";
import type { Envelope, Fields, Mail } from "../../store-and-forward/envelope.ts";

/** A batch of messages, in order. */
export interface MessageBatch {
  readonly envelopes: readonly Envelope[];
  readonly octets: Uint8Array;
}

/** Offsets of a batch's messages, followed by the end of the last, and the lengths of their bodies. */
export interface Contents {
  readonly starts: readonly number[];
  readonly sizes: readonly number[];
}

const FLAGS_AT = 2;
const HEADER_OCTETS = 9;
const FLAG = { track: 1, ephemeral: 2, streamSize: 4, fragmentation: 8, elsewhere: 16 } as const;

/** Length of a message without its body. */
function overhead({ userRef, ephemeral, streamSize, fragmentation }: Fields): number {
  const numbers = (ephemeral === undefined ? 0 : 4) + (streamSize === undefined ? 0 : 24);
  return HEADER_OCTETS + userRef.length + numbers + (fragmentation === undefined ? 0 : 2 + fragmentation.length);
}

/** Length of a message in a batch, without its envelope. */
export function lengthOfMail({ fields, body }: Pick<Mail, "fields" | "body">): number {
  return overhead(fields) + body.length;
}

/** Makes a batch in its own memory: RPC sends the whole buffer that a view belongs to. */
export function pack(mails: readonly Mail[]): MessageBatch {
  let length = 0;
  for (const { fields, body } of mails) length += overhead(fields) + body.length;
  const octets = new Uint8Array(length);
  const view = new DataView(octets.buffer);
  const envelopes: Envelope[] = [];
  const numbers = new Map<Envelope, number>();
  let at = 0;
  for (const { envelope, fields, body } of mails) {
    const { userRef, track, ephemeral, streamSize, fragmentation } = fields;
    let number = numbers.get(envelope);
    if (number === undefined) {
      number = envelopes.push(envelope) - 1;
      numbers.set(envelope, number);
    }
    view.setUint16(at, number, true);
    octets[at + FLAGS_AT] =
      (track ? FLAG.track : 0) |
      (ephemeral === undefined ? 0 : FLAG.ephemeral) |
      (streamSize === undefined ? 0 : FLAG.streamSize) |
      (fragmentation === undefined ? 0 : FLAG.fragmentation);
    view.setUint16(at + 3, userRef.length, true);
    view.setUint32(at + 5, body.length, true);
    at += HEADER_OCTETS;
    // ASCII, as all strings of SSTP are.
    for (let i = 0; i < userRef.length; i += 1) octets[at + i] = userRef.charCodeAt(i);
    at += userRef.length;
    if (ephemeral !== undefined) {
      view.setUint32(at, ephemeral, true);
      at += 4;
    }
    for (const part of streamSize ?? []) {
      view.setBigUint64(at, part, true);
      at += 8;
    }
    if (fragmentation !== undefined) {
      view.setUint16(at, fragmentation.length, true);
      octets.set(fragmentation, at + 2);
      at += 2 + fragmentation.length;
    }
    octets.set(body, at);
    at += body.length;
  }
  return { envelopes, octets };
}

/** Decodes a batch in which no body is stored elsewhere. Bodies are views into it. */
export function unpack({ envelopes, octets }: MessageBatch): Mail[] {
  const view = viewOf(octets);
  const mails: Mail[] = [];
  for (let at = 0; at < octets.length; ) {
    const envelope = envelopes[view.getUint16(at, true)];
    if (envelope === undefined) throw new RangeError("a message of a bundle has no envelope");
    const flags = octets[at + FLAGS_AT] ?? 0;
    const size = view.getUint32(at + 5, true);
    const userRef = textOf(octets, at + ID_AT, at + ID_AT + idLengthAt(octets, at));
    at += ID_AT + userRef.length;
    let ephemeral: number | undefined;
    if (flags & FLAG.ephemeral) {
      ephemeral = view.getUint32(at, true);
      at += 4;
    }
    let streamSize: StreamSize | undefined;
    if (flags & FLAG.streamSize) {
      streamSize = [view.getBigUint64(at, true), view.getBigUint64(at + 8, true), view.getBigUint64(at + 16, true)];
      at += 24;
    }
    let fragmentation: Uint8Array | undefined;
    if (flags & FLAG.fragmentation) {
      const end = at + 2 + view.getUint16(at, true);
      fragmentation = octets.subarray(at + 2, end);
      at = end;
    }
    const body = octets.subarray(at, at + size);
    at += size;
    const track = (flags & FLAG.track) !== 0;
    mails.push({ envelope, fields: { userRef, track, ephemeral, streamSize, fragmentation }, body });
  }
  return mails;
}

/** Finds the messages of a batch. */
export function contentsOf(octets: Uint8Array): Contents {
  const view = viewOf(octets);
  const starts: number[] = [];
  const sizes: number[] = [];
  let at = 0;
  while (at < octets.length) {
    starts.push(at);
    const flags = octets[at + FLAGS_AT] ?? 0;
    const size = view.getUint32(at + 5, true);
    sizes.push(size);
    at += ID_AT + idLengthAt(octets, at);
    if (flags & FLAG.ephemeral) at += 4;
    if (flags & FLAG.streamSize) at += 24;
    if (flags & FLAG.fragmentation) at += 2 + view.getUint16(at, true);
    if (!(flags & FLAG.elsewhere)) at += size;
  }
  starts.push(at);
  return { starts, sizes };
}

/** Index of a message's envelope. */
export function envelopeAt(octets: Uint8Array, start: number): number {
  return (octets[start] ?? 0) | ((octets[start + 1] ?? 0) << 8);
}

/** Offset of a message's id from the start of the message. */
export const ID_AT = HEADER_OCTETS;

/** Length of a message's id; 0 if its sender gave none. */
export function idLengthAt(octets: Uint8Array, start: number): number {
  return (octets[start + 3] ?? 0) | ((octets[start + 4] ?? 0) << 8);
}

/** Whether a message's body is stored elsewhere. */
export function isElsewhere(octets: Uint8Array, start: number): boolean {
  return ((octets[start + FLAGS_AT] ?? 0) & FLAG.elsewhere) !== 0;
}

/** A copy of a message whose body is stored elsewhere. */
export function withoutBody(message: Uint8Array, size: number): Uint8Array {
  const rest = message.slice(0, message.length - size);
  rest[FLAGS_AT] = (rest[FLAGS_AT] ?? 0) | FLAG.elsewhere;
  return rest;
}

/** An empty message, to keep the place of one that has left the mailbox. */
export function emptyMessage(envelope: number): Uint8Array {
  const octets = new Uint8Array(HEADER_OCTETS);
  viewOf(octets).setUint16(0, envelope, true);
  return octets;
}

/** A copy of a message whose body is stored elsewhere, as it is when its body follows. */
export function followedByBody(message: Uint8Array): Uint8Array {
  const head = new Uint8Array(message);
  head[FLAGS_AT] = (head[FLAGS_AT] ?? 0) & ~FLAG.elsewhere;
  return head;
}

/** Length of a batch's message including its body, wherever that is stored. */
export function lengthOf(octets: Uint8Array, { starts, sizes }: Contents, index: number): number {
  const start = starts[index] ?? 0;
  return (starts[index + 1] ?? start) - start + (isElsewhere(octets, start) ? (sizes[index] ?? 0) : 0);
}

/**
 * Removes the envelopes that no message of a batch uses. Changes the batch's bytes in place.
 *
 * @param used indexes of the envelopes in use
 */
export function renumbered({ envelopes, octets }: MessageBatch, used: readonly number[]): MessageBatch {
  const numbers = new Map(used.map((before, number) => [before, number]));
  const view = viewOf(octets);
  const { starts, sizes } = contentsOf(octets);
  for (const [index, start] of starts.entries()) {
    if (index < sizes.length) view.setUint16(start, numbers.get(envelopeAt(octets, start)) ?? 0, true);
  }
  return { envelopes: used.flatMap((number) => envelopes[number] ?? []), octets };
}

function viewOf(octets: Uint8Array): DataView {
  return new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
}
