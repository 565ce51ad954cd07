/**
 * The names of an edge: its setting RELAY_NAME. Devices mean the edge itself by any of them, and so does the `aud` of a
 * token. Pure.
 *
 * @module
 */
import { AddressError, relayURL } from "../sstp/index.ts";

interface Names {
  /** In lower case. */
  readonly names: readonly string[];
  /** Entries that are no Relay-Server-Name: nothing can be meant by them. */
  readonly malformed: readonly string[];
}

/** The setting is read with each request. */
let last: { readonly text: string; readonly names: Names } = { text: "", names: { names: [], malformed: [] } };

/**
 * Reads RELAY_NAME: names separated by commas or spaces. The first is the one that the edge calls itself by.
 *
 * @example
 * parseOwnNames("Edge.example.com, 192.0.2.7"); // { names: ["edge.example.com", "192.0.2.7"], malformed: [] }
 */
export function parseOwnNames(text: string | undefined): Names {
  if (text !== undefined && text !== last.text) last = { text, names: namesIn(text) };
  return text === undefined ? { names: [], malformed: [] } : last.names;
}

/** The names of an edge by its setting RELAY_NAME. */
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
