/**
 * The edge's own names: the setting RELAY_NAME. Devices, and the `aud` of tokens, name the edge by any of them. Pure.
 *
 * @module
 */
import { entriesOf, type Setting, settled } from "../lib/setting.ts";
import { parseRelayName } from "../sstp/index.ts";

/** Cached, because each request reads the setting. */
let last: { readonly text: string; readonly names: readonly string[] } = { text: "", names: [] };

/**
 * Reads RELAY_NAME: names separated by commas or spaces. The edge introduces itself by the first.
 *
 * @returns the names in lower case
 *
 * @example
 * readOwnNames("Edge.example.com, 192.0.2.7"); // { ok: true, value: ["edge.example.com", "192.0.2.7"] }
 */
export function readOwnNames(text: string): Setting<readonly string[]> {
  const cure = "write host names (--name NAME), with a port only if devices use the port too";
  const wrong = entriesOf(text).filter((entry) => !isName(entry));
  const problems = wrong.map((entry) => `has ${JSON.stringify(entry)}, which is not a name that a device could use`);
  return settled(
    ownNames(text),
    problems.map((problem) => ({ setting: "RELAY_NAME", problem, cure })),
  );
}

/** The names in RELAY_NAME by which an edge can be addressed. Other entries have no effect. */
export function ownNames(text = ""): readonly string[] {
  if (text !== last.text) {
    const names = entriesOf(text).filter(isName);
    last = { text, names: [...new Set(names.map((name) => name.toLowerCase()))] };
  }
  return last.names;
}

function isName(entry: string): boolean {
  return parseRelayName(entry).ok;
}
