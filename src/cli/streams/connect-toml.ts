/**
 * The contents of the file of `grooveway connect`, written as on the command lines of `expose`, `forward`
 * and `forward --to`. Pure.
 *
 *   [expose]
 *   ssh = "127.0.0.1:22"
 *   db = "unix:/run/postgresql/.s.PGSQL.5432"
 *
 *   [forward]
 *   2222 = "office/desk:ssh"
 *   "0.0.0.0:8080" = "office/desk:web"
 *
 *   [socks]
 *   expose = ["*.corp.example.com:80,443", "10.1.0.0/16:5432"]
 *
 *   [socks.forward]
 *   1080 = "office/desk"
 *
 *   [to]
 *   5432 = "db.example.com:5432"
 *
 * @module
 */

import { type Destination, parseDestination } from "../../edge/policy/destinations.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import {
  type Path,
  type Report,
  readToml,
  type TextProblem,
  type TomlProblem,
  tableAt,
  textAt,
  textsAt,
} from "../toml.ts";
import type { Exposed } from "./exposed.ts";
import {
  type Endpoint,
  endpointText,
  type ForwardTarget,
  parseExposed,
  parseListener,
  parseOrigin,
  parseServiceAddress,
  parseSocksAddress,
  SOCKS,
} from "./stream-address.ts";

export interface Forward {
  readonly at: Endpoint;
  readonly target: ForwardTarget;
}

export interface Connections {
  readonly exposed: Exposed;
  /** By where they listen. */
  readonly forward: ReadonlyMap<string, Forward>;
}

/** Nothing is nested deeper than `socks = {forward = {1080 = ""}}`. */
const DEPTH = 4;

/** Parses the text of the file. */
export function parseConnections(text: string): Result<Connections, TomlProblem> {
  return readToml(text, DEPTH, connectionsOf);
}

const TABLES = ["expose", "forward", "socks", "to"] as const;

function connectionsOf(document: unknown, report: Report): Connections {
  const { expose = {}, forward = {}, socks = {}, to = {} } = tableAt(document, [], TABLES, report);
  const { forward: proxies = {}, ...others } = tableAt(socks, ["socks"], ["expose", "forward"], report);
  const exposed = { services: servicesIn(expose, report), destinations: destinationsIn(others, report) };
  const forwards = new Map<string, Forward>();
  addForwards(forwards, forward, ["forward"], serviceIn, report);
  addForwards(forwards, proxies, ["socks", "forward"], proxyIn, report);
  addForwards(forwards, to, ["to"], parseOrigin, report);
  // An editor may empty a file before it writes it anew.
  if (exposed.services.size + exposed.destinations.length + forwards.size === 0) {
    const cure = "add a table [expose], [forward], [socks] or [to]";
    report({ path: [], problem: "it has nothing to expose or forward", cure });
  }
  return { exposed, forward: forwards };
}

function servicesIn(value: unknown, report: Report): ReadonlyMap<string, Endpoint> {
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

function destinationsIn(table: Readonly<Record<string, unknown>>, report: Report): readonly Destination[] {
  const found: Destination[] = [];
  const problemOf = (text: string): TextProblem => {
    const parsed = parseDestination(text);
    if (!parsed.ok) return ["is not understood", parsed.problems];
    found.push(parsed.value);
    return undefined;
  };
  textsAt(table, ["socks"], "expose", problemOf, report);
  return found;
}

type ParseTarget = (text: string) => Result<ForwardTarget, string>;

/** Parses what a port of `[forward]` leads to. */
const serviceIn: ParseTarget = (text) => {
  const parsed = parseServiceAddress(text);
  if (parsed.ok || !parseSocksAddress(text).ok) return parsed;
  return { ok: false, problems: `${parsed.problems}; what that device reaches by SOCKS belongs into [socks.forward]` };
};

/** Parses what a port of `[socks.forward]` leads to. */
const proxyIn: ParseTarget = (text) => {
  const parsed = parseSocksAddress(text);
  if (!parsed.ok || parsed.value.service === SOCKS) return parsed;
  return { ok: false, problems: `${printable(text)} names a service: move the line into [forward]` };
};

function addForwards(
  found: Map<string, Forward>,
  value: unknown,
  path: Path,
  parseTarget: ParseTarget,
  report: Report,
): void {
  const table = tableAt(value, path, undefined, report);
  for (const written of Object.keys(table)) {
    const listener = parseListener(written);
    if (!listener.ok) {
      const problem = `${printable(written)} is not understood`;
      report({ path: [...path, written], problem, cure: listener.problems });
      continue;
    }
    const at = listener.value;
    const where = endpointText(at);
    const problemOf = (text: string): TextProblem => {
      const target = parseTarget(text);
      if (!target.ok) return ["is not understood", target.problems];
      if (found.has(where)) return ["is listed twice", "remove it here"];
      found.set(where, { at, target: target.value });
      return undefined;
    };
    textAt(table, path, written, problemOf, report);
  }
}
