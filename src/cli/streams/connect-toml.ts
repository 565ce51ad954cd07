/**
 * The contents of the file of `grooveway connect`, written as on the command lines of `expose` and `forward`. Pure.
 *
 *   [expose]
 *   ssh = "127.0.0.1:22"
 *   db = "unix:/run/postgresql/.s.PGSQL.5432"
 *
 *   [forward]
 *   2222 = "office/desk:ssh"
 *   "0.0.0.0:8080" = "office/desk:web"
 *
 * @module
 */
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import { type Report, readToml, type TextProblem, type TomlProblem, tableAt, textAt } from "../toml.ts";
import {
  type Endpoint,
  endpointText,
  parseExposed,
  parseListener,
  parseServiceAddress,
  type ServiceAddress,
} from "./stream-address.ts";

export interface Forward {
  readonly at: Endpoint;
  readonly target: ServiceAddress;
}

export interface Connections {
  /** By name. */
  readonly expose: ReadonlyMap<string, Endpoint>;
  /** By where they listen. */
  readonly forward: ReadonlyMap<string, Forward>;
}

/** Nothing is nested deeper than `expose = {ssh = ""}`. */
const DEPTH = 4;

/** Parses the text of the file. */
export function parseConnections(text: string): Result<Connections, TomlProblem> {
  return readToml(text, DEPTH, connectionsOf);
}

function connectionsOf(document: unknown, report: Report): Connections {
  const { expose = {}, forward = {} } = tableAt(document, [], ["expose", "forward"], report);
  const found = { expose: exposedIn(expose, report), forward: forwardedIn(forward, report) };
  // An editor may empty a file before it writes it anew.
  if (found.expose.size + found.forward.size === 0) {
    report({ path: [], problem: "it has nothing to expose or forward", cure: "add a table [expose] or [forward]" });
  }
  return found;
}

function exposedIn(value: unknown, report: Report): ReadonlyMap<string, Endpoint> {
  const table = tableAt(value, ["expose"], undefined, report);
  const found = new Map<string, Endpoint>();
  for (const name of Object.keys(table)) {
    const problemOf = (text: string): TextProblem => {
      const parsed = parseExposed(`${name}=${text}`);
      if (!parsed.ok) return ["is not understood", parsed.problems];
      found.set(name, parsed.value.to);
      return undefined;
    };
    textAt(table, ["expose"], name, problemOf, report);
  }
  return found;
}

function forwardedIn(value: unknown, report: Report): ReadonlyMap<string, Forward> {
  const table = tableAt(value, ["forward"], undefined, report);
  const found = new Map<string, Forward>();
  for (const written of Object.keys(table)) {
    const path = ["forward", written];
    const listener = parseListener(written);
    if (!listener.ok) {
      report({ path, problem: `${printable(written)} is not understood`, cure: listener.problems });
      continue;
    }
    const at = listener.value;
    const where = endpointText(at);
    const problemOf = (text: string): TextProblem => {
      const target = parseServiceAddress(text);
      if (!target.ok) return ["is not understood", target.problems];
      if (found.has(where)) return ["is listed twice", "remove it here"];
      found.set(where, { at, target: target.value });
      return undefined;
    };
    textAt(table, ["forward"], written, problemOf, report);
  }
  return found;
}
