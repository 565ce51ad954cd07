/**
 * The doorbell: the hibernatable WebSocket between a Worker that parks a GET and the Tunnel that will have data for it.
 * It costs nothing while it is silent. At most one ring is in flight: the Tunnel rings once, then waits to be armed
 * again, so a slow device blocks the Tunnel.
 *
 *   Tunnel → Worker   binary       part of the body, up to 32768 bytes; the first is the echo string
 *                     "pull"       more than that waits: fetch it as a stream, then arm
 *                     close 4000   the virtual connection has ended; the close reason is the name of a Reason
 *                     close 1000   the hold time is over without data: answer with an empty body
 *   Worker → Tunnel   "arm"        the data of the last ring has been written to the device
 *                     "arm N"      the same, and the Worker has written N bytes of its own before it
 *                     "release"    the hold time is over
 *                     close 1000   the answer is complete
 *                     close 4001   the device is gone
 *
 * @module
 */

/**
 * Silence in milliseconds after which a stream between a Worker and an object that can hibernate ends. Longer than a
 * recipient's disk or a long line takes to acknowledge a window, so that a large transfer keeps its streams: to open one
 * for each message halves the rate. Short beside the ten seconds after which the platform lets an object hibernate.
 */
export const BULK_IDLE = 250;

/**
 * Close codes of the doorbell: 1000 is a normal end, the others are from the range that WebSocket leaves to
 * applications.
 */
export const BELL_CLOSE = { done: 1000, refused: 4000, deviceGone: 4001 } as const;
