/**
 * PeerProductCapabilities: words separated by blanks. Unknown and malformed words are ignored.
 *
 *     vouched             of a relay: it vouches for the ids of its messages; see vouched-id.ts
 *     message=16777216    of a relay: the longest message that it takes, in bytes
 *     origins             of an edge: it dials TCP destinations for its devices
 *     send-only           of a device: this connection takes no messages. Its relay leaves what waits for the device, and
 *                         the device's other connections, alone
 *
 * @module
 */

/** What a peer says of itself. */
export interface Capabilities {
  readonly vouched: boolean;
  /** Undefined if the relay does not say. */
  readonly longestMessage: number | undefined;
  readonly origins: boolean;
  readonly sendOnly: boolean;
}

const ORIGINS = "origins";

/** Capabilities of a device's connection that only sends. */
export const SEND_ONLY = "send-only";

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
    origins: words.includes(ORIGINS),
    sendOnly: words.includes(SEND_ONLY),
  };
}

/** Formats the capabilities of our relay role. */
export function formatCapabilities(longestMessage: number, dialsOrigins = false): string {
  return `vouched message=${longestMessage}${dialsOrigins ? ` ${ORIGINS}` : ""}`;
}
