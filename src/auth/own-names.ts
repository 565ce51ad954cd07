/**
 * The edge's own names: the setting RELAY_NAME. Devices, and the `aud` of tokens, name the edge by any of them. Pure.
 *
 * @module
 */
import { AddressError, relayURL } from "../sstp/index.ts";

interface Names {
  /** In lower case. */
  readonly names: readonly string[];
  /** Entries that are not a Relay-Server-Name, so nothing can address the edge by them. */
  readonly malformed: readonly string[];
}

/** Cached, because each request reads the setting. */
let last: { readonly text: string; readonly names: Names } = { text: "", names: { names: [], malformed: [] } };

/**
 * Parses RELAY_NAME: names separated by commas or spaces. The edge introduces itself by the first.
 *
 * @example
 * parseOwnNames("Edge.example.com, 192.0.2.7"); // { names: ["edge.example.com", "192.0.2.7"], malformed: [] }
 */
export function parseOwnNames(text: string | undefined): Names {
  if (text !== undefined && text !== last.text) last = { text, names: namesIn(text) };
  return text === undefined ? { names: [], malformed: [] } : last.names;
}

/** Returns the well-formed names in RELAY_NAME. */
export function ownNames(text: string | undefined): readonly string[] {
  return parseOwnNames(text).names;
}

function namesIn(text: string): Names {
  const names = new Set<string>();
  const malformed: string[] = [];
  for (const entry of text.split(/[\s,]+/)) {
    if (entry === "") continue;
    try {
      relayURL(entry);
      names.add(entry.toLowerCase());
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      malformed.push(entry);
    }
  }
  return { names: [...names], malformed };
}
