/**
 * The numbers of admission and metering, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * Mailboxes a second that a device may send to for the first time on a connection: each is charged as the share of a
 * second's messages. A relay, which is not charged, has as many. To make one takes ten milliseconds, and some 350 KB of
 * memory until it is idle, so these are a sixth of a small machine and 56 MB.
 */
export const WAKES = 16;

/**
 * A device that has opened a virtual connection to this edge says Connect within this time, or it is ended: several
 * round trips through a slow proxy. As long as the encapsulations give for opening one.
 */
export const CONNECT_TIMEOUT = 30_000;

/**
 * Virtual connections of one source that are begun and have not said Connect. Each costs an object and a parked request
 * for up to a minute. Five hundred devices behind one address may come at the same moment; each is through in a second.
 */
export const HALF_OPEN = 500;

/**
 * First contacts with Tunnels that a source may make in one Worker, at once and a second: each may make an object, which
 * on a small machine takes milliseconds, and everybody else's turn comes in between. Four hundred devices with a token
 * each, all at once, are through on two cores in the same 12 s with a pace and without, and whoever talks meanwhile waits
 * a third as long with it.
 */
export const CONTACTS = 3;
export const CONTACTS_RATE = 50;

/** How long one waits for his turn, above which he is refused: all devices of a large office are through by then. */
export const CONTACTS_PATIENCE = 10_000;

/** Sources that a Worker remembers. */
export const GATE_SOURCES = 10_000;

/** How long a source with too many half-open virtual connections is told so without asking again. */
export const CROWDED_TIME = 2000;

/**
 * Requests of one source that may hit no virtual connection, at once and a second: all devices behind one address that
 * do not know yet that the edge has restarted. It takes 10^24 to guess a GUID.
 */
export const MISSES = 100;
export const MISSES_RATE = 5;

/**
 * How long a Worker keeps somebody waiting whom it turns away: whoever asks again at once then does so once a second for
 * each of his connections, instead of as fast as the Worker can say no. And how many of a source are kept waiting a
 * second: a parked request costs some 10 kB.
 */
export const TURNED_PAUSE = 1000;
export const TURNED_WAITING = 200;

/** GUIDs of virtual connections that a Worker knows: more are asked for as if they were new, which costs a turn. */
export const KNOWN_GUIDS = 50_000;

/** How long one counts that is never heard of again: both of the times that it has. */
export const HALF_OPEN_TIME = 60_000;

/** Seconds of octets and messages that may come at once after a pause: more would be a limit that nobody notices. */
export const BURST = 0.5;

/** How long a lease of octets and messages holds: a meter is asked about so often by whoever has traffic. */
export const LEASE_TIME = 1000;

/**
 * The milliseconds' worth of a share that are given out at a time. What is given out comes at once, and all others wait while
 * it is worked on, so it is little; a lease costs a call.
 */
export const SLICE = 50;

/**
 * How much longer a lease may take than it should before its isolate counts as busy: with one device that sends all it may
 * it is 1 or 2 ms. Of what is beyond that a device waits a multiple, so that it has a small part of a busy isolate and the
 * whole of its share of an idle one; at most a second, since its connection is to live.
 */
export const LATE = 5;
export const YIELD = 20;
export const YIELD_MOST = 1000;

/** What a Tunnel wants at least, beside what it owes: an answer and the next, small against the share of many. */
export const FIRST_LEASE = { octets: 16384, messages: 16 } as const;

/** What a Tunnel may owe before it asks: a device that only says that it is there needs no meter. */
export const CREDIT = { octets: 16384, messages: 16 } as const;

/** A meter that has not answered for so long is done without: the device waits meanwhile. */
export const METER_TIMEOUT = 1000;

/** When all virtual connections of a principal are in use, another try is worth it after so many seconds. */
export const FULL_RETRY = 30;

/** A virtual connection that a meter has not heard of for so long may be asked whether it is there. */
export const ASK_AFTER = 5000;

/** How many are asked at a time, and how long they have: whoever wants to connect waits for it. */
export const ASK_AT_ONCE = 16;
export const ASK_TIMEOUT = 2000;

/**
 * How often a meter looks whether the virtual connections that are written down are still there: a Tunnel that a crash took
 * away has not said goodbye. Each is woken for it, which once a day costs nothing.
 */
export const METER_LOOK = 24 * 3600_000;
