/**
 * The device's token: fixed, or from a provider.
 *
 * @module
 */
import { sleep } from "../lib/runtime/timeout.ts";
import { DeviceError } from "./device-error.ts";
import { CONNECT_TIMEOUT } from "./limits.ts";

/** An operator's token, or a provider that is called for each new connection. */
export type TokenSource = string | (() => string | Promise<string>);

/**
 * Gets the token for a new connection. A provider must answer within CONNECT_TIMEOUT (35 s).
 *
 * @throws DeviceError ConnectFailed, retryable, if the provider fails; InvalidOption if the token is malformed
 */
export async function tokenFrom(source: TokenSource | undefined, closing: AbortSignal): Promise<string | undefined> {
  if (source === undefined) return undefined;
  const token = typeof source === "string" ? source : await promptly(source, closing);
  // The error must not contain the token.
  if (/^[\w.~+/-]+=*$/.test(token)) return token;
  const why = token === "" ? "is empty" : "contains characters that are invalid in a token";
  throw new DeviceError("InvalidOption", `the token ${why}: check that it is complete`);
}

async function promptly(source: () => string | Promise<string>, closing: AbortSignal): Promise<string> {
  const given = new AbortController();
  const signal = AbortSignal.any([closing, given.signal]);
  const late = async (): Promise<never> => {
    await sleep(CONNECT_TIMEOUT, signal);
    signal.throwIfAborted();
    throw new Error(`no token within ${CONNECT_TIMEOUT} ms`);
  };
  try {
    return await Promise.race([source(), late()]);
  } catch (cause) {
    const why = "the token provider failed; see cause";
    throw new DeviceError("ConnectFailed", why, { cause });
  } finally {
    given.abort();
  }
}

/** The header that carries a token [RFC 6750 2.1]. */
export function authorization(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { Authorization: `Bearer ${token}` };
}
