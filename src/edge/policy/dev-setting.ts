/**
 * The setting DEV: which of the things that are refused in production are permitted here. Pure.
 *
 * @module
 */

/** What is permitted. */
export interface Dev {
  /** Relays at loopback, private and other addresses that are not public. */
  readonly private: boolean;
  /** No keys: anybody may use the edge. */
  readonly open: boolean;
  /** An allow list of everything. */
  readonly wildcard: boolean;
  /** Words of the setting that mean nothing, and permit nothing. */
  readonly unknown: readonly string[];
}

const WORDS: readonly string[] = ["private", "open", "wildcard"];

/**
 * Reads the setting DEV: empty for production, `1` for everything insecure, or a list of `private`, `open` and
 * `wildcard`, separated by commas or spaces.
 *
 * @example
 * parseDev("private"); // { private: true, open: false, wildcard: false, unknown: [] }
 */
export function parseDev(text: string | undefined): Dev {
  const words = (text ?? "").split(/[\s,]+/).filter((word) => word !== "");
  const permits = (word: string) => words.includes(word) || words.includes("1");
  return {
    private: permits("private"),
    open: permits("open"),
    wildcard: permits("wildcard"),
    unknown: words.filter((word) => word !== "1" && !WORDS.includes(word)),
  };
}
