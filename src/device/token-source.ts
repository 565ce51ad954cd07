/**
 * The token of a device, whoever gives it.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { DeviceError } from "./device-error.ts";
import { CONNECT_TIMEOUT } from "./limits.ts";

/** A token of the edge's operator, or where to get one, which is asked for each new connection. */
export type TokenSource = string | (() => string | Promise<string>);

/**
 * The token for a new connection. Whoever gives it may take his time, but not more than a connection may.
 *
 * @throws DeviceError ConnectFailed, InvalidOption
 */
export async function tokenFrom(source: TokenSource | undefined, closing: AbortSignal): Promise<string | undefined> {
  if (source === undefined) return undefined;
  const token = typeof source === "string" ? source : await promptly(source, closing);
  // What cannot stand in a header is told here, and not what it is.
  if (/^[\w.~+/-]+=*$/.test(token)) return token;
  throw new DeviceError("InvalidOption", "the token has characters that no token has: look whether it is whole");
}

async function promptly(source: () => string | Promise<string>, closing: AbortSignal): Promise<string> {
  const given = new AbortController();
  const signal = AbortSignal.any([closing, given.signal]);
  const late = async (): Promise<never> => {
    await sleep(CONNECT_TIMEOUT, undefined, { signal });
    throw new Error(`nothing came within ${CONNECT_TIMEOUT} ms`);
  };
  try {
    return await Promise.race([source(), late()]);
  } catch (cause) {
    const why = "no token could be had: the error of who should give it is the cause of this one";
    throw new DeviceError("ConnectFailed", why, { retryable: true, cause });
  } finally {
    given.abort();
  }
}

/** The header that carries a token [RFC 6750 2.1]. */
export function authorization(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { Authorization: `Bearer ${token}` };
}
