/** Joins pieces of bytes. */

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
