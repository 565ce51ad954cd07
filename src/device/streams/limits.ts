/**
 * Limits of streams between devices, beside those of the channel itself (`streams/limits.ts`). In bytes and milliseconds
 * unless stated otherwise.
 *
 * @module
 */

/**
 * Packets of one message, up to one packet more: three full ones, less than the edge passes on in one call. Messages cost
 * the edge more than bytes.
 */
export const BATCH = 192 * 1024;

/**
 * What a device has sent of its streams and the edge has not acknowledged. The edge acknowledges a batch when the other
 * device's end of it has room. It begins with two batches; the most is 80 MB/s at a round trip of 50 ms, and half of what
 * an edge accepts of a WebSocket that it has asked to hold.
 */
export const FLIGHT_FIRST = 2 * BATCH;
export const FLIGHT_MOST = 4 * 1024 * 1024;
export const FLIGHT_LEAST = 32 * 1024;

/**
 * The same before the last batch where one exchange brings and takes, so that with it this is no more than the edge holds
 * of a device, 512 KiB: beyond, the edge does not answer, and two such devices that stream to each other would stop each
 * other.
 */
export const FLIGHT_IN_TURNS = 512 * 1024 - BATCH - 64 * 1024;

/** Of a window, the part after which another message is acknowledged at once: so little of it is not known to have left. */
export const URGENT_SHARE = 8;

/**
 * What should wait on the way: with less the way may stand still, and more is of no use. The edge holds two batches of
 * 256 KiB at each end.
 */
export const QUEUE_LEAST = BATCH;
export const QUEUE_MOST = 3 * BATCH;

/**
 * What is received from a device before it is acknowledged at once: each acknowledgement costs the edge as much as a
 * batch, and the device keeps up to 32 MiB for it.
 */
export const ACKNOWLEDGE_OCTETS = 512 * 1024;

/** Messages that wait longer than this on the way are too many: other messages of this device wait behind them. */
export const SLOW = 500;

/**
 * How long the least round trip counts before it is measured again, for which the way is emptied: once in this time, for
 * two round trips. With so little on its way:
 */
export const ROUND_TRIP_TIME = 30_000;
export const FLIGHT_EMPTY = FLIGHT_LEAST / 2;

/** Channels of a device, half of them begun by others: each has keys and a timer. As many as sessions to devices. */
export const CHANNELS = 256;

/**
 * Channels that the devices of one identity have begun to this one: one each, and what they left behind when their
 * programs were restarted.
 */
export const CHANNELS_OF_IDENTITY = 32;

/** Answers to packets of unknown channels that wait to be sent. More are dropped: their senders ask again. */
export const NOTICES = 16;

/**
 * How long such an answer, or the last packet of a channel, waits for its session. A relay opens one within a round trip;
 * a session that is never opened, or stays suspended, must not keep the place of another.
 */
export const LAST_PACKET = 30_000;

/** How often a closing device looks whether the others have everything. */
export const DRAIN_LOOK = 10;

/** How long a channel without streams stays, for the next one: a person reloads a page, or types the next command. */
export const IDLE_CHANNEL = 60_000;

/** The same for the device that was dialed: longer, since the other one closes in order. */
export const IDLE_ANSWERED = 5 * IDLE_CHANNEL;

/** The most that the application reads at once. */
export const READ = 64 * 1024;
