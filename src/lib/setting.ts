/**
 * What reading a setting gives: its value, or what is wrong with its text.
 *
 * @module
 */
import type { Result } from "./result.ts";

/** What is wrong with a setting. */
export interface SettingProblem {
  readonly setting: string;
  /** What is wrong, as the end of a sentence that begins with the setting. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;
}

/** A setting that has been read. */
export type Setting<T> = Result<T, readonly [SettingProblem, ...SettingProblem[]]>;

/** One problem as a sentence. */
export function problemText({ setting, problem, cure }: SettingProblem): string {
  return `${setting} ${problem}: ${cure}`;
}

export function malformed(setting: string, problem: string, cure: string): Setting<never> {
  return { ok: false, problems: [{ setting, problem, cure }] };
}

/** The value, unless there are problems. */
export function settled<T>(value: T, [first, ...others]: readonly SettingProblem[]): Setting<T> {
  return first === undefined ? { ok: true, value } : { ok: false, problems: [first, ...others] };
}

/**
 * The value of a setting that was checked before.
 *
 * @throws Error if it cannot be used, which is a fault of the caller
 */
export function checked<T>(setting: Setting<T>): T {
  if (setting.ok) return setting.value;
  throw new Error(setting.problems.map(problemText).join("; "));
}

/** The entries of a list, separated by commas or spaces. */
export function entriesOf(text: string): string[] {
  return text.split(/[\s,]+/).filter((entry) => entry !== "");
}

/** Quotes an entry of any length. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}...` : text);
}

/** Characters of a quoted entry: enough to find it, and one line of a terminal. */
const LONGEST_QUOTE = 80;
