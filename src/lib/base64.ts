/**
 * Base64 with padding [RFC 4648 4], of any length: it runs in every runtime.
 *
 * @module
 */

/** Bytes of one piece: a multiple of three, and few enough to be the arguments of one call. */
const PIECE = 24_576;

export function encodeBase64(octets: Uint8Array): string {
  let text = "";
  for (let at = 0; at < octets.length; at += PIECE)
    text += btoa(String.fromCharCode(...octets.subarray(at, at + PIECE)));
  return text;
}
