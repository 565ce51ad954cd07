/**
 * The numbers of the Worker's half of a connection, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

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

/**
 * The same where the virtual connection ends at this edge: its last octets say why, and a device that has read them
 * goes by itself. One that is behind has as long to read them.
 */
export const FAREWELL = 10_000;

/** How long a KeepAlive GET is held. The field's safe figure under the 30 s after which many proxies give up. */
export const HOLD_TIME = 25_000;

/**
 * A LongLived POST must not be silent for longer: twice the 45 s at which SSTP sends a Noop on an idle connection
 * [MS-GRVHENC 3.1.2.3].
 */
export const BODY_TIMEOUT = 90_000;

/** On an idle LongLived connection the Worker says so often that the edge is there, without waking anybody. */
export const NOOP_INTERVAL = 25_000;
