/**
 * Limits of the Worker's half of a connection, each with its reason. Bytes and milliseconds unless the name says
 * otherwise.
 *
 * @module
 */

/**
 * A read at least this long counts as bulk. What follows goes over a stream, at several times the rate of one call per
 * chunk.
 */
export const BULK_OCTETS = 64 * 1024;

/**
 * Pause between the last bytes of a LongLived GET and its end. When a body ends short of its Content-Length, the
 * platform drops what it still buffers of it, and it does not tell when the device's socket has taken the rest.
 */
export const LINGER = 1000;

/**
 * The same pause if the virtual connection ends at this edge. Its last bytes say why it ends, and a device that has
 * read them closes the connection itself; a slow device has this long to read them.
 */
export const FAREWELL = 10_000;

/** How long a KeepAlive GET is held: safely below the 30 s after which many proxies give up. */
export const HOLD_TIME = 25_000;

/**
 * Longest silence of a LongLived POST: twice the 45 s after which SSTP sends a Noop on an idle connection
 * [MS-GRVHENC 3.1.2.3].
 */
export const BODY_TIMEOUT = 90_000;

/** Interval of the Noops that the Worker sends on an idle LongLived GET. They do not wake the Tunnel. */
export const NOOP_INTERVAL = 25_000;
