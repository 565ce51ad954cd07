/**
 * Makes untrusted text safe for a log line or a terminal.
 *
 * @module
 */

/** Maximum characters shown: enough for a name or a reason, and an attacker cannot fill the log with one line. */
const SHOWN = 300;

/**
 * What looks like credentials: those of an Authorization header, also in a URL; a JSON Web Token; and a text without
 * blanks that is as long as the signature of one, or base64 of it. Labels of DNS are hardly ever as long.
 */
const CREDENTIALS =
  /(\b(?:Basic|Bearer|Digest|NTLM|Negotiate)(?: |%20|\+))[^\s"'<>]+|\beyJ[\w-]+(?:\.[\w-]*)+|[\w+=-]{36,}(?:\.[\w+=-]*)*/gi;

/**
 * Removes what may be a token or password: a box that answers in place of the server may echo the request, and messages
 * may end up in a log.
 */
export function withoutCredentials(text: string): string {
  return text.replace(CREDENTIALS, (_, scheme: string | undefined) => `${scheme ?? ""}...`);
}

/** Quotes text as JSON, truncated if long: always one line of visible ASCII. */
export function printable(text: string): string {
  const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
  return JSON.stringify(shown).replace(/[^ -~]/g, unitEscape);
}

/** Escapes a UTF-16 unit as in JSON. */
function unitEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

const PLAIN = /^[ -~]*$/;

/**
 * Characters that a terminal interprets or does not show: controls (ANSI sequences begin with one), line ends, bidi
 * overrides, format characters, unpaired surrogates, private and unassigned characters, letters without a glyph.
 */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;

/** Those of them that JSON.stringify leaves unescaped. */
const HIDDEN_IN_JSON = /[\x7f-\x9f\p{Cf}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

const BLANK = /\p{Z}/u;
const MARK = /\p{M}/u;
const EMOJI = /\p{Emoji}/u;
const JOINER = /[\u200c\u200d]/;

/** Combining marks allowed on one letter. No language needs more, and a stack of them would cover the lines above. */
const MARKS = 8;

const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e" };

/**
 * Escapes text for a terminal. Letters of all scripts stay; what a terminal would interpret or hide becomes an escape
 * such as `\n`, `\e` or `\u{202e}`. The result is one line.
 */
export function visible(text: string): string {
  if (PLAIN.test(text)) return text;
  let shown = "";
  // Start of the unescaped text that is not copied yet.
  let copied = 0;
  // The previous character, if it was left unescaped.
  let before = "";
  // Marks on the last letter. Initially at the limit: a leading mark would attach to a character of ours.
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
 * Reports whether a hidden character is needed: joiners in Persian, Hindi and emoji, and emoji variation selectors.
 * Between ASCII letters they would make two different names look the same.
 */
function isNeeded(before: string, character: string, after: string): boolean {
  if (character === "\u200c" || character === "\u200d") {
    return before > "\x7f" && after > "\x7f" && !JOINER.test(before) && !HIDDEN.test(after) && !MARK.test(after);
  }
  if (character !== "\ufe0e" && character !== "\ufe0f") return false;
  return EMOJI.test(before) && (before > "\x7f" || after === "\u20e3");
}

/** Formats a value as one line of JSON without characters that a terminal interprets. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(HIDDEN_IN_JSON, (character) => character.split("").map(unitEscape).join(""));
}

/**
 * Returns the terminal columns of a character, erring on the high side: a line broken by this width is never wrapped by
 * the terminal.
 */
export function columnsOf(character: string): number {
  // A tab advances to the next multiple of eight.
  if (character === "\t") return 8;
  if (character < "\u0300") return 1;
  if (/[\p{Mn}\p{Me}]/u.test(character)) return 0;
  return character < "\u1100" ? 1 : 2;
}

/** Truncates text to a number of columns; dots mark the cut. */
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
