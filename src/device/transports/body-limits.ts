/**
 * Remembers how large the bodies of KeepAlive and Polling may be on the way to an edge: some proxies refuse large ones,
 * and others end the connection in the middle.
 *
 * @module
 */
import { STREAMED_BODY } from "../../encapsulation/index.ts";
import { BODY_LIMIT_TIME, BODY_LIMITS } from "../limits.ts";

export interface BodyLimits {
  /** The most bytes to offer for a body on the way to an edge, given by its origin. */
  limit(origin: string): number;
  /** The way has refused a body; from now on offer at most so many bytes. */
  shrink(origin: string, limit: number): void;
}

/**
 * Makes a memory that lasts as long as its device. It forgets a limit after an hour: a proxy may be mended.
 *
 * @param network a key of the network that the device is in: each has proxies of its own
 * @param now milliseconds of a monotonic clock
 */
export function bodyLimits(network: () => string, now: () => number = () => performance.now()): BodyLimits {
  const keyOf = (origin: string) => `${network()} ${origin}`;
  const limits = new Map<string, { readonly limit: number; readonly until: number }>();
  return {
    limit(origin) {
      const known = limits.get(keyOf(origin));
      return known === undefined || known.until <= now() ? STREAMED_BODY : known.limit;
    },
    shrink(origin, limit) {
      // The newest are kept.
      const key = keyOf(origin);
      limits.delete(key);
      limits.set(key, { limit, until: now() + BODY_LIMIT_TIME });
      const [oldest] = limits.keys();
      if (limits.size > BODY_LIMITS && oldest !== undefined) limits.delete(oldest);
    },
  };
}
