/**
 * Where a request of somebody else is sent below a server's URL. Path and query may come from anybody, so they may
 * change neither scheme, host and port nor the given prefix, however the server and the programs behind it read them.
 *
 * @module
 */
import type { Result } from "../lib/result.ts";
import { isTarget, targetText } from "./http-message.ts";
import { DECODINGS } from "./limits.ts";

/** A server and the prefix of all paths there. */
export interface ServerAddress {
  /** Scheme, host and port: `http://localhost:3000`. */
  readonly origin: string;
  /** Begins with a slash and does not end with one; empty for the root. */
  readonly prefix: string;
}

/** Parses the URL of a server: http or https, without credentials, query and fragment. */
export function parseServer(text: string): Result<ServerAddress, string> {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return wrong("it is not a URL such as http://localhost:3000");
  }
  if (url.username !== "" || url.password !== "") return wrong("leave out the user name and password");
  // A question mark or a hash without anything after it counts too.
  if (/[?#]/.test(text)) return wrong("leave out the query and the fragment");
  const prefix = url.pathname.replace(/\/+$/, "");
  const checked = safePath(url.pathname);
  return checked.ok ? { ok: true, value: { origin: url.origin, prefix } } : checked;
}

/**
 * The target of a request below a server's prefix. Slashes that follow each other become one: `//host` at the beginning
 * of a target is another host to some programs.
 *
 * @returns the problem of a path that could lead out of the prefix
 */
export function targetBelow(
  { prefix }: ServerAddress,
  { path, query }: { readonly path: string; readonly query: string | undefined },
): Result<string, string> {
  if (!isTarget(path, query)) return wrong("it is not a path with a query");
  const checked = safePath(path);
  return checked.ok ? { ok: true, value: targetText(`${prefix}${checked.value}`, query) } : checked;
}

/** A path without empty segments, unless one of its segments may be read as dots. */
function safePath(path: string): Result<string, string> {
  for (let text = path, times = 0; ; times += 1) {
    if (hasDots(text)) return wrong("it has a segment of dots, which may lead elsewhere");
    const decoded = percentDecoded(text);
    if (decoded === text) break;
    if (times === DECODINGS) return wrong("it is percent-encoded again and again");
    text = decoded;
  }
  return { ok: true, value: path.replace(/\/{2,}/g, "/") };
}

/**
 * Whether any program could take a segment for `.` or `..`: some read a backslash as a slash, stop at a semicolon, or
 * leave out tabs and line ends.
 */
function hasDots(path: string): boolean {
  const segments = path.replace(/[\t\r\n]/g, "").split(/[/\\]/);
  return segments.some((segment) => /^\.{1,2}(?:[;\0].*)?$/s.test(segment.trim()));
}

/** Decodes what is percent-encoded, octet by octet: a sequence that is not UTF-8 must not hide the dots behind it. */
function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}
