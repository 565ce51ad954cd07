/**
 * Encodes short texts into shared buffers. An ArrayBuffer costs more than the encoding of a short text: memory outside
 * the heap, and work for the garbage collector.
 *
 * @module
 */

/**
 * Size of a buffer in bytes. A text that is kept keeps its whole buffer, so it is only a few times what a message in an
 * outbox takes beside its body.
 */
const BUFFER_OCTETS = 4096;

/** Longer texts, in characters, get their own buffer: fewer than ten of them might share one. */
const SHORT = 128;

/** The most bytes that a character takes in UTF-8. */
const CHARACTER_OCTETS = 3;

const encoder = new TextEncoder();

let buffer: Uint8Array = new Uint8Array(0);
let used = 0;

/** Encodes a text as UTF-8. The buffer of the result may have other texts in it: do not write to it or transfer it. */
export function encodeText(text: string): Uint8Array {
  if (text.length > SHORT) return encoder.encode(text);
  const most = text.length * CHARACTER_OCTETS;
  if (used + most > buffer.length) {
    buffer = new Uint8Array(BUFFER_OCTETS);
    used = 0;
  }
  const begin = used;
  used += encoder.encodeInto(text, buffer.subarray(begin, begin + most)).written;
  return buffer.subarray(begin, used);
}
