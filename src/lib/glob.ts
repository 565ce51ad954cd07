/**
 * Globs: a star matches any characters, also none.
 *
 * @module
 */

/** The text between the stars. A single piece is a text without stars. */
export type Glob = readonly string[];

export interface GlobRules {
  /**
   * Whether `?` matches one character other than a dot: one of a label of a host name. Off for the names of people and
   * devices, in which `?` is a character like any other. Default false.
   */
  readonly questionMarks?: boolean;
}

/** Splits a pattern at its stars. */
export function parseGlob(pattern: string): Glob {
  return pattern.split("*");
}

/**
 * Whether a text contains the pieces in order, the first at its beginning and the last at its end. Each piece is
 * searched once, from left to right: at worst, time is the pattern's length times the text's.
 */
export function matchesGlob(glob: Glob, text: string, { questionMarks = false }: GlobRules = {}): boolean {
  const isAt = questionMarks ? isAtWithMarks : isExactlyAt;
  const [first = "", ...others] = glob;
  const last = others.pop();
  if (last === undefined) return text.length === first.length && isAt(first, text, 0);
  const end = text.length - last.length;
  if (end < first.length || !isAt(first, text, 0) || !isAt(last, text, end)) return false;
  let at = first.length;
  for (const piece of others) {
    const latest = end - piece.length;
    while (at <= latest && !isAt(piece, text, at)) at += 1;
    if (at > latest) return false;
    at += piece.length;
  }
  return true;
}

function isExactlyAt(piece: string, text: string, at: number): boolean {
  return text.startsWith(piece, at);
}

function isAtWithMarks(piece: string, text: string, at: number): boolean {
  for (let n = 0; n < piece.length; n += 1) {
    const there = text[at + n];
    if (piece[n] === "?" ? there === undefined || there === "." : piece[n] !== there) return false;
  }
  return true;
}
