/**
 * What a relay says of itself in its PeerProductCapabilities: words separated by blanks. Those that are not known here, or not
 * well formed, mean nothing.
 *
 *     vouched             it vouches for the ids of its messages; see vouch.ts
 *     message=16777216    the longest message that it takes, in octets
 *
 * @module
 */

/** What is known of a relay by its words. */
export interface Capabilities {
  readonly vouched: boolean;
  /** Undefined when it does not say. */
  readonly longestMessage: number | undefined;
}

export function parseCapabilities(text: string): Capabilities {
  const words = text.split(" ");
  const limits = words.flatMap((word) => {
    const [, figure] = /^message=([1-9][0-9]{0,14})$/.exec(word) ?? [];
    return figure === undefined ? [] : [Number(figure)];
  });
  return {
    vouched: words.includes("vouched"),
    // Of several none may be exceeded.
    longestMessage: limits.length === 0 ? undefined : Math.min(...limits),
  };
}

/** What a relay role of ours says. */
export function formatCapabilities(longestMessage: number): string {
  return `vouched message=${longestMessage}`;
}
