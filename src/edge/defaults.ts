/**
 * Every number of the edge, with its reason. Octets and milliseconds unless the name says otherwise.
 *
 * @module
 */

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

/**
 * The same where the virtual connection ends at this edge: its last octets say why, and a device that has read them
 * goes by itself. One that is behind has as long to read them.
 */
export const FAREWELL = 10_000;

/** How long a KeepAlive GET is held. The field's safe figure under the 30 s after which many proxies give up. */
export const HOLD_TIME = 25_000;

/** How long a KeepAlive GET waits in its object before it is parked: a few round trips of a device that is busy. */
export const SHORT_HOLD = 20;

/**
 * How long a GET of a client that counts its requests is waited for when its connection has broken: a proxy that sends a
 * request again does so at once, on a new connection.
 */
export const REPEAT_PATIENCE = 5000;

/** TCP connect to an origin relay. A relay that needs longer is not going to be usable. */
export const DIAL_TIMEOUT = 10_000;

/** The answer of a resolver: one that needs longer has failed, and a device waits meanwhile. */
export const RESOLVE_TIMEOUT = 5000;

/** Octets of a resolver's answer: the largest of DNS itself is 64 KiB, and holds over a thousand addresses. */
export const RESOLVE_OCTETS = 64 * 1024;

/** Addresses of one relay that are dialled, one after the other: each has a second and more of the deadline. */
export const DIAL_CANDIDATES = 8;

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

/**
 * A body of at most 32768 octets must come in whole within this time: at 9 kbit/s it does. Each that is on its way costs
 * the runtime far more memory than its octets.
 */
export const WHOLE_BODY_TIMEOUT = 30_000;

/**
 * A LongLived POST must not be silent for longer: twice the 45 s at which SSTP sends a Noop on an idle connection
 * [MS-GRVHENC 3.1.2.3].
 */
export const BODY_TIMEOUT = 90_000;

/** Octets of messages in one row. The platform allows 2 MB a row; half of that leaves room for a message's header. */
export const SEGMENT_OCTETS = 1024 * 1024;

/**
 * An envelope longer than this, which is one to many recipients of a relay, stands in a row of its own, once for all
 * segments: each message of a session has the same.
 */
export const LONG_ENVELOPE = 4096;

/** Octets of envelopes in one segment, beyond which all of them stand in rows of their own. */
export const SEGMENT_ENVELOPES = 256 * 1024;

/**
 * The longest envelope that is taken: ten times what the longest FanoutOpen takes in JSON, and far below the 2 MB that the
 * platform allows a row.
 */
export const ENVELOPE_LIMIT = 1024 * 1024;

/** A body longer than this stands in rows of its own, of this size: then one read of a segment stays small. */
export const BODY_ROW_OCTETS = 512 * 1024;

/** Segments of a mailbox that are read in one turn for a sender that takes messages back: some tens of milliseconds of work. */
export const FOUND_SEGMENTS = 16;

/** How long a message waits for its peer: two weeks of holiday. */
export const RETENTION = 14 * 24 * 3600_000;

/** How long the ids of a source are remembered, to drop what is sent again. No device retries for longer. */
export const REMEMBER_IDS = 7 * 24 * 3600_000;

/**
 * Octets of ids that a mailbox remembers. Of a sender that counts 42 ranges of some 100 octets are kept, one for each four
 * hours of a week: room for two hundred and fifty such senders, and for fifteen thousand ids of others.
 */
export const ID_OCTETS = 1024 * 1024;

/** What a row of ids takes beside its texts: three numbers of up to eight octets, and the row's own header. */
export const ID_ROW_OCTETS = 32;

/** How long the ids of a sender that counts are added to the same range: an id is remembered for so much longer at most. */
export const RANGE_TIME = 4 * 3600_000;

/** Senders and ranges of ids that stay in memory, beyond which all are looked up again. */
export const KEPT_RANGES = 5000;

/**
 * How old ids are that an operator's purge forgets: a device that has lost an acknowledgement with its connection has long
 * sent again by then.
 */
export const PURGED_IDS_AGE = 3600_000;

/** The longest message that is taken: an object holds it whole while it arrives, and has 128 MB for everything. */
export const MESSAGE_LIMIT = 16 * 1024 * 1024;

/** Octets that a mailbox has sent to its consumer and that are not acknowledged, beyond which it sends no more. */
export const SEND_WINDOW = 1024 * 1024;

/** The same by number. */
export const SEND_WINDOW_MESSAGES = 2000;

/**
 * What waits in a Tunnel for sessions that its device has not made ready, of each mailbox: so little of what the mailbox
 * sends ahead that there is room for sessions that are, envelopes included.
 */
export const SUSPENDED_OCTETS = SEND_WINDOW / 4;
export const SUSPENDED_MESSAGES = SEND_WINDOW_MESSAGES / 4;

/**
 * Octets of messages that were begun on sessions which were then suspended: two of the longest, since only the end of its
 * session ends a message that is not whole.
 */
export const STUCK_OCTETS = 2 * MESSAGE_LIMIT;

/**
 * Sessions of one destination that may be closed in a row without an acknowledgement, and messages that may be refused
 * for their size in a row: then the others of that destination wait too, since each costs a session.
 */
export const SESSION_FAILURES = 3;
export const SESSION_REFUSALS = 8;

/** After how long a message that was put off is offered to its consumer again. */
export const LATER = 5 * 60_000;

/** Destinations that a device has refused and that are remembered as such: more are asked for again. */
export const DECLINED_DESTINATIONS = 1024;

/** Octets of messages that wait in a Tunnel for their mailboxes, beyond which its device is not read. */
export const UNSTORED_OCTETS = 4 * 1024 * 1024;

/** Messages that wait in a Tunnel for their mailboxes: below what the engine lets wait, so that it never has to end. */
export const UNSTORED_MESSAGES = 8000;

/** The most that one call to a mailbox carries beyond a single long message: a quarter of what the platform allows. */
export const BATCH_OCTETS = 8 * 1024 * 1024;

/**
 * The same for messages with flag D: as much as may wait for a slow device, beyond which the next are dropped in any case.
 */
export const VOLATILE_BATCH_OCTETS = 1024 * 1024;

/** The same by number: a call must not keep a mailbox from its other senders for long. */
export const BATCH_MESSAGES = 1000;

/**
 * Octets of all the calls of one Tunnel to mailboxes, beyond which no other is begun: a long message to a thousand
 * recipients is as many copies, and an object has 128 MB for everything.
 */
export const CALL_OCTETS = 2 * BATCH_OCTETS;

/**
 * Mailboxes that one Tunnel calls at a time to have something stored: so many that a message to each of a hundred costs no more
 * than without a limit, and so few that a thousand calls of one device do not stand before everybody else's.
 */
export const CALLS_AT_ONCE = 128;

/**
 * Mailboxes a second that a device may send to for the first time on a connection: each is charged as the share of a
 * second's messages. A relay, which is not charged, has as many. To make one takes ten milliseconds, and some 350 KB of
 * memory until it is idle, so these are a sixth of a small machine and 56 MB.
 */
export const WAKES = 16;

/** How many of them a Tunnel remembers: more than the recipients of the largest fanout, at a hundred bytes each. */
export const WOKEN_MAILBOXES = 4096;

/** A call between two objects that has not come back for so long has failed: a deploy or a crash may swallow it. */
export const CALL_TIMEOUT = 30_000;

/**
 * How long a mailbox that is not in the directory waits to be entered before it turns messages away: above the second or
 * two for which an object restarts, and far below {@link CALL_TIMEOUT}, after which its sender's connection ends. A
 * call that fails is tried again after a pause.
 */
export const ENTER_TIMEOUT = 5000;
export const ENTER_PAUSE = 250;

/** The same for handing messages to a Tunnel, which only puts them into a queue; a call to a mailbox may contain one. */
export const DELIVER_TIMEOUT = 10_000;

/**
 * A message that cannot wait (flag D) is answered within 5 s, since what its device sends behind it is acknowledged behind
 * it. A link has so long to be there, by all its ways together; a device so long to take it; and a mailbox to say.
 */
export const REACH_TIMEOUT = 4000;
export const HAND_TIMEOUT = 4000;
export const VOLATILE_TIMEOUT = 4500;

/** How long a consumer that has not taken such a message in time is not asked again. */
export const HUNG_TIME = 30_000;

/**
 * Connections that a mailbox remembers as waiting for room, a row of a hundred octets each: more than a collector has
 * sensors. Those beyond are not suspended, and are refused what is over their share.
 */
export const WAITERS = 4096;

/** How many of them are told of room at a time: each may have to be woken. */
export const ROOM_CALLS = 32;

/** How long after a call that has failed one of them is told again: an object that is being moved is there by then. */
export const ROOM_RETRY = 10_000;

/** How long what is acknowledged may stay in a mailbox's log, so that it is taken off together with the next append. */
export const CUT_PAUSE = 10;
/** How long to wait before another try to write on a full disk: the command gives up its ballast within a second. */
export const FULL_PAUSE = 1000;

/** How often calls that are under way are looked at: one that has failed is known so much later, which hardly matters. */
export const CALL_LOOK = 1_000;

/** A Noop on a link that is otherwise silent: below the 45 s that the specification allows, and below most firewalls'. */
export const LINK_KEEP_ALIVE = 25_000;

/** A relay that is silent for so long is gone: it sends a Noop of its own each 45 s. */
export const LINK_RECEIVE_TIMEOUT = 120_000;

/** From TCP to an accepted Connect. */
export const LINK_CONNECT_TIMEOUT = 15_000;

/** A link that fails is tried again after 1 s, then after twice as long each time up to a minute; full jitter. */
export const LINK_RETRY_FIRST = 1000;
export const LINK_RETRY_LAST = 60_000;

/** Octets that wait in a KeepAlive virtual connection to a relay, either way: several answers of 32768. */
export const ENCAPSULATED_AHEAD = 256 * 1024;

/** Sessions on a link: one for each recipient there, and half of what a relay lets one connection have. */
export const LINK_SESSIONS = 2048;

/** Recipients of one session of a relay: a fanout to more is a mailing list, which has a sender of its own. */
export const LINK_RECIPIENTS = 1000;

/** The longest that a relay which rests may keep this edge away. */
export const LINK_REST_LAST = 3600_000;

/** How long a link that is to be closed waits for what is on its way to be acknowledged. */
export const LINK_DRAIN = 5000;

/** A link is replaced before the 15 minutes after which the platform may end a socket of an object. */
export const LINK_LIFE = 13 * 60_000;

/** A link that has carried no message for so long is closed, Noops or not, unless the operator wants it kept. */
export const LINK_IDLE = 5 * 60_000;

/**
 * A link that has failed is tried again for so long after somebody has last wanted it: a mailbox with messages for the
 * relay asks each {@link WATCH_INTERVAL}, and one of its calls may be lost.
 */
export const LINK_WANTED = 90_000;

/** Pauses between tries of a call to a Tunnel that failed: long enough for an object to start, short for a person. */
export const RETRY_PAUSES = [100, 400, 1600] as const;

/**
 * As long as messages wait for a consumer that is there, the mailbox looks so often whether the sending has come to a
 * halt, since an object that was thrown out of memory does not know that it was at work.
 */
export const WATCH_INTERVAL = 30_000;

/** What a question about a sign of life may take: an object that does not answer has shown none. */
export const SIGN_TIMEOUT = 5000;

/** A device that pings is gone when it has not done so for two and a half of the 25 s between pings of an idle one. */
export const PING_SILENCE = 62_500;

/** How many devices of an identity a mailbox remembers for when its consumer leaves: more than one person uses. */
export const FORMER_CONSUMERS = 16;

/**
 * A message that is refused for its size is dropped when it has been refused for so long: a device that is full is emptied
 * by then, and one that will never take it is not asked for ever.
 */
export const REFUSED_FOR = 3600_000;

/** Messages for which a mailbox remembers since when they are refused: the hour of others begins when these are gone. */
export const REFUSED_MESSAGES = 256;

/** Ranges of messages set aside, and of those counted as refused, that are kept in a mailbox's facts: a row of 40 KB. */
export const ASIDE_RANGES = 2000;
export const DECLINED_RANGES = 256;

/** Octets with flag D that wait in a Tunnel for a slow device, beyond which the next are dropped. */
export const VOLATILE_OCTETS = 1024 * 1024;

/** What a message that waits in memory costs beside its body: its fields, and what the runtime adds. */
export const MESSAGE_COST = 512;

/** Sessions that the edge keeps open towards one device. Beyond it the one that has been idle longest is closed. */
export const OPEN_SESSIONS = 64;

/** Octets for a device that its engine makes ahead: one bulk read. */
export const SESSION_OUTPUT = 256 * 1024;

/** Entries of a fanout session in one SessionStatus: the command must fit into one KeepAlive answer. */
export const STATUS_INDEXES = 8000;

/**
 * Seconds that a device is asked to stay away when its connection ends because a message was refused whose session it had
 * closed: it brings the message again, and perhaps closes the session again.
 */
export const REFUSED_REST = 5;

/** Patterns in a mailbox's rule of who may send: each is looked at for each batch of a sender. A star saves many. */
export const SENDER_PATTERNS = 256;

/** Octets of a request that sets such a rule: as many patterns of the longest names would be longer than any rule is. */
export const RULE_OCTETS = 64 * 1024;

/** Mailboxes on a page of an operator's list: each is asked, and one request may not ask too many. */
export const ADMIN_PAGE = 100;

/** A Tunnel that has been left alone for so long writes down what it needs to go on, since it may be put to sleep. */
export const REST_AFTER = 1000;

/** How often it looks again whether everything has settled; after that it is put to sleep as it is, and starts anew. */
export const REST_TRIES = 15;

/** On an idle LongLived connection the Worker says so often that the edge is there, without waking anybody. */
export const NOOP_INTERVAL = 25_000;

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

/**
 * Octets made for a peer that it has not taken, above which it is not read: more than messages ever put there, so that only
 * answers to a peer that asks and does not read get so far.
 */
export const UNTAKEN_OCTETS = 1024 * 1024;

/** How long a peer that is not read for that may take nothing, before it is given up: as a connection that is silent. */
export const UNTAKEN_TIMEOUT = 60_000;

/** Octets of messages that have arrived in part, over all sessions of a device: two of the longest. */
export const UNFINISHED_OCTETS = 2 * MESSAGE_LIMIT;

/** Octets of segments that a mailbox keeps in memory: what its consumer has not acknowledged is as much. */
export const CACHED_OCTETS = SEND_WINDOW;

/** The same by number: one is searched for among them. */
export const CACHED_SEGMENTS = 64;

/** A stream between Worker and object ends after this silence when the object may sleep then. */
export const BULK_IDLE = 20;

/** A device that was let in without a token has this time to show one in its Connect: as long as a slow proxy takes. */
export const CONNECT_PATIENCE = 30_000;

/** A decision about a Connect or a session that takes longer is none: the device tries again. */
export const DECISION_TIMEOUT = 10_000;

/** Seconds after which a device tries again when nobody could decide about it. */
export const DECISION_RETRY = 10;

/** Octets that a device may send before its Connect is answered: a Connect of full length and what an eager one adds. */
export const HELD_OCTETS = 256 * 1024;

/**
 * What one principal may do when RATE says nothing else: virtual connections at a time, new ones a minute, octets and
 * messages that its devices send a second. An office of two hundred devices that share a token fits, and may lose and
 * renew them all within two minutes. 20 MB/s is a line of 160 Mbit/s; 5,000 messages a second are what ten mailboxes can
 * store. Nobody who is not a program gone wild comes near. A thousand recipients of one session are a large organization.
 */
export const RATE = { connections: 200, connects: 120, octets: 20_000_000, messages: 5000, recipients: 1000 } as const;

/** What a command counts as at least, in octets: as it costs as much time as so many octets of a message. */
export const COMMAND_OCTETS = 32;

/** Octets of copies of one message that are paid for and given to their mailboxes at a time. */
export const COPIES_OCTETS = 1024 * 1024;

/** What a copy costs beside its body, in octets: a call to a mailbox, which may have to be started. */
export const COPY_COST = 4096;

/** What an Attach counts as, in messages, after the first: calls to a mailbox that write to disk, and to its last consumer. */
export const ATTACH_MESSAGES = 50;

/**
 * Mailboxes that one connection takes from: each may have a window of messages in its Tunnel's memory. A device has its
 * own, and one for each account that its person has.
 */
export const CONSUMED_MAILBOXES = 16;

/** The least that may be set for octets a second: one KeepAlive body, which comes as a whole. */
export const LEAST_RATE_OCTETS = 32768;

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

/**
 * How long a mailbox that nobody would miss stays: a device that connects again at once finds it, and a minute after a
 * flood of attachments nothing of it is left.
 */
export const EMPTY_TIME = 30_000;

/** How often a mailbox in which nothing waits asks its consumer whether it is still there: an edge may have been killed. */
export const CONSUMER_CHECK = 24 * 3600_000;
