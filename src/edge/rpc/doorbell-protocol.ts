/**
 * The doorbell: the hibernatable WebSocket between a Worker that parks a GET and the Tunnel that will have octets for
 * it. It costs nothing while it is silent. At most one message is under way: the Tunnel rings once, then waits to be
 * armed again, so a device that does not read stops the Tunnel.
 *
 *   Tunnel → Worker   octets       part of the body, up to 32768; the first is the echo string
 *                     "pull"       more than that waits: fetch the stream of it, then arm
 *                     close 4000   the virtual connection is closed, the close reason is ours by name
 *                     close 1000   the hold time is over and there is nothing: answer with an empty body
 *   Worker → Tunnel   "arm"        what was rung for has been written to the device
 *                     "arm N"      the same, and N octets that the Worker has made itself
 *                     "release"    the hold time is over
 *                     close 1000   the answer is complete
 *                     close 4001   the device is gone
 *
 * @module
 */

/** A stream between Worker and object ends after this silence when the object may sleep then. */
export const BULK_IDLE = 20;

/** Close codes of the doorbell, in the range that WebSocket leaves to applications; 1000 is a normal end. */
export const BELL_CLOSE = { done: 1000, refused: 4000, deviceGone: 4001 } as const;
