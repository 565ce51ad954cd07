/**
 * All limits of streams, with reasons. In bytes and milliseconds unless stated otherwise.
 *
 * @module
 */

/** The longest body of a packet: Noise allows messages of 65,535, and two octets hold no greater length. */
export const BODY_OCTETS = 65_535;

/** Credit of a new stream in either direction, without asking: what an initial TCP window holds, about 10 segments. */
export const RESERVE = 16 * 1024;

/** The largest window of a stream: 80 MB/s at a round trip of 50 ms. */
export const WINDOW = 4 * 1024 * 1024;

/** In how many steps a window is renewed: what is not announced yet, an eighth, is lost to the rate. */
export const STEPS = 8;

/** The least step: of smaller ones the announcements would cost more than the data. */
export const LEAST_STEP = RESERVE / 4;

/** Credit that a device has granted and its applications have not used, over all channels: its memory for streams. */
export const GRANTED = 32 * 1024 * 1024;

/**
 * Streams of a device, over all channels. Half of GRANTED is their reserve, so that a new stream never waits for old
 * ones; the other half is for windows that grow.
 */
export const STREAMS = GRANTED / 2 / RESERVE;

/**
 * A peer gets another stream as long as it has fewer than this many times those that are left: more than 1,000 if it is
 * alone, and not those that others need to begin.
 */
export const TIMES_LEFT = 64;

/** Unsent bytes of a stream that has credit: a batch of the edge, so that one write fills one. */
export const UNSENT = 256 * 1024;

/** Data of one stream in a record while others wait: 16 busy streams delay a keystroke by a quarter of a megabyte. */
export const TURN = 16 * 1024;

/** Sealed octets kept for resending. An honest peer has granted no more; from others no more is believed. */
export const KEPT_OCTETS = GRANTED;

/** What a channel may keep, however much others do: what one stream may write ahead. */
export const KEPT_LEAST = UNSENT;

/**
 * Sealed records kept for resending: as many as KEPT_OCTETS holds of 2 KiB. Without acknowledgement only answers that
 * the peer needs in order to acknowledge are sealed beyond this, and none beyond twice as many.
 */
export const KEPT_RECORDS = 16 * 1024;

/** Refusals and resets waiting to be sent. A peer that opens streams without reading the refusals exceeds it. */
export const WAITING_RESETS = 4096;

/** Received data below this is copied together: a view would keep its whole record, an object each octet. */
export const SMALL_DATA = 1024;

/** Size of the blocks for that: a page, wasted at most once per stream. */
export const SMALL_BLOCK = 4096;

/** How long an acknowledgement waits for something to travel with: less than a person notices. */
export const ACKNOWLEDGE_AFTER = 25;

/** Octets that are acknowledged at once, where the peer keeps as little as the edge does: a third of it. */
export const ACKNOWLEDGE_OCTETS = 128 * 1024;

/** Round trip assumed before the first is measured: a guess between a continent and a poll. */
export const FIRST_ROUND_TRIP = 200;

/** The least round trip that windows reckon with: programs read in bursts, and wait some milliseconds between them. */
export const LEAST_ROUND_TRIP = 10;

/** The least time without acknowledgement before the peer is asked. A lost batch is rare, a busy edge is not. */
export const PROBE_AFTER = 1000;

/** The longest time between two such questions, unless three round trips are longer. */
export const PROBE_LIMIT = 30_000;

/** How long a channel with streams may be silent before a ping: few wake-ups, and still several per resume time. */
export const KEEP_ALIVE = 120_000;

/**
 * How long a handshake may take, its repetitions included. A person waits for it; but an idle device that polls asks for
 * its packets every 30 s only.
 */
export const HANDSHAKE_TIME = 45_000;

/** Default of how long streams outlive their path: a change of network, a closed lid, a deploy. */
export const RESUME_TIME = 600_000;

/** The longest resume time that a peer is believed. */
export const RESUME_LIMIT = 24 * 3_600_000;

/**
 * Records under one key: 2^20 full records are 2^32 blocks, at which AES-GCM is still indistinguishable from random
 * but for a chance of 2^-64.
 */
export const RECORDS_OF_KEY = 2 ** 20;

/** The longest name of a service, in octets: room for a host name and a port. */
export const SERVICE_OCTETS = 255;
