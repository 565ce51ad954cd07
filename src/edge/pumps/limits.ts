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

/**
 * Longest silence of a LongLived POST: twice the 45 s after which SSTP sends a Noop on an idle connection
 * [MS-GRVHENC 3.1.2.3].
 */
export const BODY_TIMEOUT = 90_000;

/** Interval of the Noops that the Worker sends on an idle LongLived GET. They do not wake the Tunnel. */
export const NOOP_INTERVAL = 25_000;

/**
 * How long a long-poll of a stream waits: safely below the 30 s after which many proxies give up. And how long a connection for events lives: less than
 * the minute after which many intermediaries cut a connection, and about as the protocol recommends [PROTOCOL 10.2].
 */
export const LONG_POLL_TIME = 25_000;
export const EVENTS_TIME = 55_000;

/**
 * Time for the object of a stream to answer a read: one that has to be moved is back by then. Events without heartbeats
 * for longer would be cut by intermediaries, or never end.
 */
export const READ_TIMEOUT = 20_000;

/** Interval of heartbeats among events: intermediaries that cut idle connections wait for twenty seconds or more. */
export const HEARTBEAT_INTERVAL = 15_000;

/**
 * Bytes of the rings kept for a reader that is slow, so that a thousand of them fit into an isolate. What is beyond them
 * is read when the reader has caught up.
 */
export const KEPT_OCTETS = 64 * 1024;

/**
 * Time for a reader to take events. Then its connection ends, at most half as long later, and it goes on where it was by
 * the next one. The slowest lines carry what is written at once in that time.
 */
export const EVENTS_TAKE_TIME = 30_000;

/** When many readers lose their stream at once, they come back within this time, not all in one moment. */
export const COME_BACK_TIME = 3000;
