/**
 * Limits of a Tunnel, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * The most data that a ring of the doorbell carries itself; more is streamed. It equals the size of one KeepAlive
 * answer, so a KeepAlive GET never needs a second fetch.
 */
export const BELL_OCTETS = 32768;

/** How long a KeepAlive GET waits in the Tunnel before it is parked: a few round trips of a busy device. */
export const SHORT_HOLD = 20;

/** Longest silence within a streamed KeepAlive POST. A device that has begun a body has all of it. */
export const BODY_SILENCE = 30_000;

/**
 * How long the Tunnel waits for a numbered GET to be repeated after its connection broke. A proxy that retries a
 * request does so at once, on a new connection.
 */
export const REPEAT_PATIENCE = 5000;

/**
 * How long a poll waits for data: long enough for the relay to answer, short because a device of another make cannot send
 * meanwhile, and because a waiting poll keeps its Tunnel in memory.
 */
export const POLL_HOLD = 100;

/** A poll with more data than this is one of many: the client probably has more to send. */
export const FULL_POLL = 32768 - 1024;

/** How long a poll waits for the one before it, which another connection brings: a client repeats a lost one by then. */
export const EARLY_PATIENCE = 10_000;

/** The longest command of an endpoint, which is never cut between two answers. */
export const COMMAND_OCTETS = 65536;

/**
 * Bytes beyond 32768 each that the answers kept for repeats may take in an isolate: an eighth of its 128 MiB. Sixteen
 * devices can be sent the longest answers at the same time; with more of them, answers are shorter.
 */
export const KEPT_ANSWERS_OCTETS = 16 * 1024 * 1024;

/**
 * The poll timer that this edge gives to Polling clients [MS-GRVHENC 3.6.5.2.1]: seconds, seconds, count. An idle
 * device polls every second at first, and every 30 s eventually.
 */
export const POLL_TIMES = { minimum: 1, maximum: 30, repetitions: 10 } as const;

/** Silence after which a Polling device is gone: twice its longest poll interval, plus time for a slow proxy. */
export const POLL_RECEIVE_TIMEOUT = 90_000;

/** Silence after which a device that pings is gone: 2.5 times the 25 s between the pings of an idle device. */
export const PING_SILENCE = 62_500;

/** Idle time after which a Tunnel saves its state, since the platform may evict it. */
export const REST_AFTER = 1000;

/** How many times an idle Tunnel that is unsettled tries to save. After that, eviction ends its virtual connection. */
export const REST_TRIES = 15;

/** Time without a parked GET after which a KeepAlive device is gone. */
export const ABSENCE = 60_000;

/**
 * Interval at which a Tunnel with state in storage checks that its socket is still there: a crash that takes both the
 * object and the socket raises no event. Once an hour costs next to nothing.
 */
export const LOST_LOOK = 3600_000;

/** Backlog of a WebSocket above which the edge sends "hold": as much as a device writes ahead. */
export const HOLD_OCTETS = 256 * 1024;

/** Backlog at which the edge sends "go on": enough to keep the edge busy until the next data arrives. */
export const GO_ON_OCTETS = 64 * 1024;

/**
 * Backlog of a WebSocket above which its virtual connection is ended. It is more than two kernels, the platform and a
 * device that holds at once can have in flight.
 */
export const HOLD_IGNORED_OCTETS = 8 * 1024 * 1024;

/**
 * Backlog of all WebSockets of an isolate, including what is being processed: half of its 128 MiB. Above it, a device
 * that ignores "hold" and has more than an equal share is disconnected; above half of it, the edge sends "hold"
 * earlier. No share is below {@link HOLD_OCTETS}, which a device that obeys "hold" may have waiting.
 */
export const HOLD_ALL_OCTETS = 64 * 1024 * 1024;

/**
 * Backlog of all WebSockets of an isolate above which the largest are dropped until the sum is below it, whether they
 * obey "hold" or not. Three quarters of the isolate's memory, so that one more message, of at most 32 MiB, fits.
 */
export const HOLD_MOST_OCTETS = 96 * 1024 * 1024;

/** What a device may have in flight when it receives "hold": ours writes 256 KiB ahead, and kernels buffer as well. */
export const HOLD_FLIGHT_OCTETS = 1024 * 1024;

/**
 * Overhead of a WebSocket message in a backlog, so that empty messages count too, and the least that a message is charged
 * for: receiving one takes as much time as that much data.
 */
export const HOLD_MESSAGE = 256;

/**
 * Messages that a device may send before its Connect is accepted. It sends one and waits; another may cut it in pieces, or
 * be eager. Until then nobody is charged for them.
 */
export const EARLY_MESSAGES = 128;

/** Text messages that this release does not know, which a newer device may send. More of them are charged like data. */
export const UNKNOWN_WORDS = 16;

/** What every WebSocket device that answers marks may leave unconfirmed: the window of every mailbox. */
export const WINDOW_OCTETS = 1024 * 1024;

/** The most of it, on a long way: 80 MB/s at a round trip of 50 ms. */
export const WINDOW_MOST = 4 * 1024 * 1024;

/** What may wait beyond what is on the way, so that the way is never empty: two batches of streams. */
export const WINDOW_SPARE = 512 * 1024;

/**
 * What all windows of an isolate may have beyond {@link WINDOW_OCTETS}: a quarter of its 128 MiB, should all devices stop
 * reading at once.
 */
export const WINDOWS_OCTETS = 32 * 1024 * 1024;

/** Data between two marks: a small part of the window, and one mark for hundreds of messages. */
export const MARK_OCTETS = 256 * 1024;

/**
 * The most answers, such as acknowledgements, in flight to a WebSocket device that answers no marks and acknowledges no
 * message. A device that exceeds it is disconnected and reconnects: one that only sends, after about a hundred thousand
 * acknowledgements.
 */
export const ANSWERS_AHEAD = 1024 * 1024;
