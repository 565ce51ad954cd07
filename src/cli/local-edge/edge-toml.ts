/**
 * The contents of edge.toml: the options of `grooveway edge` by their names, without dashes before them. Pure.
 *
 *   host = "0.0.0.0"
 *   port = 443
 *   name = ["edge.example.com"]
 *   tls-key = "tls/key.pem"          # paths are relative to the file
 *   admin-token = "@admin.token"     # no secret need be in the file
 *
 * @module
 */
import { SETTINGS } from "../../edge/policy/settings.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import { type Report, readToml, type TextProblem, type TomlProblem, tableAt, textAt, textsAt } from "../toml.ts";

/** How an option is written on the command line, as in EDGE_OPTIONS. */
export type OptionKinds = Readonly<
  Record<string, { readonly type: "string" | "boolean"; readonly multiple?: boolean; readonly short?: string }>
>;

/** Values as on the command line. */
export type TomlValues = Readonly<Record<string, string | boolean | readonly string[]>>;

/** Nothing is nested deeper than a list. */
const DEPTH = 2;

/** The option of each setting of the worker, by which somebody may look for it. */
const OPTION_OF: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(SETTINGS).flatMap(([name, rule]) => ("option" in rule ? [[name, rule.option]] : [])),
);

/** Parses the text of the file. */
export function parseEdgeToml(text: string, options: OptionKinds): Result<TomlValues, TomlProblem> {
  return readToml(text, DEPTH, (document, report) => valuesOf(document, options, report));
}

function valuesOf(document: unknown, options: OptionKinds, report: Report): TomlValues {
  const found: Record<string, string | boolean | readonly string[]> = {};
  const all = tableAt(document, [], undefined, report);
  for (const key of Object.keys(all)) {
    const option = OPTION_OF[key];
    if (option === undefined) continue;
    report({ path: [key], problem: `the key ${key} is a setting of the worker`, cure: `write ${option}` });
  }
  const table = tableAt(document, [], Object.keys(options), report);
  for (const [key, { type, multiple = false }] of Object.entries(options)) {
    const value = table[key];
    if (value === undefined) continue;
    if (type === "boolean") {
      if (typeof value === "boolean") found[key] = value;
      else report({ path: [key], problem: `${key} is neither true nor false`, cure: "write true or false" });
    } else if (multiple && Array.isArray(value)) {
      textsAt(table, [], key, lineProblem, report);
      found[key] = value.map(String);
    } else if (typeof value === "number" && Number.isSafeInteger(value) && !multiple) {
      found[key] = String(value);
    } else {
      const read = textAt(table, [], key, lineProblem, report);
      if (read !== undefined) found[key] = multiple ? [read] : read;
    }
  }
  return found;
}

function lineProblem(text: string): TextProblem {
  if (!/\p{Cc}/u.test(text)) return undefined;
  return [`has control characters: ${printable(text)}`, "remove them"];
}
