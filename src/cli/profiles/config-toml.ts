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
import { stringify } from "smol-toml";
import { TRANSPORTS, type TransportName } from "../../device/index.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import { parseAddress } from "../../sstp/index.ts";
import { type Path, type Report, readToml, type TextProblem, type TomlProblem, tableAt, textAt } from "../toml.ts";

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

/** Arrays and inline tables are nested no deeper than `profiles = {a = {edges = [{url = ""}]}}`. */
const DEPTH = 8;

const HEADER = `# Profiles of grooveway. Tokens are as good as passwords: keep this file to yourself (chmod 600).
# grooveway login and logout write it anew, without comments.
`;

/** Parses the text of config.toml. */
export function parseConfig(text: string): Result<Profiles, TomlProblem> {
  return readToml(text, DEPTH, profilesOf);
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
