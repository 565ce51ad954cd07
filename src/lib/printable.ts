/**
 * Text of strangers for a line of a log or a terminal.
 *
 * @module
 */

/** Characters that are shown: a name or a reason fits, and a stranger cannot fill the log with one line. */
const SHOWN = 300;

/** Text in quotes, as JSON has it, cut when it is long: one line of visible ASCII, whatever is in it. */
export function printable(text: string): string {
  const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
  return JSON.stringify(shown).replace(/[^ -~]/g, unitEscape);
}

/** A UTF-16 unit as JSON escapes it. */
function unitEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

const PLAIN = /^[ -~]*$/;

/**
 * What a terminal obeys or does not show: controls (ANSI sequences begin with one), line ends, bidi overrides, formats,
 * halves of surrogate pairs, private and unassigned characters, letters without a shape.
 */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;

/** Those of them that JSON itself leaves as they are. */
const HIDDEN_IN_JSON = /[\x7f-\x9f\p{Cf}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

const BLANK = /\p{Z}/u;
const MARK = /\p{M}/u;
const EMOJI = /\p{Emoji}/u;
const JOINER = /[\u200c\u200d]/;

/** Marks on one letter. No language needs more, and a tower of them reaches into the lines above. */
const MARKS = 8;

const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e" };

/**
 * Text in which all can be seen and nothing is obeyed: letters of every script stay; what a terminal would act on or hide
 * becomes an escape such as `\n`, `\e` or `\u{202e}`. The result is one line.
 */
export function visible(text: string): string {
  if (PLAIN.test(text)) return text;
  let shown = "";
  // What is shown of the text as it is, from here on, is not yet copied.
  let copied = 0;
  // The character before, when it is shown as it is.
  let before = "";
  // Marks on the last letter; one that stands on nothing would go on a character of ours.
  let marks = MARKS;
  for (let at = 0; at < text.length; ) {
    const character = characterAt(text, at);
    const next = at + character.length;
    const mark = MARK.test(character);
    if (isNeeded(before, character, characterAt(text, next))) before = character;
    else if (HIDDEN.test(character) || (mark && marks >= MARKS)) {
      shown += text.slice(copied, at) + escaped(character);
      copied = next;
      before = "";
      marks = MARKS;
    } else {
      before = character;
      if (mark) marks += 1;
      else marks = BLANK.test(character) ? MARKS : 0;
    }
    at = next;
  }
  return shown + text.slice(copied);
}

function characterAt(text: string, at: number): string {
  const point = text.codePointAt(at);
  return point === undefined ? "" : String.fromCodePoint(point);
}

/**
 * The joiners of Persian, Hindi and emoji, and the signs that choose the form of an emoji, are hidden and yet needed.
 * Among ASCII letters they would make two names that look the same.
 */
function isNeeded(before: string, character: string, after: string): boolean {
  if (character === "\u200c" || character === "\u200d") {
    return before > "\x7f" && after > "\x7f" && !JOINER.test(before) && !HIDDEN.test(after) && !MARK.test(after);
  }
  if (character !== "\ufe0e" && character !== "\ufe0f") return false;
  return EMOJI.test(before) && (before > "\x7f" || after === "\u20e3");
}

/** A value as one line of JSON in which a terminal finds nothing to obey. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(HIDDEN_IN_JSON, (character) => character.split("").map(unitEscape).join(""));
}

/**
 * Columns that a character takes on a terminal, rather too many than too few: a line that is cut by them is never cut by the
 * terminal itself.
 */
export function columnsOf(character: string): number {
  // A tab goes to the next multiple of eight.
  if (character === "\t") return 8;
  if (character < "\u0300") return 1;
  if (/[\p{Mn}\p{Me}]/u.test(character)) return 0;
  return character < "\u1100" ? 1 : 2;
}

/** The beginning of a text that takes at most so many columns; dots say that there is more. */
export function fitted(text: string, columns: number): string {
  const dots = "...";
  let used = 0;
  let cut = "";
  for (const character of text) {
    used += columnsOf(character);
    if (used > columns) return columns < dots.length ? "" : cut + dots;
    if (used <= columns - dots.length) cut += character;
  }
  return text;
}

function escaped(character: string): string {
  return ESCAPES[character] ?? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
