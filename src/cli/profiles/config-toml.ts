/**
 * The contents of config.toml: by name, what `send`, `recv` and `mailbox` take from a profile. Pure.
 *
 *   [profiles.default]
 *   address = "alice/laptop"
 *   transport = "keepalive"                   # optional
 *
 *   [[profiles.default.edges]]                # the first one is used unless --edge names another
 *   url = "https://edge.example.com"
 *   token = "..."                             # or "@/run/secrets/edge.token", read for each connection
 *   ca = "/etc/ssl/private-authority.pem"     # optional
 *
 * A token stands beside the URL that it is for. People edit this file: an error names the line, and no part of a token.
 *
 * @module
 */
import { parse, stringify, TomlError } from "smol-toml";
import { TRANSPORTS, type TransportName } from "../../device/index.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import { nearest } from "../../lib/spelling.ts";
import { parseAddress } from "../../sstp/index.ts";

/** An edge, and what is for this edge alone. */
export interface ProfileEdge {
  /** Normalised by {@link edgeUrl}. */
  readonly url: string;
  /** The token, or `@` and the absolute path of a file with it. */
  readonly token?: string;
  /** Absolute path of certificates to trust for this edge, in PEM. */
  readonly ca?: string;
}

export interface Profile {
  /** Absent for an operator, who has a token for `mailbox` alone. */
  readonly address?: string;
  readonly transport?: TransportName;
  readonly edges: readonly [ProfileEdge, ...ProfileEdge[]];
}

/** Profiles by name. */
export type Profiles = ReadonlyMap<string, Profile>;

export interface ConfigProblem {
  /** Counted from 1; undefined if the problem is in no line. */
  readonly line: number | undefined;
  /** A sentence without its full stop. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;
}

/** Arrays and inline tables are nested no deeper than `profiles = {a = {edges = [{url = ""}]}}`. */
const DEPTH = 8;

const HEADER = `# Profiles of grooveway. Tokens are as good as passwords: keep this file to yourself (chmod 600).
# grooveway login and logout write it anew, without comments.
`;

/** Parses the text of config.toml. */
export function parseConfig(text: string): Result<Profiles, ConfigProblem> {
  let document: unknown;
  try {
    document = parse(text, { maxDepth: DEPTH });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const { line } = error;
    return { ok: false, problems: { line, problem: `it is not TOML${reasonOf(error)}`, cure: "correct the line" } };
  }
  const findings: Finding[] = [];
  const profiles = profilesOf(document, (finding) => findings.push(finding));
  const [first] = findings;
  if (first === undefined) return { ok: true, value: profiles };
  const { path, problem, cure } = first;
  return { ok: false, problems: { line: lineOf(text, path), problem, cure } };
}

/** Formats profiles as the text of config.toml. */
export function formatConfig(profiles: Profiles): string {
  return `${HEADER}\n${stringify({ profiles: Object.fromEntries(profiles) })}`;
}

/** Reports whether a text can be the name of a profile: it is safe in a shell, and a key of TOML or of an object. */
export function isProfileName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(text);
}

/** What {@link isProfileName} allows, for error messages. */
export const PROFILE_NAME = "a name of up to 64 letters, digits, - and _";

/**
 * Normalises the URL of an edge, so that equal texts mean the same edge; undefined if it is none. Two URLs that differ
 * in scheme, port or path are different edges: a token for one must not go to the other.
 */
export function edgeUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, origin, pathname, username, password, search, hash } = new URL(text);
  if (!/^https?:$/.test(protocol) || `${username}${password}${search}${hash}` !== "") return undefined;
  return `${origin}${pathname.replace(/\/+$/, "")}`;
}

/** Reports whether a text has only the characters of a token [RFC 6750 2.1]. */
export function isToken(text: string): boolean {
  return /^[\w.~+/-]+=*$/.test(text);
}

/** Where something is in the document: keys, and indices of arrays. */
type Path = readonly (string | number)[];

interface Finding extends Omit<ConfigProblem, "line"> {
  readonly path: Path;
}

type Report = (finding: Finding) => void;

/** The first line of a TomlError says what is wrong. The rest quotes the document, which may contain a token. */
function reasonOf({ message }: TomlError): string {
  const [, reason = ""] = /^Invalid TOML document: ([a-z][a-z ,.:'-]*)$/m.exec(message) ?? [];
  return reason === "" ? "" : ` (${reason})`;
}

function profilesOf(document: unknown, report: Report): Profiles {
  const { profiles = {} } = tableAt(document, [], ["profiles"], report);
  const found = new Map<string, Profile>();
  for (const [name, value] of Object.entries(tableAt(profiles, ["profiles"], undefined, report))) {
    const path = ["profiles", name];
    if (!isProfileName(name)) {
      report({ path, problem: `${printable(name)} cannot name a profile`, cure: `choose ${PROFILE_NAME}` });
    }
    found.set(name, profileOf(value, path, report));
  }
  return found;
}

function profileOf(value: unknown, path: Path, report: Report): Profile {
  const table = tableAt(value, path, ["address", "transport", "edges"], report);
  const address = textAt(table, path, "address", addressProblem, report);
  const name = textAt(table, path, "transport", transportProblem, report);
  const transport = TRANSPORTS.find((transport) => transport === name);
  const { edges = [] } = table;
  if (!Array.isArray(edges)) {
    report({
      path: [...path, "edges"],
      problem: "edges is not a list of tables",
      cure: 'write [{ url = "https://..." }]',
    });
  }
  const [first, ...others] = (Array.isArray(edges) ? edges : []).map((edge, index) =>
    profileEdgeOf(edge, [...path, "edges", index], report),
  );
  if (first === undefined) {
    report({ path, problem: "the profile has no edge", cure: 'give it one: edges = [{ url = "https://..." }]' });
  }
  const urls = [first, ...others].map((edge) => edge?.url);
  const again = urls.findIndex((url, index) => urls.indexOf(url) !== index);
  if (again > 0)
    report({ path: [...path, "edges", again, "url"], problem: "the edge is listed twice", cure: "remove it here" });
  return {
    ...(address !== undefined && { address }),
    ...(transport !== undefined && { transport }),
    edges: [first ?? { url: "" }, ...others],
  };
}

function profileEdgeOf(value: unknown, path: Path, report: Report): ProfileEdge {
  const table = tableAt(value, path, ["url", "token", "ca"], report);
  const url = textAt(table, path, "url", urlProblem, report);
  if (!Object.hasOwn(table, "url")) {
    report({ path, problem: "the edge has no url", cure: 'give it one: url = "https://..."' });
  }
  const token = textAt(table, path, "token", tokenProblem, report);
  const ca = textAt(table, path, "ca", pathProblem, report);
  return {
    url: edgeUrl(url ?? "") ?? "",
    ...(token !== undefined && { token }),
    ...(ca !== undefined && { ca }),
  };
}

/**
 * Checks that a value is a table.
 *
 * @param keys the known keys; undefined if any will do
 */
function tableAt(
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
type TextProblem = readonly [problem: string, cure: string] | undefined;

function textAt(
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
  report({ path: [...path, key], problem: `${key} ${problem}`, cure });
  return undefined;
}

function addressProblem(text: string): TextProblem {
  const parsed = parseAddress(text);
  if (!parsed.ok) return ["is no address", parsed.problems];
  const { device, relay } = parsed.value;
  if (device !== undefined && relay === undefined) return undefined;
  return [`is ${printable(text)}`, "write identity/device, such as alice/laptop"];
}

function transportProblem(text: string): TextProblem {
  if (TRANSPORTS.some((name) => name === text)) return undefined;
  return [`is ${printable(text)}, which is unknown`, `choose one of ${TRANSPORTS.join(", ")}`];
}

function urlProblem(text: string): TextProblem {
  // A URL may contain a password.
  return edgeUrl(text) === undefined ? ["is not the URL of an edge", "write https://edge.example.com"] : undefined;
}

function tokenProblem(text: string): TextProblem {
  if (text.startsWith("@")) return pathProblem(text.slice(1));
  return isToken(text) ? undefined : ["has characters that no token has", "check that it is complete"];
}

function pathProblem(text: string): TextProblem {
  // Commands run in any folder.
  return /^(?:\/|\\\\|[A-Za-z]:[\\/])/.test(text) ? undefined : ["is not an absolute path", "write the whole path"];
}

/**
 * Returns the line in which something is, or ends: the first one up to which the document has it. The parser gives no
 * positions, so it is searched by halves.
 */
function lineOf(text: string, path: Path): number | undefined {
  const lines = text.split("\n");
  /** Undefined where the text ends within a value of several lines. */
  const hasUpTo = (line: number) => {
    const document = parsed(`${lines.slice(0, line).join("\n")}\n`);
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

function parsed(text: string): unknown {
  try {
    return parse(text, { maxDepth: DEPTH });
  } catch {
    return undefined;
  }
}

function has(value: unknown, [key, ...others]: Path): boolean {
  if (key === undefined) return value !== undefined;
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return false;
  return has((value as Readonly<Record<string | number, unknown>>)[key], others);
}
