/**
 * The setting DEV: permits things here that are refused in production. Pure.
 *
 * @module
 */

import { entriesOf, type Setting, settled } from "../../lib/setting.ts";

/** What is permitted. */
export interface Dev {
  /** Relays at loopback, private and other non-public addresses. */
  readonly private: boolean;
  /** An edge without keys, which any client may use. */
  readonly open: boolean;
  /** An allow list that allows every relay. */
  readonly wildcard: boolean;
}

const WORDS: readonly string[] = ["private", "open", "wildcard"];

/** Reads DEV, of which every word must be known. */
export function readDev(text = ""): Setting<Dev> {
  const unknown = entriesOf(text).filter((word) => word !== "1" && !WORDS.includes(word));
  const problem = `has ${unknown.map((word) => JSON.stringify(word)).join(", ")}, which is unknown`;
  const cure = "write 1 (--dev), or some of private, open and wildcard";
  return settled(parseDev(text), unknown.length === 0 ? [] : [{ setting: "DEV", problem, cure }]);
}

/**
 * What DEV permits: empty for production, `1` for everything insecure, or a list of `private`, `open` and `wildcard`,
 * separated by commas or spaces. Other words permit nothing.
 *
 * @example
 * parseDev("private"); // { private: true, open: false, wildcard: false }
 */
export function parseDev(text = ""): Dev {
  const words = entriesOf(text);
  const permits = (word: string) => words.includes(word) || words.includes("1");
  return {
    private: permits("private"),
    open: permits("open"),
    wildcard: permits("wildcard"),
  };
}
