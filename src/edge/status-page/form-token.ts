/**
 * One-time tokens of forms. A token names the form, the time and a number, and has their HMAC under the id of the session,
 * which only the operator's browser knows besides the Worker. So making one costs no storage, and none is good for another
 * session or another form. That it is taken once is remembered by the session.
 *
 * @module
 */
import { base64url } from "jose";
import { FORM_LIFE } from "../operator-sessions/limits.ts";

/** Bytes of the number that makes each token another. */
const NUMBER_OCTETS = 16;

/**
 * Makes the token of a form.
 *
 * @param session the id of the session
 * @param form what the form does
 * @param now milliseconds since 1970
 */
export async function makeFormToken(session: string, form: string, now: number): Promise<string> {
  const number = base64url.encode(crypto.getRandomValues(new Uint8Array(NUMBER_OCTETS)));
  const signed = await crypto.subtle.sign("HMAC", await keyOf(session), textOf(form, number, now));
  return `${number}.${now}.${base64url.encode(new Uint8Array(signed))}`;
}

/**
 * Reads the token of a form.
 *
 * @returns what identifies it, for the session to take it once; undefined if it is another form's, forged, or too old
 */
export async function readFormToken(
  session: string,
  form: string,
  token: string,
  now: number,
): Promise<string | undefined> {
  const [, number = "", time = "", signature = ""] = /^([\w-]{22})\.([1-9]\d{0,15})\.([\w-]{43})$/.exec(token) ?? [];
  const made = Number(time);
  // It has no other spelling: the session remembers this one.
  if (signature === "" || base64url.encode(base64url.decode(number)) !== number) return undefined;
  if (Math.abs(now - made) > FORM_LIFE) return undefined;
  const octets = Uint8Array.from(base64url.decode(signature));
  const isGood = await crypto.subtle.verify("HMAC", await keyOf(session), octets, textOf(form, number, made));
  return isGood ? number : undefined;
}

function textOf(form: string, number: string, time: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(new TextEncoder().encode(`${form}\n${number}\n${time}`));
}

function keyOf(session: string): Promise<CryptoKey> {
  const octets = new TextEncoder().encode(session);
  return crypto.subtle.importKey("raw", octets, { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
}
