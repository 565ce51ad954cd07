/** Joins, compares and frees bytes. */

/**
 * Copies all pieces into one array.
 *
 * @param length total length in bytes
 */
export function joinOctets(pieces: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/**
 * Frees bytes that nobody uses any more, if they have a buffer of their own. Views of them become empty. The garbage
 * collector would free them too, but V8 lets 64 MiB of dead buffers gather before it collects them for their size. In a
 * browser without `transfer` that is left to the collector.
 */
export function release(octets: Uint8Array): void {
  const { buffer, length } = octets;
  if (length > 0 && buffer.byteLength === length) free(buffer);
}

/** Frees memory that nobody uses any more, whatever views of it there are. */
export function free(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer && "transfer" in buffer) buffer.transfer(0);
}

/** Whether bytes are equal, in a time that does not tell where they differ. Their lengths are no secret. */
export function isEqualOctets(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  let different = 0;
  for (let at = 0; at < one.length; at += 1) different |= (one[at] ?? 0) ^ (other[at] ?? 0);
  return different === 0;
}
