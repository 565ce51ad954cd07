/**
 * Headers that are passed on. Those about one connection belong to that connection [RFC 9110 7.6.1], and host and length
 * are made anew.
 *
 * @module
 */
import type { Header } from "./head.ts";

const OF_ONE_CONNECTION: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Headers that `Connection` cannot take away: without them the body, or who sent it, would be read differently. */
const ALWAYS_KEPT = /^(?:content-|authorization$|.*signature)/;

/** The headers to pass on, in their order. */
export function forwardedHeaders(headers: readonly Header[]): Header[] {
  const named = new Set(
    headers
      .filter(([name]) => name.toLowerCase() === "connection")
      .flatMap(([, value]) => value.split(","))
      .map((name) => name.trim().toLowerCase())
      .filter((name) => !ALWAYS_KEPT.test(name)),
  );
  return headers.filter(([name]) => {
    const key = name.toLowerCase();
    return !OF_ONE_CONNECTION.has(key) && !named.has(key);
  });
}
