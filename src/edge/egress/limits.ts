/**
 * Limits of connections to destinations, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Packets of one message to the device, up to one packet more: less than what a call to its Tunnel carries. */
export const BATCH = 128 * 1024;

/** The most that is read at once, from TCP and of what the device has sent. */
export const READ = 64 * 1024;

/** The longest packet, without a few octets. */
const PACKET = 64 * 1024;

/**
 * What is held of one TCP connection towards the device: two batches of the edge. TCP has acknowledged it and the device
 * has not, so it cannot be read again; what may be on its way of that bounds the rate to 7 MB/s at a round trip of 50 ms.
 */
const HELD = 512 * 1024;

/** The largest credit of one TCP connection, towards the destination. */
const WINDOW = 1024 * 1024;

/** In how many steps it is renewed: each costs a call and a message to the device, as much as a batch. */
const STEPS = 4;

/** The part of it that waits to be sealed, before the last read: with that, it fills a batch. */
const UNSENT = BATCH - READ;

/**
 * The same for all connections of a device: two objects of many devices fit into the 128 MB of an isolate with all of
 * this in use. Most connections are idle, and those that nobody reads hold no more than their first credit.
 */
const HELD_OF_ALL = 16 * 1024 * 1024;

/** Sealing stops behind the packet that exceeds this. */
export const KEPT = { unsent: UNSENT, ofStream: HELD - BATCH - PACKET, ofAll: HELD_OF_ALL } as const;

/** Of all channels of a device together, each of another bearer: one that is alone gets half of it. */
export const KEPT_OF_DEVICE = 2 * HELD_OF_ALL;

/** TCP connections of a device, which gets a few less: more than a browser opens, and a reserve of 4 MiB for new ones. */
export const STREAMS = 256;

export const CREDIT = { granted: HELD_OF_ALL, streams: STREAMS, window: WINDOW, steps: STEPS } as const;

/** What has arrived is acknowledged at once with the credit for it. */
export const ACKNOWLEDGE_OCTETS = WINDOW / STEPS;

/** Connections that are dialled at a time: the platform lets a seventh wait, and its deadline would run meanwhile. */
export const DIALS = 6;

/** Tokens whose bearers use the same device address at a time: one, and those that it has replaced. */
export const CHANNELS = 8;

/** How long a channel without connections stays, if the device has not closed it: longer than a device does. */
export const IDLE = 300_000;

/** The platform keeps an object in memory for 15 minutes after it has dialled. A minute before, it needs to be woken. */
export const KEPT_BY_PLATFORM = 14 * 60_000;

/** From then on an event within the 70 s after which it evicts idle objects does. */
export const KEEP_AWAKE = 60_000;
