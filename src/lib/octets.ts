/** Octets in pieces. */

/**
 * The pieces as one, copied.
 *
 * @param length of all of them together, in octets
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
