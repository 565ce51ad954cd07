/**
 * The settings STREAM_ORIGINS and STREAM_RESUME: which TCP destinations the edge dials for its devices, and how long such
 * a connection outlives that of its device. Pure: the command and the edge read them alike.
 *
 * @module
 */
import { malformed, type Setting } from "../../lib/setting.ts";
import { type Destination, parseDestination } from "./destinations.ts";

/** Default of STREAM_RESUME in seconds: a change of network, a closed lid, a deploy of what is in between. */
export const RESUME_SECONDS = 600;

/** The longest, in seconds: what a device believes. */
const MOST_SECONDS = 86_400;

/**
 * Reads STREAM_ORIGINS: entries separated by spaces, since an entry may list ports with commas. Empty: none.
 *
 * @example
 * readStreamOrigins("db.example.com:5432 *.corp.example.com:80,443"); // { ok: true, value: ... }
 * readStreamOrigins("*:22"); // its problem: STREAM_ORIGINS has an entry that covers every host
 */
export function readStreamOrigins(text: string): Setting<readonly Destination[]> {
  const list: Destination[] = [];
  for (const entry of text.split(/\s+/)) {
    if (entry === "") continue;
    const parsed = parseDestination(entry);
    if (!parsed.ok) {
      return malformed("STREAM_ORIGINS", `has an entry: ${parsed.problems}`, "correct the entry (--stream-allow)");
    }
    list.push(parsed.value);
  }
  return { ok: true, value: list };
}

/**
 * Reads STREAM_RESUME: seconds. Empty: the default.
 *
 * @returns milliseconds
 *
 * @example
 * readStreamResume("3600"); // { ok: true, value: 3600000 }
 */
export function readStreamResume(text: string): Setting<number> {
  const trimmed = text.trim();
  if (trimmed === "") return { ok: true, value: RESUME_SECONDS * 1000 };
  const seconds = Number(trimmed);
  if (/^\d+$/.test(trimmed) && seconds >= 1 && seconds <= MOST_SECONDS) return { ok: true, value: seconds * 1000 };
  const problem = `is ${JSON.stringify(text)}, which is not a number of seconds in range`;
  return malformed("STREAM_RESUME", problem, `write a number from 1 to ${MOST_SECONDS} (--stream-resume)`);
}
