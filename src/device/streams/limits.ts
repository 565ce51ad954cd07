/**
 * Limits of streams between devices, beside those of the channel itself (`streams/limits.ts`). In bytes and milliseconds
 * unless stated otherwise.
 *
 * @module
 */

/** Packets of one message, up to one packet more: with that, less than the edge passes on in one call. */
export const BATCH = 128 * 1024;

/**
 * What a channel has sent and the edge has not acknowledged. The edge acknowledges a batch when the other device's end
 * of it has room, so this much may stand before other messages of this device when the other one is slow. It begins with
 * two batches; 1 MiB is 20 MB/s at a round trip of 50 ms.
 */
export const FLIGHT_FIRST = 2 * BATCH;
export const FLIGHT_MOST = 1024 * 1024;
export const FLIGHT_LEAST = 32 * 1024;

/**
 * What all channels of a device have on their way before the last batch, so that with it this is no more than the edge
 * holds of a device, 512 KiB. Beyond, the edge does not read the device, nor its acknowledgements of what it receives:
 * two devices that stream to each other would stop each other.
 */
export const FLIGHT_OF_DEVICE = 512 * 1024 - BATCH - 64 * 1024;

/** A batch that is acknowledged later than this halves the flight: other messages of this device wait behind it. */
export const SLOW_ACKNOWLEDGEMENT = 500;

/** Channels of a device, half of them begun by others: each has keys and a timer. As many as sessions to devices. */
export const CHANNELS = 256;

/**
 * Channels that the devices of one identity have begun to this one: one each, and what they left behind when their
 * programs were restarted.
 */
export const CHANNELS_OF_IDENTITY = 32;

/** Answers to packets of unknown channels that wait to be sent. More are dropped: their senders ask again. */
export const NOTICES = 16;

/** How often a closing device looks whether the others have everything. */
export const DRAIN_LOOK = 10;

/** How long a channel without streams stays, for the next one: a person reloads a page, or types the next command. */
export const IDLE_CHANNEL = 60_000;

/** The same for the device that was dialed: longer, since the other one closes in order. */
export const IDLE_ANSWERED = 5 * IDLE_CHANNEL;

/** The most that the application reads at once. */
export const READ = 64 * 1024;
