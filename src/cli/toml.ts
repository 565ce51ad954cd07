/**
 * Reads a TOML file that people edit: an error names the line, and quotes none of the file. Pure.
 *
 * @module
 */
import { parse, TomlError } from "smol-toml";
import { printable, visible } from "../lib/printable.ts";
import type { Result } from "../lib/result.ts";
import { nearest } from "../lib/spelling.ts";

export interface TomlProblem {
  /** Counted from 1; undefined if the problem is in no line. */
  readonly line: number | undefined;
  /** A sentence without its full stop. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;
}

/**
 * Parses a text, and checks it.
 *
 * @param maxDepth how deep arrays and inline tables may be nested
 * @param read makes a value of the document, and reports what is wrong with it
 */
export function readToml<T>(
  text: string,
  maxDepth: number,
  read: (document: unknown, report: Report) => T,
): Result<T, TomlProblem> {
  let document: unknown;
  try {
    document = parse(text, { maxDepth });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const { line } = error;
    return { ok: false, problems: { line, problem: `it is not TOML${reasonOf(error)}`, cure: "correct the line" } };
  }
  const findings: Finding[] = [];
  const value = read(document, (finding) => findings.push(finding));
  const [first] = findings;
  if (first === undefined) return { ok: true, value };
  const { path, problem, cure } = first;
  return { ok: false, problems: { line: lineOf(text, path, maxDepth), problem, cure } };
}

/** Where something is in the document: keys, and indices of arrays. */
export type Path = readonly (string | number)[];

export interface Finding extends Omit<TomlProblem, "line"> {
  readonly path: Path;
}

export type Report = (finding: Finding) => void;

/** The first line of a TomlError says what is wrong. The rest quotes the document, which may contain a token. */
function reasonOf({ message }: TomlError): string {
  const [, reason = ""] = /^Invalid TOML document: ([a-z][a-z ,.:'-]*)$/m.exec(message) ?? [];
  return reason === "" ? "" : ` (${reason})`;
}

/**
 * Checks that a value is a table.
 *
 * @param keys the known keys; undefined if any will do
 */
export function tableAt(
  value: unknown,
  path: Path,
  keys: readonly string[] | undefined,
  report: Report,
): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) {
    const named = printable(String(path.findLast((part) => typeof part === "string")));
    report({ path, problem: `${named} is not a table`, cure: "write a table there, or remove it" });
    return {};
  }
  for (const key of keys === undefined ? [] : Object.keys(value)) {
    if (keys?.includes(key)) continue;
    const meant = nearest(key, keys ?? []);
    const cure = meant === undefined ? `remove it; known here: ${keys?.join(", ")}` : `did you mean ${meant}?`;
    report({ path: [...path, key], problem: `the key ${printable(key)} is unknown`, cure });
  }
  return value as Readonly<Record<string, unknown>>;
}

/** What is wrong with a text, and the cure; undefined if nothing is. */
export type TextProblem = readonly [problem: string, cure: string] | undefined;

export function textAt(
  table: Readonly<Record<string, unknown>>,
  path: Path,
  key: string,
  problemOf: (text: string) => TextProblem,
  report: Report,
): string | undefined {
  if (!Object.hasOwn(table, key)) return undefined;
  const value = table[key];
  const found: TextProblem =
    typeof value === "string" ? problemOf(value) : ["is not a string", "put it in quotation marks"];
  if (typeof value === "string" && found === undefined) return value;
  const [problem, cure] = found ?? ["", ""];
  report({ path: [...path, key], problem: `${visible(key)} ${problem}`, cure });
  return undefined;
}

/** Reports what is wrong in a list of texts. */
export function textsAt(
  table: Readonly<Record<string, unknown>>,
  path: Path,
  key: string,
  problemOf: (text: string) => TextProblem,
  report: Report,
): void {
  if (!Object.hasOwn(table, key)) return;
  const list = table[key];
  if (!Array.isArray(list)) {
    const cure = "write it in brackets, with commas between its strings";
    report({ path: [...path, key], problem: `${visible(key)} is not a list`, cure });
    return;
  }
  for (const [index, value] of list.entries()) {
    const found: TextProblem =
      typeof value === "string" ? problemOf(value) : ["has what is not a string", "put it in quotation marks"];
    if (found === undefined) continue;
    const [problem, cure] = found;
    report({ path: [...path, key, index], problem: `${visible(key)} ${problem}`, cure });
  }
}

/**
 * Returns the line in which something is, or ends: the first one up to which the document has it. The parser gives no
 * positions, so it is searched by halves.
 */
function lineOf(text: string, path: Path, maxDepth: number): number | undefined {
  const lines = text.split("\n");
  /** Undefined where the text ends within a value of several lines. */
  const hasUpTo = (line: number) => {
    const document = parsed(`${lines.slice(0, line).join("\n")}\n`, maxDepth);
    return document === undefined ? undefined : has(document, path);
  };
  if (hasUpTo(lines.length) !== true) return undefined;
  let found = lines.length;
  for (let [before, after] = [0, lines.length]; after - before > 1; ) {
    const middle = Math.floor((before + after) / 2);
    let line = middle;
    let isThere = hasUpTo(line);
    while (isThere === undefined && line + 1 < after) {
      line += 1;
      isThere = hasUpTo(line);
    }
    if (isThere === false) before = line;
    else after = middle;
    if (isThere === true) found = line;
  }
  return found;
}

function parsed(text: string, maxDepth: number): unknown {
  try {
    return parse(text, { maxDepth });
  } catch {
    return undefined;
  }
}

function has(value: unknown, [key, ...others]: Path): boolean {
  if (key === undefined) return value !== undefined;
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return false;
  return has((value as Readonly<Record<string | number, unknown>>)[key], others);
}
