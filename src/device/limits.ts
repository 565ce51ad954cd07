/**
 * Every number of the device library, with its reason. Units are bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** The longest message. The receiver holds a whole message in memory, so keep it small compared with memory. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** What `send` keeps until it is acknowledged. Beyond this `send` rejects and the caller keeps the data. */
export const OUTBOX_OCTETS = 256 * 1024 * 1024;

/** A body goes to the engine in slices of this size, so that memory does not hold a second copy of it. */
export const SLICE = 64 * 1024;

/** The device produces no more output while this much waits for the socket. */
export const WRITE_AHEAD = 256 * 1024;

/** The device stops reading a relay that leaves this many bytes of answers unread; none asks for nearly as much. */
export const ANSWERS_AHEAD = 1024 * 1024;

/** How long a device asks an edge for less after the way has refused something: it may have moved meanwhile. */
export const WAY_LIMIT_TIME = 3600_000;

/** Edges whose limits a device remembers: more than a person lists. */
export const WAY_LIMITS = 16;

/** The socket is paused while this many received bytes wait to be read. */
export const READ_AHEAD = 256 * 1024;

/** The most that messages waiting for the application may take. Beyond it the connection is not read. */
export const INBOX_OCTETS = 2 * MESSAGE_LIMIT;

/** Bytes that a waiting message takes besides its body and id: some ten small objects. An empty one counts too. */
export const INBOX_MESSAGE = 512;

/**
 * Messages of the greatest length that may have arrived in part. A relay sends one of the device's mailbox, one of its
 * identity's and one with flag D at a time, with little beside them.
 */
export const UNFINISHED_MESSAGES = 4;

/** From TCP to an attached account. Longer than the 30 s of the encapsulations, so that their errors come first. */
export const CONNECT_TIMEOUT = 35_000;

/**
 * From the name to a connection, TLS included. Shorter than the 30 s of the encapsulations, so that the dialler's error
 * comes first. A SYN is repeated after 1, 3, 7 and 15 s, so a line that loses the first four still connects.
 */
export const DIAL_TIMEOUT = 25_000;

/** Delay before the next address is tried in parallel, and before a slow name is looked up per family [RFC 8305 5]. */
export const ATTEMPT_DELAY = 250;

/**
 * For how many milliseconds an address that has connected is tried beside a lookup that is slow: a silent DNS server
 * costs 5 s for each connection. Records of names are mostly valid for five minutes.
 */
export const ADDRESS_MEMORY = 5 * 60_000;

/** Names whose last address is remembered. A device has few. */
export const REMEMBERED_NAMES = 64;

/** Addresses tried per name. If all of them are silent, the last attempt starts after 4 s. */
export const DIAL_ADDRESSES = 16;

/** A message of this size fills a packet: every path carries at least 1,280 bytes, headers included [RFC 8200 5]. */
export const LARGE_MESSAGE = 1200;

/** A connection is stuck when nothing moves for this long. By then TCP has repeated a lost packet six times. */
export const STALL = 15_000;

/** This many stuck connections in a row, each newly made, are no accident. */
export const BLACK_HOLE_STALLS = 2;

/** How long an edge may take to answer a simple request: the same as to establish a virtual connection. */
export const ANSWER_TIMEOUT = 30_000;

/** The longest answer to such a request. A page of a hundred mailboxes takes 100 KiB. */
export const ANSWER_OCTETS = 4 * 1024 * 1024;

/** How much of each answer is kept to tell what answered: the head of a response and the title of a page. */
export const ANSWER_HEAD = 4 * 1024;

/** How long a closing device waits for its last output to arrive. */
export const CLOSE_TIMEOUT = 2_000;

/** Sessions that a carrier keeps open to its relay. Beyond this it closes the one idle longest. */
export const OPEN_SESSIONS = 256;

/**
 * Destinations that wait for their sessions at the same time, most of them suspended. This is half of what the bundled
 * relay and the edge allow one connection; further destinations queue.
 */
export const SESSIONS_ASKED = 2048;

/**
 * How long to leave a relay alone that had no room for a single message to a recipient: the first pause, doubled each
 * time up to the last. The relay announces room by itself; this covers announcements that cross a refusal.
 */
export const HELD_FIRST = 5000;
export const HELD_LAST = 60_000;

/** Destinations remembered as suspended on this connection or the previous one. */
export const HELD_REMEMBERED = 1000;

/**
 * Interval of Noops on an idle connection, so that proxies and the edge know that the device is alive (design: 25 s).
 */
export const KEEP_ALIVE = 25_000;

/** The same while messages wait for the application: after 15 s of silence the edge gives them to another device. */
export const BUSY_KEEP_ALIVE = 5_000;

/**
 * The idle time after which a proxy is taken to cut connections, at least and at most. Proxies count 10 s and more; with
 * the intervals above, no connection is idle for longer than 60 s.
 */
export const IDLE_CUT_LEAST = 4_000;
export const IDLE_CUT_MOST = 60_000;

/** How far two cuts by one timer of a proxy are apart: it looks every second. Cuts by accident seldom are so close. */
export const IDLE_CUT_SPREAD = 1_000;

/** A relay that is silent for this long is gone: two of its keep-alives of 45 s, and time for the second to arrive. */
export const RECEIVE_TIMEOUT = 95_000;

/** How long a first connection retries at a busy relay that says when to: as long as a program waits for a server. */
export const BUSY_PATIENCE = 30_000;

/** Pause before reconnecting: full jitter up to the first, doubled each time up to the last. */
export const RECONNECT_FIRST = 500;
export const RECONNECT_LAST = 30_000;

/**
 * How long a device goes on that is refused over a way on which anyone could have forged the refusal. Longer than a
 * proxy that is being set up or restarted needs, at twenty tries with the pauses above; a device whose token is bad ends
 * before it becomes a burden.
 */
export const REFUSED_IN_CLEAR = 5 * 60_000;

/** A connection that lasted this long was useful even if it carried nothing: twice the longest pause. */
export const STOOD = 60_000;

/** A carrier is not replaced while acknowledgements still arrive, until none has arrived for this long. */
export const DRAIN_PATIENCE = 5_000;

/** The longest that a resting relay can keep a device away. */
export const LONGEST_REST = 3600_000;

/** What a LongLived session must still be able to carry after a message: acknowledgements, Noops, ConnectClose. */
export const CONTENT_RESERVE = 64 * 1024;

/** Interval of WebSocket pings. The platform answers them without waking the edge's object. */
export const WEBSOCKET_PING = 25_000;

/**
 * The same while this device holds unprocessed messages: the edge gives them to another device after 15 s of silence.
 * And how often the device looks whether a WebSocket has fallen silent.
 */
export const WEBSOCKET_BUSY_PING = 5_000;

/** The most that waiting blocks are joined to in one WebSocket message: the size of the largest block. */
export const WEBSOCKET_MESSAGE = 64 * 1024;

/** The longest mark that is answered, and what each counts while it waits. An edge's has 26 characters. */
export const WEBSOCKET_MARK = 64;

/** The longest WebSocket message that is received, since the platform sends no longer one. An edge's have 256 KiB. */
export const WEBSOCKET_LONGEST = 32 * 1024 * 1024;

/** Masks of WebSocket messages that are made at a time: made one by one, each takes 6 µs; made together, 0.1 µs. */
export const WEBSOCKET_MASKS = 1024;

/** How often a browser's WebSocket is asked whether its output has left: a fast line drains 256 KiB in 5 ms. */
export const DRAIN_INTERVAL = 5;

/**
 * Bytes that a browser's WebSocket may bring while this device does not read, and cannot stop it: twice what an edge
 * sends unconfirmed, which is 4 MiB at most.
 */
export const UNREAD_MESSAGES = 8 * 1024 * 1024;

/** Recipients whose addressing a device caches: more than a program talks to, in little memory. */
export const REMEMBERED_RECIPIENTS = 1000;

/** Random bytes in the ids of messages to one recipient, besides their number. They keep runs of the device apart. */
export const ID_OCTETS = 12;

/**
 * How long an acknowledgement waits for others on KeepAlive, where each costs a request. Too short to notice, and long
 * enough for several messages in a row.
 */
export const ACKNOWLEDGE_PAUSE = 5;

/** Ways that race at the same time. Each is a half-open virtual connection, of which an edge counts few per source. */
export const RUNNING_WAYS = 3;

/** Head start over a way by another path, while nothing is connected: the delay between addresses [RFC 8305 5]. */
export const OTHER_PATH_WAIT = 300;

/** Head start over a way on the same path, which would connect no sooner: a lost SYN is repeated after 1 s. */
export const SAME_PATH_WAIT = 1000;

/** Time for the echo of the first connected way before the next one starts. It takes one round trip. */
export const ECHO_WAIT = 500;

/**
 * The same for further ways, and for a way that has echoed to connect: three round trips of a slow line. An edge that
 * many devices meet at once answers late, and should not get three requests of each for it.
 */
export const CONNECTED_WAIT = 1000;

/** Time for the relay's answer before another way that has echoed takes over. */
export const ANSWER_WAIT = 2500;

/** The same for a way without an echo, which nothing has proven yet. */
export const RAW_ANSWER_WAIT = 1000;

/** How long a way keeps its place while others wait for it. */
export const LEAST_RUN = 900;

/** Time to connect while ways race, after which a network in which nothing answers is named: within 6 s. */
export const RACE_PATIENCE = 5500;

/** Longest wait for the echo of a connected way, and for the answer of a raw one: 400 devices at once take 12 s. */
export const CONNECTED_PATIENCE = 20_000;

/** Longest wait for the relay's answer on a way that has echoed, for the same reason. */
export const PROVEN_PATIENCE = 20_000;

/** A way that has stood this long is no longer cut at once: proxies cut after 10 to 60 s what they do not want. */
export const LASTING = 120_000;

/** A way is put aside at this many cuts. One may be an accident. */
export const CUTS_ALLOWED = 2;

/** How long a way that is cut is put aside: the first time, doubled each time up to the last. */
export const ASIDE_FIRST = 30_000;
export const ASIDE_LAST = 240_000;

/**
 * Pause before better ways are tried in the background: the first, doubled each time up to the last. With a trial and a
 * race, a device is on the better way 5 minutes after its obstacle has gone.
 */
export const PROBE_FIRST = 30_000;
export const PROBE_LAST = 240_000;

/** The longest trial of a way that was cut. An edge ends a virtual connection without a Connect after 30 s. */
export const TRIAL_LONGEST = 25_000;

/** Ways of which cuts are remembered: nine transports by several proxies. */
export const LADDER_WAYS = 64;

/** Networks of which the last way is remembered: more than a laptop visits in a year. */
export const NETWORKS = 64;

/** The longest id of a way or network that is remembered, in characters: two proxies with long names. */
export const NETWORK_TEXT = 1024;

/** How often the device looks whether its network has changed, or it has slept. A look takes 0.1 ms. */
export const SURROUNDINGS_INTERVAL = 5000;

/** The clocks differ by more than this only after sleep: timers and corrections of the time are more exact. */
export const SLEPT = 10_000;

/** After a gap this long between two looks, the process was stopped, or the machine slept. */
export const GAP = 30_000;

/** How long a connection has after a gap to show that it lives: the interval of heartbeats, and time for an answer. */
export const GAP_PATIENCE = 30_000;

/** How long a better way waits for what is being sent by the one in use: a large message on a slow line. */
export const PROBE_DRAIN = 15_000;

/** The most edges of one device. It keeps a virtual connection to each, and three places to fall back to are enough. */
export const EDGES = 4;

/** How long a device that has connected to one edge waits for those before it in its list: the difference of two ways. */
export const EDGE_HEAD_START = 300;

/** How often a device with several edges looks whether the one in use still takes messages. A look takes microseconds. */
export const EDGE_LOOK = 1000;

/**
 * How long messages may stand still at an edge while another is connected: by then TCP has repeated a lost packet five
 * times, and an edge that was only restarted has come back. Doubled each time that it did not help.
 */
export const EDGE_PATIENCE = 10_000;

/** Bytes in flight that lengthen a patience by a second: buffers on a slow line of 512 kbit/s take as long. */
export const BUFFER_SECOND = 64 * 1024;

/** The most that counts as in such buffers: the rest of what is in flight moves when a buffer takes it. */
export const BUFFERED = 1024 * 1024;

/**
 * How long an edge that has failed must stand before messages go to it again: the first time, doubled each time up to
 * the last. An edge that crashes at once has crashed by then, and every change repeats what was in flight.
 */
export const EDGE_RETURN_FIRST = 5000;
export const EDGE_RETURN_LAST = 5 * 60_000;

/** How long a Connect may wander in a proxy after it was given up: as long as an edge waits for one, twice. */
export const STRAY_TIME = 60_000;

/** For how long an answer to a request is waited for, unless the caller says otherwise: as long as by HTTP. */
export const REQUEST_DEADLINE = 30_000;

/** Bytes of randomness in the id of a request: nobody else can answer it. */
export const REQUEST_ID_OCTETS = 16;

/** Requests that are served at a time. Others wait, in at most {@link INBOX_OCTETS}. */
export const REQUESTS_AT_ONCE = 64;

/** The longest time of one timer: runtimes take more for none. */
export const LONGEST_TIMER = 2 ** 31 - 1;
