/**
 * How much of a queue one sender may fill: as much as is still free, so that nobody can fill it for all. One alone gets
 * half, the next half of what is left; a newcomer always finds as much room as the largest has. These are the dynamic
 * thresholds of shared switch buffers (Choudhury and Hahne, 1998): they need no list of who will come.
 *
 * @module
 */

const DEVICE = "grooveDevice://";

/**
 * Who a source counts as: the devices of an identity are one sender, since one token may name all of them; a relay is one,
 * whomever it speaks for.
 */
export function senderOf(source: string): string {
  if (!source.startsWith(DEVICE)) return source;
  const end = source.indexOf("/", DEVICE.length);
  return end < 0 ? source : source.slice(0, end);
}

/**
 * Whether a sender may add something.
 *
 * @param own what the sender has, with what is added
 * @param all what everybody has, with what is added
 */
export function isWithinShare(own: number, all: number, capacity: number): boolean {
  return own <= capacity - all;
}
