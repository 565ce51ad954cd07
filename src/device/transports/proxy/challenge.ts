/**
 * Parses the challenges of a proxy: `Proxy-Authenticate`, possibly repeated, with several challenges in one value
 * [RFC 9110 11.2, 11.3].
 *
 * @module
 */

export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** The token that NTLM and Negotiate send instead of parameters. */
  readonly token: string | undefined;
  /** By name in lower case; the first of a repeated name. */
  readonly parameters: ReadonlyMap<string, string>;
}

const SEPARATOR = /[\t ]*,[\t ,]*|[\t ]+$/y;
const SCHEME = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?=[\t ]|,|$)[\t ]*/y;
const TOKEN68 = /([A-Za-z0-9\-._~+/]+=*)[\t ]*(?=,|$)/y;
const PARAMETER = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[\t ]*=[\t ]*(?:"((?:[^"\\]|\\.)*)"|([^\t ",]+))/y;

/** Parses header values. What is no challenge ends the value that it is in; the challenges before it count. */
export function parseChallenges(values: readonly string[]): Challenge[] {
  return values.flatMap(parseValue);
}

/** The longest name of a scheme that is shown, and how many: an answer may have thousands. */
const SHOWN_NAME = 20;
const SHOWN_SCHEMES = 8;

/** The schemes of challenges for a message, each once. */
export function schemesOf(challenges: readonly Challenge[]): string[] {
  const names = challenges.map(({ scheme }) => scheme.slice(0, SHOWN_NAME));
  return [...new Set(names)].slice(0, SHOWN_SCHEMES);
}

function parseValue(value: string): Challenge[] {
  const found: { scheme: string; token: string | undefined; parameters: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(value) ?? undefined;
    if (match !== undefined) at += match[0].length;
    return match;
  };
  while (at < value.length) {
    if (take(SEPARATOR) !== undefined) continue;
    const current = found.at(-1);
    const parameter = current === undefined || current.token !== undefined ? undefined : take(PARAMETER);
    if (current !== undefined && parameter !== undefined) {
      const [, name = "", quoted, plain = ""] = parameter;
      const key = name.toLowerCase();
      const text = quoted === undefined ? plain : quoted.replace(/\\(.)/g, "$1");
      if (!current.parameters.has(key)) current.parameters.set(key, text);
      continue;
    }
    const scheme = take(SCHEME);
    if (scheme === undefined) break;
    const token = take(TOKEN68)?.[1];
    found.push({ scheme: (scheme[1] ?? "").toLowerCase(), token, parameters: new Map() });
  }
  return found;
}
