/**
 * Every number of the diagnosis, with its reason. Times are in milliseconds.
 *
 * @module
 */

/** How long a way has to carry one question and its answer: the time in which a device must have found a way. */
export const PROBE_TIMEOUT = 6000;

/** Probes at a time: the four transports over one path, which then differ only in what the path does to them. */
export const PROBES = 4;

/** Ways that are tried. A PAC file may name eight proxies; more than four chains tell the user nothing new. */
export const PROBED_WAYS = 24;

/** How long a probe that has its answer waits for the other side to close. */
export const FAREWELL = 500;

/** The message that is sent to oneself to measure the rate. Small enough for a mobile contract, and eight Polling bodies. */
export const RATE_OCTETS = 256 * 1024;

/** How long that may take, the connection included. A way that does not finish is slower than 43 KiB/s. */
export const RATE_TIMEOUT = PROBE_TIMEOUT;

/** A round trip that a person notices at every command. Links over a satellite stay below it. */
export const SLOW_ROUND_TRIP = 2000;

/** Bytes per second, there and back. Below it a photo takes a minute. */
export const SLOW_RATE = 64 * 1024;

/** A clock that is further off is worth a warning: the edge tolerates half a minute in tokens. */
export const CLOCK_SKEW = 30_000;

/** Certificates that are followed from a server's own to its authority. Real chains have two to four. */
export const LONGEST_CHAIN = 8;

/** Random bytes in the name of the device that probes: no two runs meet. */
export const NAME_OCTETS = 6;

/** Addresses of the edge that are shown. A name has two to eight. */
export const SHOWN_ADDRESSES = 8;
