/**
 * A relay's PeerProductCapabilities: words separated by blanks. Unknown and malformed words are ignored.
 *
 *     vouched             it vouches for the ids of its messages; see vouched-id.ts
 *     message=16777216    the longest message that it takes, in bytes
 *
 * @module
 */

/** A relay's capabilities. */
export interface Capabilities {
  readonly vouched: boolean;
  /** Undefined if the relay does not say. */
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
    // If there are several, the lowest applies.
    longestMessage: limits.length === 0 ? undefined : Math.min(...limits),
  };
}

/** Formats the capabilities of our relay role. */
export function formatCapabilities(longestMessage: number): string {
  return `vouched message=${longestMessage}`;
}
