/**
 * The origin relays that an edge stays connected to: the setting LINKS.
 *
 * @module
 */
import { AddressError, relayURL } from "../../sstp/index.ts";

export interface Links {
  /** Relay-Server-Names, as they were written. */
  readonly names: readonly string[];
  /** The URLs of these relays, which are the names of their Links. */
  readonly urls: readonly string[];
  /** Entries that are no relay's name. */
  readonly malformed: readonly string[];
}

/** Reads the setting: entries parted by commas or blanks. */
export function parseLinks(text: string): Links {
  const names: string[] = [];
  const urls: string[] = [];
  const malformed: string[] = [];
  for (const entry of text.split(/[\s,]+/)) {
    if (entry === "") continue;
    try {
      urls.push(relayURL(entry));
      names.push(entry);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      malformed.push(entry);
    }
  }
  return { names, urls, malformed };
}
