/**
 * Suggests the intended word for a misspelt one.
 *
 * @module
 */

/** Typing errors tolerated: one per three characters, and at most three. */
const LARGEST_SHARE = 3;
const MOST_ERRORS = 3;

/** Returns the word closest to the given text, or undefined if none is close. */
export function nearest(written: string, words: Iterable<string>): string | undefined {
  let found: string | undefined;
  let fewest = Math.min(MOST_ERRORS, Math.ceil(written.length / LARGEST_SHARE)) + 1;
  for (const word of words) {
    // An abbreviation is close, too: --transp for --transport.
    const errors = written.length > 1 && word.startsWith(written) ? 1 : distance(written, word);
    if (errors >= fewest) continue;
    found = word;
    fewest = errors;
  }
  return found;
}

/**
 * Computes the optimal string alignment distance: the number of insertions, deletions, replacements and swaps of
 * neighbours that turn one word into the other.
 */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(replaced, at(last, j) + 1, at(row, j - 1) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(before, j - 2) + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY;
}
