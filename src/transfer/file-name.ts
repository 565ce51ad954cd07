/**
 * Harmless names out of anybody's text.
 *
 * What a sender calls a file may be a trap: for this system (`../../etc/passwd`), for the one that the folder is carried to
 * next (`NUL.txt`, `a:b`, a name of 300 characters), or for the person who reads it (`report\u202Efdp.exe`, `.bashrc`).
 * What a name becomes depends on nothing but its text, so that a repeated transfer has the same.
 *
 * @module
 */
import { COMPONENT_BYTES, FOLDER_DEPTH, SUFFIX_BYTES } from "./limits.ts";

export interface NameRules {
  /** Leave a leading dot; otherwise it becomes `_`, so that nothing arrives unseen. */
  readonly allowDotfiles: boolean;
  /** The longest component in UTF-8; COMPONENT_BYTES by default. */
  readonly bytes?: number;
}

/** What has no usable character is called. */
const UNNAMED = "unnamed";

/** Names of the folder for unfinished transfers: nobody's file may get in there. */
const RESERVED_HERE = ".grooveway";

/**
 * Characters that no name may have: those that Windows refuses, controls, line ends, halves of surrogate pairs, marks that
 * change the direction of text, and those that cannot be seen and join nothing.
 */
const FORBIDDEN = /["*:<>?|\\\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061C\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFEFF]/gu;

/** Windows takes them away, so that two names become one. */
const TRAILING = /[\s.\p{Zs}]+$/u;

/** Devices of Windows, in every folder and with every suffix. */
const DEVICE = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(?:\.|$)/iu;

/**
 * The components of a relative path: folders, and the name of the file. Each can be made on every usual system, is no
 * `.` or `..`, and has no separator in it.
 *
 * @returns undefined when there are more than FOLDER_DEPTH folders
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
 * A name for a file when the first `number` are taken: `report (1).pdf`; itself for 0.
 *
 * @param bytes the longest that it may be in UTF-8
 */
export function numbered(component: string, number: number, bytes = COMPONENT_BYTES): string {
  return fitting(component, number === 0 ? "" : ` (${number})`, bytes);
}

/** Text that is the same for two names that some usual system takes for one: by case, normalisation, or what cannot be seen. */
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

/** A name with a mark before its suffix, cut where it is too long: at a character as people see it, keeping the suffix. */
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
  // One character with hundreds of accents has no place where it could be cut but between them.
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
