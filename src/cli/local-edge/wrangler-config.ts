/**
 * Reads the worker's configuration from wrangler.toml, the one place that has its compatibility date, its objects and
 * the names of its settings. The values of the settings there are the deployed edge's, and are not read. Published
 * packages contain that file.
 *
 * @module
 */
import { readFileSync } from "node:fs";

export interface WranglerConfig {
  readonly name: string;
  readonly compatibilityDate: string;
  readonly compatibilityFlags: string[];
  /** Names of the settings that are no secrets. */
  readonly variables: readonly string[];
  /** Classes of Durable Objects by the names of their bindings. */
  readonly objects: Readonly<Record<string, string>>;
}

const FILE = new URL("../../../wrangler.toml", import.meta.url);

let read: WranglerConfig | undefined;

/** @throws Error if the file is not what this version of the command was published with */
export function wranglerConfig(): WranglerConfig {
  read ??= parseConfig(readFileSync(FILE, "utf8"));
  return read;
}

function parseConfig(text: string): WranglerConfig {
  const tables = parseToml(text);
  const [top = {}] = tables.get("") ?? [];
  const [vars = {}] = tables.get("vars") ?? [];
  const bindings = tables.get("durable_objects.bindings") ?? [];
  const flags = top.compatibility_flags;
  return {
    name: textOf(top, "name"),
    compatibilityDate: textOf(top, "compatibility_date"),
    compatibilityFlags: Array.isArray(flags) ? [...flags] : [],
    variables: Object.keys(vars),
    objects: Object.fromEntries(bindings.map((binding) => [textOf(binding, "name"), textOf(binding, "class_name")])),
  };
}

type Value = string | number | boolean | readonly string[];
type Table = Readonly<Record<string, Value>>;

function textOf(table: Table, key: string): string {
  const value = table[key];
  if (typeof value !== "string") throw new Error(`wrangler.toml: ${key} is not a text`);
  return value;
}

/** A header `[table]` or `[[table]]`, or a pair on one line. */
const HEADER = /^\[(\[)?([\w.-]+)\]?\]$/;
const PAIR = /^([\w-]+) = (.+)$/;

/**
 * Parses the part of TOML that the file uses: tables, and pairs of one line whose value is a basic string without
 * escapes, an array of them, an integer or a boolean.
 *
 * @returns the tables of each name; the one without a name has the first pairs
 * @throws Error with the line that is none of these
 */
export function parseToml(text: string): ReadonlyMap<string, readonly Table[]> {
  let current: Record<string, Value> = {};
  const tables = new Map<string, Record<string, Value>[]>([["", [current]]]);
  for (const [at, written] of text.split("\n").entries()) {
    const line = written.trim();
    if (line === "" || line.startsWith("#")) continue;
    const [, several, name] = HEADER.exec(line) ?? [];
    if (name !== undefined) {
      current = {};
      const before = tables.get(name);
      if (before !== undefined && several === undefined) throw new Error(`wrangler.toml: [${name}] comes twice`);
      tables.set(name, [...(before ?? []), current]);
      continue;
    }
    const [, key, value] = PAIR.exec(line) ?? [];
    const parsed = value === undefined ? undefined : parseValue(value);
    if (key === undefined || parsed === undefined) throw new Error(`wrangler.toml: line ${at + 1} cannot be read`);
    current[key] = parsed;
  }
  return tables;
}

const STRING = /^"([^"\\]*)"$/;

function parseValue(text: string): Value | undefined {
  if (text === "true" || text === "false") return text === "true";
  if (/^\d[\d_]*$/.test(text)) return Number(text.replaceAll("_", ""));
  const list = /^\[(.*)\]$/.exec(text)?.[1];
  if (list === undefined) return STRING.exec(text)?.[1];
  const items = list.split(", ").map((item) => STRING.exec(item)?.[1]);
  return items.every((item) => item !== undefined) ? items : undefined;
}
