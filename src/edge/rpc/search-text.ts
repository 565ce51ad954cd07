/**
 * URLs of peers as they are searched: people write a slash or a colon in a name as it is, in a URL it is escaped.
 *
 * @module
 */

/** Characters that a name and a URL both have, by their escapes in lower case. */
export const UNESCAPED = { "%2f": "/", "%3a": ":", "%40": "@" } as const;

/** A URL, or what is searched for in it, in lower case and without these escapes. */
export function searchText(text: string): string {
  const lower = text.toLowerCase();
  return Object.entries(UNESCAPED).reduce((all, [escaped, character]) => all.replaceAll(escaped, character), lower);
}
