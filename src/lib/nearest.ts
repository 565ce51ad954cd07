/**
 * The word that somebody most likely meant.
 *
 * @module
 */

/** Typing errors that a word may have and still be known: one in three characters, and never more than three. */
const LARGEST_SHARE = 3;
const MOST_ERRORS = 3;

/** The word that differs least from what was written; undefined when none is near. */
export function nearest(written: string, words: Iterable<string>): string | undefined {
  let found: string | undefined;
  let fewest = Math.min(MOST_ERRORS, Math.ceil(written.length / LARGEST_SHARE)) + 1;
  for (const word of words) {
    // What was begun and not finished is near, too: --transp for --transport.
    const errors = written.length > 1 && word.startsWith(written) ? 1 : distance(written, word);
    if (errors >= fewest) continue;
    found = word;
    fewest = errors;
  }
  return found;
}

/**
 * Insertions, deletions, replacements and swaps of neighbours that make one word of the other: the optimal string
 * alignment distance.
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
