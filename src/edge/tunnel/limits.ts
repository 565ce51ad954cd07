/**
 * The numbers of a Tunnel, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * The most that rides on the doorbell itself. It is the size of one KeepAlive answer, so that an answer is never
 * fetched after the bell has rung; what is larger streams.
 */
export const BELL_OCTETS = 32768;

/** How long a KeepAlive GET waits in its object before it is parked: a few round trips of a device that is busy. */
export const SHORT_HOLD = 20;

/**
 * How long a GET of a client that counts its requests is waited for when its connection has broken: a proxy that sends a
 * request again does so at once, on a new connection.
 */
export const REPEAT_PATIENCE = 5000;

/** How long a poll waits for octets: long enough for an answer from the relay, short since nothing can be sent meanwhile. */
export const POLL_HOLD = 100;

/** A poll with more data than this is full: a client that had no more to send would have sent a shorter one. */
export const FULL_POLL = 32768 - 1024;

/**
 * The poll timer that this edge gives to Polling clients [MS-GRVHENC 3.6.5.2.1]: seconds, seconds, count. An idle
 * device is heard of each second at first and each 30 s in the end.
 */
export const POLL_TIMES = { minimum: 1, maximum: 30, repetitions: 10 } as const;

/** Silence after which a Polling device is gone: the longest interval that it was told, twice, and time for a slow proxy. */
export const POLL_RECEIVE_TIMEOUT = 90_000;

/** A device that pings is gone when it has not done so for two and a half of the 25 s between pings of an idle one. */
export const PING_SILENCE = 62_500;

/** A Tunnel that has been left alone for so long writes down what it needs to go on, since it may be put to sleep. */
export const REST_AFTER = 1000;

/** How often it looks again whether everything has settled; after that it is put to sleep as it is, and starts anew. */
export const REST_TRIES = 15;

/** A device that has neither a GET parked here nor sent one for so long is gone. */
export const ABSENCE = 60_000;

/**
 * A Tunnel whose state is too large for its socket's attachment has it in storage, and looks so often whether the socket is
 * still there: a crash that takes both the object and the socket tells nobody. Once an hour costs next to nothing.
 */
export const LOST_LOOK = 3600_000;

/** Octets of a WebSocket that wait to be taken, above which its device is told to hold: as much as it writes ahead. */
export const HOLD_OCTETS = 256 * 1024;

/** Those below which it is told to go on: not so few that nothing is there while it does. */
export const GO_ON_OCTETS = 64 * 1024;

/**
 * Those above which its virtual connection is ended: what two kernels, the platform and a device that holds at once can
 * have on the way is less.
 */
export const HOLD_IGNORED_OCTETS = 8 * 1024 * 1024;

/**
 * Octets of all WebSockets of an isolate that may wait or be in the course of being taken: half of its 128 MiB. Above that
 * those which send on and have more than an equal share are ended; above half of it a device is told earlier to hold. No
 * share is below {@link HOLD_OCTETS}, which whoever holds when told may have waiting.
 */
export const HOLD_ALL_OCTETS = 64 * 1024 * 1024;

/**
 * Above this nobody is waited for: the largest of those who have most go, until it is less. Three quarters of the isolate's
 * memory, so that a last message, of which none is longer than 32 MiB, fits.
 */
export const HOLD_MOST_OCTETS = 96 * 1024 * 1024;

/**
 * What a device may have on the way when it is told to hold: ours writes 256 KiB ahead, and the kernels between have buffers.
 */
export const HOLD_FLIGHT_OCTETS = 1024 * 1024;

/** What a message that waits costs beside its octets, so that empty ones count. */
export const HOLD_MESSAGE = 256;

/** Octets on the way to a WebSocket device that it has not said to have read: as much as a mailbox sends ahead. */
export const WINDOW_OCTETS = 1024 * 1024;

/** After so many the device is asked what it has read: a small part of the window, and a word for hundreds of messages. */
export const MARK_OCTETS = 128 * 1024;

/**
 * Octets of answers, such as acknowledgements, that a WebSocket device which answers no marks is sent before it has
 * acknowledged a message, or is ended and comes again: a hundred thousand acknowledgements for one that only sends.
 */
export const ANSWERS_AHEAD = 1024 * 1024;
