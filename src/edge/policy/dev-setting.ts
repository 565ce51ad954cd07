/**
 * The setting DEV: permits things here that are refused in production. Pure.
 *
 * @module
 */

/** What is permitted. */
export interface Dev {
  /** Relays at loopback, private and other non-public addresses. */
  readonly private: boolean;
  /** An edge without keys, which any client may use. */
  readonly open: boolean;
  /** An allow list that allows every relay. */
  readonly wildcard: boolean;
  /** Unknown words of the setting, which permit nothing. */
  readonly unknown: readonly string[];
}

const WORDS: readonly string[] = ["private", "open", "wildcard"];

/**
 * Parses DEV: empty for production, `1` for everything insecure, or a list of `private`, `open` and `wildcard`,
 * separated by commas or spaces.
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
