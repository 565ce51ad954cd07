/**
 * Sanitizes file names chosen by senders.
 *
 * A sender's name may be a trap: for this system (`../../etc/passwd`), for the system that the folder is copied to next
 * (`NUL.txt`, `a:b`, a name of 300 characters), or for the reader (`report\u202Efdp.exe`, `.bashrc`). The result
 * depends only on the text of the name, so that a repeated transfer gets the same.
 *
 * @module
 */
import { COMPONENT_BYTES, FOLDER_DEPTH, SUFFIX_BYTES } from "./limits.ts";

export interface NameRules {
  /** Keep a leading dot. Otherwise it becomes `_`, so that no hidden file arrives. */
  readonly allowDotfiles: boolean;
  /** Maximum length of a component in UTF-8 bytes; default COMPONENT_BYTES. */
  readonly bytes?: number;
}

/** The name of a file whose name has no usable character. */
const UNNAMED = "unnamed";

/** The folder of unfinished transfers: no received file may get in there. */
const RESERVED_HERE = ".grooveway";

/**
 * Characters not allowed in names: those that Windows refuses, controls, line ends, unpaired surrogates, bidi marks,
 * and invisible characters that are not joiners.
 */
const FORBIDDEN = /["*:<>?|\\\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061C\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFEFF]/gu;

/** Windows strips these, which would make two names equal. */
const TRAILING = /[\s.\p{Zs}]+$/u;

/** Device names on Windows, in every folder and with every suffix. */
const DEVICE = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(?:\.|$)/iu;

/**
 * Sanitizes a relative path. Returns its components: folders, then the file name. Each is valid on every common system,
 * is neither `.` nor `..`, and contains no separator.
 *
 * @returns undefined if there are more than FOLDER_DEPTH folders
 */
export function harmlessPath(name: string, rules: NameRules): readonly string[] | undefined {
  const components = name
    .split("/")
    .filter((component) => component !== "" && component !== "." && component !== "..")
    .map((component) => harmlessComponent(component, rules));
  if (components.length > FOLDER_DEPTH + 1) return undefined;
  return components.length === 0 ? [UNNAMED] : components;
}

function harmlessComponent(text: string, { allowDotfiles, bytes = COMPONENT_BYTES }: NameRules): string {
  let name = text.replace(FORBIDDEN, "_").replace(TRAILING, "");
  if (name === "") return UNNAMED;
  if (!allowDotfiles || collisionKey(name) === RESERVED_HERE) name = name.replace(/^\./u, "_");
  if (DEVICE.test(name)) name = `_${name}`;
  return fitting(name, "", bytes);
}

/**
 * Returns a name to try when `number` others are taken: `report (1).pdf`; the name itself for 0.
 *
 * @param bytes maximum length in UTF-8
 */
export function numbered(component: string, number: number, bytes = COMPONENT_BYTES): string {
  return fitting(component, number === 0 ? "" : ` (${number})`, bytes);
}

/**
 * Returns a key that is equal for names some system treats as equal: by case, normalization or invisible characters.
 */
export function collisionKey(component: string): string {
  return component
    .normalize("NFC")
    .replace(/\p{Default_Ignorable_Code_Point}/gu, "")
    .toUpperCase()
    .toLowerCase()
    .normalize("NFC");
}

const encoder = new TextEncoder();

function bytesIn(text: string): number {
  return encoder.encode(text).length;
}

/** Inserts a mark before the suffix. Truncates a long stem at a grapheme boundary, keeping the suffix. */
function fitting(name: string, mark: string, bytes: number): string {
  const { stem, suffix } = parted(name);
  const room = bytes - bytesIn(mark + suffix);
  return bytesIn(stem) <= room ? stem + mark + suffix : cut(stem, room) + mark + suffix;
}

function parted(name: string): { readonly stem: string; readonly suffix: string } {
  const suffix = /(?:\.tar)?\.[^.\s]+$/iu.exec(name)?.[0] ?? "";
  if (suffix.length === name.length || bytesIn(suffix) > SUFFIX_BYTES) return { stem: name, suffix: "" };
  return { stem: name.slice(0, name.length - suffix.length), suffix };
}

const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" });

function cut(text: string, room: number): string {
  const whole = upTo(
    room,
    Array.from(graphemes.segment(text), ({ segment }) => segment),
  );
  // A single character with hundreds of accents can only be cut between them.
  return (whole === "" ? upTo(room, Array.from(text)) : whole).replace(TRAILING, "");
}

function upTo(room: number, pieces: readonly string[]): string {
  let kept = "";
  let left = room;
  for (const piece of pieces) {
    left -= bytesIn(piece);
    if (left < 0) break;
    kept += piece;
  }
  return kept;
}
