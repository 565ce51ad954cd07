/** Whether a figure that is looked at again and again grows: by linear regression. */

export interface Look {
  /** Seconds. */
  readonly at: number;
  readonly value: number;
}

export interface Trend {
  /** Growth per second. */
  readonly slope: number;
  /** Standard error of the slope. */
  readonly error: number;
  readonly mean: number;
  /** What it grows by over the whole time. */
  readonly growth: number;
}

/** The line that fits best, by least squares. Needs three looks. */
export function trendOf(looks: readonly Look[]): Trend {
  const n = looks.length;
  if (n < 3) throw new Error(`${n} looks make no trend`);
  const meanOf = (of: (look: Look) => number) => looks.reduce((sum, look) => sum + of(look), 0) / n;
  const [middle, mean] = [meanOf(({ at }) => at), meanOf(({ value }) => value)];
  const spread = looks.reduce((sum, { at }) => sum + (at - middle) ** 2, 0);
  const slope = looks.reduce((sum, { at, value }) => sum + (at - middle) * (value - mean), 0) / spread;
  const left = looks.reduce((sum, { at, value }) => sum + (value - mean - slope * (at - middle)) ** 2, 0);
  const error = Math.sqrt(left / (n - 2) / spread);
  const seconds = (looks.at(-1)?.at ?? 0) - (looks[0]?.at ?? 0);
  return { slope, error, mean, growth: slope * seconds };
}

/**
 * Medians over windows of equal length: collections of garbage make single looks jump.
 *
 * @param count of windows
 */
export function windowed(looks: readonly Look[], count: number): Look[] {
  const [first, last] = [looks[0]?.at ?? 0, looks.at(-1)?.at ?? 0];
  const length = (last - first) / count;
  return Array.from({ length: count }, (_, n) => {
    const [from, to] = [first + n * length, first + (n + 1) * length];
    const inside = looks.filter(({ at }) => at >= from && (at < to || n === count - 1)).map(({ value }) => value);
    const sorted = inside.sort((a, b) => a - b);
    return { at: (from + to) / 2, value: sorted[Math.floor(sorted.length / 2)] ?? Number.NaN };
  }).filter(({ value }) => !Number.isNaN(value));
}

/**
 * Whether something grows: surely (beyond two standard errors), and by more than `share` of its mean and `least` over the
 * time that was looked at.
 */
export function grows(
  looks: readonly Look[],
  { share, least }: { readonly share: number; readonly least: number },
): boolean {
  const { slope, error, mean, growth } = trendOf(looks);
  return slope - 2 * error > 0 && growth > Math.max(share * mean, least);
}
