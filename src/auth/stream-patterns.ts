/**
 * Patterns of names of plain streams, in the scopes `create:`, `read:` and `write:`.
 *
 *   *                    every stream
 *   app/logs/*           streams of three segments that begin with app/logs/
 *   app/**               streams of any number of segments that begin with app/
 *
 * A `*` matches any characters within one segment. `**`, as the last segment, matches one or more segments. Segments
 * are percent-decoded after they were split at their stars: `%2A` is a literal star.
 *
 * @module
 */
import { type Glob, matchesGlob } from "../lib/glob.ts";
import type { Result } from "../lib/result.ts";

/** Maximum characters of a pattern: those of the longest name. */
const PATTERN_LENGTH = 512;

/** The rest of a name, of any length. */
const REST = "**";

interface Pattern {
  readonly segments: readonly Glob[];
  /** Whether more segments may follow. */
  readonly rest: boolean;
}

/** Checks a pattern. */
export function readStreamPattern(text: string): Result<Pattern, string> {
  if (text.length > PATTERN_LENGTH) {
    return malformed(text, `it has ${text.length} characters: write at most ${PATTERN_LENGTH}`);
  }
  if (text === "*") return { ok: true, value: { segments: [], rest: true } };
  const parts = text.split("/");
  const rest = parts[parts.length - 1] === REST;
  const segments: Glob[] = [];
  for (const part of rest ? parts.slice(0, -1) : parts) {
    if (part === "" || part === "." || part === "..") return malformed(text, "a segment is empty or dots");
    if (part.includes(REST)) return malformed(text, "write ** only as the last segment");
    const glob = globOf(part);
    if (glob === undefined) return malformed(text, "a % begins no character of UTF-8");
    segments.push(glob);
  }
  return { ok: true, value: { segments, rest } };
}

/** Whether a pattern that was checked covers a stream. @param name its segments, decoded */
export function matchesStream(text: string, name: readonly string[]): boolean {
  const read = readStreamPattern(text);
  if (!read.ok) throw new Error(read.problems);
  const { segments, rest } = read.value;
  if (rest ? name.length <= segments.length : name.length !== segments.length) return false;
  return segments.every((glob, at) => matchesGlob(glob, name[at] ?? ""));
}

function globOf(part: string): Glob | undefined {
  try {
    return part.split("*").map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

function malformed(text: string, why: string): Result<never, string> {
  return { ok: false, problems: `the pattern ${JSON.stringify(text.slice(0, 80))}: ${why}` };
}
