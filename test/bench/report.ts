/** Figures, and their table. */

/** The result of one contender in one round. */
export interface Round {
  readonly value: number;
  /** Milliseconds of single events, if any: their p99 is shown. */
  readonly samples?: readonly number[];
  /** Octets, commands or messages that `value` was measured with. */
  readonly count: number;
  readonly lost: number;
  readonly duplicated: number;
}

/** Something measured: a figure of the product, a floor or a peer. */
export interface Contender {
  readonly name: string;
  /** The floors and peers it is compared with, by name. */
  readonly against: readonly string[];
  /** Runs one round. `warm`: a short one that does not count. */
  round(warm: boolean): Promise<Round>;
  /** How often a round that fails is begun, before the contender has failed. Default 1. */
  readonly attempts?: number;
  /** Why it is not available here. */
  readonly skipped?: string | undefined;
}

export interface Figure {
  readonly name: string;
  readonly median: number | undefined;
  readonly p99: number | undefined;
  readonly rounds: readonly number[];
  readonly count: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly against: readonly { readonly name: string; readonly ratio: number }[];
  /** Why there is no figure. */
  readonly missing: string | undefined;
  /** Rounds that failed and were begun again; none if undefined. */
  readonly begunAgain?: BegunAgain | undefined;
}

export interface BegunAgain {
  /** While warming up. */
  readonly warm: number;
  /** Among the rounds that count. */
  readonly counted: number;
  /** What the first failure was. */
  readonly why: string;
}

export interface Goal {
  readonly text: string;
  readonly met: boolean;
}

export interface Section {
  readonly name: string;
  readonly unit: string;
  /** What `count` counts. */
  readonly counted: string;
  readonly figures: readonly Figure[];
  readonly goals: readonly Goal[];
  readonly notes: readonly string[];
}

export interface Alternation {
  /** Whether a round that does not count is run before. Default true. */
  readonly warmUp?: boolean;
  /** Milliseconds after which no further round is begun, once there is one that counts. Default Infinity. */
  readonly budget?: number;
  /** Gets each figure as soon as its last round is over. Name floors and peers before what is compared with them. */
  readonly onFigure?: (figure: Figure) => void;
}

/**
 * Runs contenders in turn, A B C A B C, after a warm-up round: other load on the machine affects all
 * of them. Ratios are taken within a round, and their median is shown.
 */
export async function alternate(
  contenders: readonly Contender[],
  rounds: number,
  { warmUp = true, budget = Number.POSITIVE_INFINITY, onFigure }: Alternation = {},
): Promise<Figure[]> {
  const until = performance.now() + budget;
  let last = rounds;
  const results = contenders.map(() => [] as Round[]);
  const missing = contenders.map(({ skipped }) => (skipped === undefined ? undefined : `SKIPPED: ${skipped}`));
  const begunAgain = contenders.map((): BegunAgain | undefined => undefined);
  const figure = (contender: Contender, index: number): Figure => {
    const own = results[index] ?? [];
    const samples = own.flatMap((round) => round.samples ?? []);
    return {
      name: contender.name,
      median: missing[index] === undefined ? median(own.map((round) => round.value)) : undefined,
      p99: samples.length > 0 ? quantile(samples, 0.99) : undefined,
      rounds: own.map((round) => round.value),
      count: sum(own.map((round) => round.count)),
      lost: sum(own.map((round) => round.lost)),
      duplicated: sum(own.map((round) => round.duplicated)),
      against: contender.against.flatMap((name) => {
        const other = results[contenders.findIndex((candidate) => candidate.name === name)] ?? [];
        const ratio = median(own.slice(0, other.length).map((round, turn) => round.value / (other[turn]?.value ?? 0)));
        return ratio === undefined ? [] : [{ name, ratio }];
      }),
      missing: missing[index],
      begunAgain: begunAgain[index],
    };
  };
  for (let turn = warmUp ? -1 : 0; turn < last; turn++) {
    if (turn >= 0 && performance.now() >= until) last = turn + 1;
    for (const [index, contender] of contenders.entries()) {
      if (missing[index] !== undefined) {
        if (turn === last - 1) onFigure?.(figure(contender, index));
        continue;
      }
      progress(`${turn < 0 ? "warming up" : `round ${turn + 1} of ${rounds}`}: ${contender.name}`);
      const { attempts = 1 } = contender;
      for (let attempt = 1; attempt <= attempts; attempt += 1) {
        try {
          const round = await contender.round(turn < 0);
          if (turn >= 0) results[index]?.push(round);
          break;
        } catch (error) {
          const why = (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
          if (attempt === attempts) missing[index] = `FAILED: ${why}`;
          else begunAgain[index] = oneMore(begunAgain[index], turn < 0, why);
        }
      }
      if (turn === last - 1) onFigure?.(figure(contender, index));
    }
  }
  progress("");
  return contenders.map(figure);
}

function oneMore(before: BegunAgain | undefined, isWarm: boolean, why: string): BegunAgain {
  const { warm, counted, why: first } = before ?? { warm: 0, counted: 0, why };
  return { warm: warm + (isWarm ? 1 : 0), counted: counted + (isWarm ? 0 : 1), why: first };
}

export function median(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : quantile(values, 0.5);
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function figureOf(figures: readonly Figure[], name: string): Figure | undefined {
  return figures.find((figure) => figure.name === name);
}

/** Whether everything arrived exactly once: otherwise no figure is valid. */
export function intact(figures: readonly Figure[]): Goal {
  const own = figures.filter(({ missing }) => missing === undefined || missing.startsWith("FAILED"));
  const failed = own.filter(({ missing, lost, duplicated }) => missing !== undefined || lost > 0 || duplicated > 0);
  return {
    text: `nothing lost, nothing twice (${failed.length === 0 ? "all" : `not ${failed.map(({ name }) => name).join("; ")}`})`,
    met: failed.length === 0,
  };
}

/** Whether every round succeeded the first time. Retries while warming up do not count: a device learns what a box takes. */
export function atOnce(figures: readonly Figure[]): Goal {
  const again = figures.filter(({ begunAgain }) => (begunAgain?.counted ?? 0) > 0);
  const names = again.map(({ name, begunAgain }) => `${name}, ${begunAgain?.counted} times`).join("; ");
  return { text: `no round is begun again (${names || "none"})`, met: again.length === 0 };
}

/** Three significant digits, and no more before the decimal point than there are. */
export function short(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** One line of a figure, for what prints each as soon as it is there. */
export function lineOf(figure: Figure, unit: string): string {
  const { name, median: value, p99, rounds, lost, duplicated, against, missing } = figure;
  if (missing !== undefined || value === undefined) return `  ${name}: ${missing ?? "nothing was measured"}`;
  const each = rounds.map(short).join(" ");
  const parts = [
    `${short(value)} ${unit} (${each})`,
    ...(p99 === undefined ? [] : [`p99 ${short(p99)}`]),
    ...(lost + duplicated === 0 ? [] : [`lost ${lost}, twice ${duplicated}`]),
    ...against.map((other) => `${short(other.ratio)} of ${other.name}`),
  ];
  return `  ${name}: ${parts.join(", ")}`;
}

export function print(section: Section): void {
  const { name, unit, counted, figures, goals, notes } = section;
  const hasRepeats = figures.some(({ begunAgain }) => begunAgain !== undefined);
  const again = (text: string) => (hasRepeats ? [text] : []);
  const header = [
    "figure",
    `median ${unit}`,
    "p99",
    counted,
    "lost",
    "dup",
    ...again("again"),
    "ratio to floor or peer",
  ];
  const rows = figures.flatMap((figure) => {
    if (figure.missing !== undefined) return [[figure.name, figure.missing]];
    const { warm, counted: inRounds } = figure.begunAgain ?? { warm: 0, counted: 0 };
    const [first, ...others] = figure.against.map(({ name, ratio }) => `${short(ratio)} of ${name}`);
    const cells = [
      figure.name,
      figure.median === undefined ? "-" : short(figure.median),
      figure.p99 === undefined ? "-" : short(figure.p99),
      String(figure.count),
      String(figure.lost),
      String(figure.duplicated),
      ...again(`${warm}+${inRounds}`),
      first ?? "",
    ];
    return [cells, ...others.map((other) => [...cells.slice(1).map(() => ""), other])];
  });
  const whole = [header, ...rows.filter((row) => row.length === header.length)];
  const widths = header.map((_, column) => Math.max(...whole.map((row) => row[column]?.length ?? 0)));
  console.log(`\n${name}`);
  for (const row of [header, ...rows]) {
    const cells = row.map((cell, column) =>
      column === 0 || column === header.length - 1 || row.length < header.length
        ? cell.padEnd(widths[column] ?? 0)
        : cell.padStart(widths[column] ?? 0),
    );
    console.log(`  ${cells.join("  ").trimEnd()}`);
  }
  for (const { name, begunAgain, missing } of figures) {
    if (begunAgain === undefined) continue;
    const { warm, counted, why } = begunAgain;
    const end = missing === undefined ? "" : ", and failed in the end";
    console.log(
      `  ${name}: begun again ${warm} times while warming up and ${counted} times in rounds${end}; at first: ${why}`,
    );
  }
  for (const note of notes) console.log(`  ${note}`);
  for (const goal of goals) console.log(`  goal ${goal.text}: ${goal.met ? "met" : "NOT met"}`);
}

/** Shows the user what is being measured. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\x1b[2K\r${text}`);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
