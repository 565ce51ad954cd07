/**
 * Counts what a channel to an origin relay carries. Streams that the platform copies go past it: to count them, our code
 * would have to run for each piece, at a fraction of the rate.
 *
 * @module
 */
import type { ByteChannel } from "../byte-channel.ts";
import { counters } from "../metrics/counters.ts";

/** @param counted called after each count */
export function countedChannel(channel: ByteChannel, counted: () => void): ByteChannel {
  return {
    ...channel,
    async write(octets) {
      await channel.write(octets);
      counters.count("passedThroughBytes", "to relay", octets.length);
      counted();
    },
    take(max) {
      const taken = channel.take(max);
      if (taken?.kind === "octets") {
        counters.count("passedThroughBytes", "from relay", taken.octets.length);
        counted();
      }
      return taken;
    },
  };
}
