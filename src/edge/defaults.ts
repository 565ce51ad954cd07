/**
 * Every number of the edge, with its reason. Octets and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * The most that one read takes from a body or a socket. The platform's own chunks are 4 KiB and cost more per octet
 * by a factor of four to eleven; above 256 KiB nothing is gained.
 */
export const READ_SIZE = 256 * 1024;

/**
 * The most that rides on the doorbell itself. It is the size of one KeepAlive answer, so that an answer is never
 * fetched after the bell has rung; what is larger streams.
 */
export const BELL_OCTETS = 32768;

/**
 * A read at least this long is the sign of bulk: then the platform's own copying carries what follows, at several times
 * the rate of calls with a chunk each.
 */
export const BULK_OCTETS = 64 * 1024;

/**
 * Pause between the last octets of a LongLived GET and its end. The platform ends a body that is shorter than its
 * Content-Length by dropping what it still holds of it, and does not tell when the device's socket has taken it.
 */
export const LINGER = 1000;

/** How long a KeepAlive GET is held. The field's safe figure under the 30 s after which many proxies give up. */
export const HOLD_TIME = 25_000;

/** TCP connect to an origin relay. A relay that needs longer is not going to be usable. */
export const DIAL_TIMEOUT = 10_000;

/** How long a poll waits for octets: long enough for an answer from the relay, short since nothing can be sent meanwhile. */
export const POLL_HOLD = 100;

/**
 * The poll timer that this edge gives to Polling clients [MS-GRVHENC 3.6.5.2.1]: seconds, seconds, count. An idle
 * device is heard of each second at first and each 30 s in the end.
 */
export const POLL_TIMES = { minimum: 1, maximum: 30, repetitions: 10 } as const;

/** Silence after which a Polling device is gone: the longest interval that it was told, twice, and time for a slow proxy. */
export const POLL_RECEIVE_TIMEOUT = 90_000;

/**
 * A POST body or a poll must come in whole within this time, and a LongLived POST must not be silent for longer: twice
 * the 45 s at which SSTP sends a Noop on an idle connection [MS-GRVHENC 3.1.2.3].
 */
export const BODY_TIMEOUT = 90_000;
