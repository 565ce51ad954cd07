/**
 * Limits of admission and metering, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * What a request of a virtual connection passes, in this order, and what refuses it:
 *
 *   in the Worker
 *   1. settings    ../log.ts: a setting that cannot be guessed (EdgeMisconfigured)
 *   2. address     ../worker.ts: the Host header and the prefix (MalformedHead, WrongPrefix)
 *   3. grammar     ../http/virtual-connections.ts: the target; of a poll the whole body (MalformedTarget, MalformedPoll)
 *   4. token       ../http/authorize.ts: keys, signature, revocation, scope connect (TokenNeeded, ScopeMissing). Without
 *                  a token it passes where Connect or the origin relay will ask for one
 *   5. relay       ../origin/relay-access.ts: the allow list, by name, unless it ends here (RelayNotAllowed). A WebSocket
 *                  must end here, and ask for its upgrade (WebSocketNotPassed, UpgradeNeeded)
 *   6. body        of a KeepAlive POST the whole, of a LongLived POST the first bytes (ReceiveTimeout, BodyTooLong)
 *   7. gate        source-gate.ts: paces the first contacts with Tunnels, of a token or else of a source (TooManyMisses,
 *                  TooManyHalfOpen), and refuses them while the machine lacks what they need (TooManyOpenFiles,
 *                  StorageFailed)
 *
 *   in the Tunnel
 *   8. owner       ../tunnel/owner.ts: another principal has opened it (UnknownConnection)
 *   9. standing    ../../auth/token-recheck.ts: the bearer's token is still good (TokenExpired, TokenRevoked)
 *  10. half-open   half-open.ts: only the first request of a GUID is counted, in the Meter of its token or else of its
 *                  source (TooManyHalfOpen). The first that passes makes its principal the owner
 *  11. handshake   ../../encapsulation: both requests have echoed; then the relay is dialled, or an endpoint made. One
 *                  that is passed through is no longer half-open: the relay authenticates its device
 *
 *   in the endpoint, if the virtual connection ends here
 *  12. Connect     within CONNECT_TIMEOUT, with a token or a proof (ConnectTimeout, RelayNotProven)
 *  13. meter       meter.ts, by throttle.ts: the principal's connections, and new ones a minute (TryLater). From here on
 *                  the virtual connection is no longer half-open
 *  14. throttle    throttle.ts: what is sent waits for a lease; nothing is refused
 *
 * Further requests of a virtual connection pass 1 to 9. The gate lets a GUID that it knows through at once. Bytes that
 * a POST brings later come by calls that pass 8 and 9 alone. A request about a mailbox passes 1 to 4, and at the gate
 * counts as a miss if there is no such mailbox (TooManyLookups). A request to an inbox has its capability for a token;
 * for one that was removed it counts as a miss, and for one that was never issued it passes nothing.
 *
 * @module
 */

/**
 * Mailboxes a second that a device may send to for the first time on a connection: each is charged as 1/16 of a
 * second's messages. A relay, which is not charged, has the same limit. Creating a mailbox takes 10 ms, and some 350 KB
 * of memory until it is idle, so this is a sixth of a small machine's time, and 56 MB.
 */
export const WAKES = 16;

/**
 * Time for a device's Connect after it has opened a virtual connection to this edge: several round trips through a slow
 * proxy. The encapsulations allow the same time for opening one.
 */
export const CONNECT_TIMEOUT = 30_000;

/**
 * Half-open virtual connections of one token, or of one source without tokens: begun, and without a Connect. Each costs an object and a parked request
 * for up to a minute. 500 devices behind one address may connect at the same moment; each takes a second.
 */
export const HALF_OPEN = 500;

/**
 * First contacts with Tunnels in one Worker, of a source that shows no tokens, or else of one token: at once, and per
 * second. Each may create an object, which takes milliseconds on a small machine; the pace lets others in between. Devices
 * with a token each do not wait for others behind their address.
 */
export const CONTACTS = 3;
export const CONTACTS_RATE = 50;

/**
 * The same for all tokens together. Two cores connect about a hundred devices a second. If all devices of an edge that was
 * restarted were served at once, none would be ready before it gives up and begins anew.
 */
export const TOKEN_CONTACTS = 100;
export const TOKEN_CONTACTS_RATE = 100;

/** Longest wait for a first contact; a request that would wait longer is refused. All devices of a large office fit. */
export const CONTACTS_PATIENCE = 10_000;

/** Sources that a Worker remembers. */
export const GATE_SOURCES = 10_000;

/** How long a Worker refuses a source with too many half-open virtual connections, without asking its Meter. */
export const CROWDED_TIME = 2000;

/**
 * Seconds after which a device tries again that was refused for what the edge's machine lacks: idle objects close their
 * files in ten, and a disk takes longer to repair.
 */
export const MACHINE_RETRY = 10;

/**
 * Requests of one source for virtual connections, and without a token for streams and the like, that do not exist: at
 * once, and per second. Enough for all devices behind one address that do not know yet that the edge has restarted.
 * Guessing a GUID takes 10^24 requests.
 */
export const MISSES = 100;
export const MISSES_RATE = 5;

/**
 * TURNED_PAUSE is the delay of a refusal: a client that retries at once does so once a second per connection, instead
 * of as fast as the Worker can refuse. TURNED_WAITING is how many requests of a source are delayed per second: a parked
 * request costs some 10 kB.
 */
export const TURNED_PAUSE = 1000;
export const TURNED_WAITING = 200;

/** GUIDs of virtual connections that a Worker remembers. One that it forgets counts as a first contact again. */
export const KNOWN_GUIDS = 50_000;

/**
 * How long a half-open virtual connection counts that never reports its end: 30 s for opening it, and 30 s for Connect.
 */
export const HALF_OPEN_TIME = 60_000;

/** Burst after a pause, in seconds of the rate of bytes and messages. A longer one would make the limit ineffective. */
export const BURST = 0.5;

/** How long a lease of bytes and messages is valid. A Tunnel with traffic calls its Meter about this often. */
export const LEASE_TIME = 1000;

/**
 * The most that one lease grants, in milliseconds of the rate. A device uses its lease at once, and the others wait
 * while the edge processes that, so it is small; a smaller one would cost more calls.
 */
export const SLICE = 50;

/**
 * LATE is the delay of a lease above which its isolate counts as busy: with one device that sends at its limit the
 * delay is 1 or 2 ms. The device then waits YIELD times the excess, so it gets a small part of a busy isolate, and its
 * whole share of an idle one. It waits at most YIELD_MOST, so that its connection survives.
 */
export const LATE = 5;
export const YIELD = 20;
export const YIELD_MOST = 1000;

/** The least that a Tunnel asks for beyond its debt: one answer and the next, small compared with a usual rate. */
export const FIRST_LEASE = { octets: 16384, messages: 16 } as const;

/** Debt of a Tunnel below which it does not call its Meter: a device that sends only keep-alives needs none. */
export const CREDIT = { octets: 16384, messages: 16 } as const;

/**
 * TCP connections to destinations for which a device asks its Meter at once: those of a page, or of a program with a small
 * pool. What it holds and does not use is less than three times that.
 */
export const STREAM_STEP = 8;

/** Time for a Meter's answer, while the device waits. After that the Tunnel goes on without the Meter. */
export const METER_TIMEOUT = 1000;

/** Retry-After, in seconds, when a principal has all its virtual connections in use. */
export const FULL_RETRY = 30;

/** Silence of a virtual connection after which a Meter may ask whether it still exists. */
export const ASK_AFTER = 5000;

/**
 * How many virtual connections are asked at a time, and how long they have to answer: a device that connects waits for
 * it.
 */
export const ASK_AT_ONCE = 16;
export const ASK_TIMEOUT = 2000;

/**
 * What the account of a sender must have left for mailboxes to store a little before they ask: what a thousand mailboxes
 * store in the 10 s for which they remember it. Two cores make a hundred mailboxes a second. The mailboxes of an isolate
 * store no more without asking.
 */
export const AMPLE_OCTETS = 64 * 1024 * 1024;

/**
 * How often a Meter checks whether the virtual connections in its storage still exist: a Tunnel that crashed has not
 * reported its end. The check wakes each Tunnel, which costs next to nothing once a day.
 */
export const METER_LOOK = 24 * 3600_000;

/**
 * What a mailbox or stream reserves at least in an account: an almost empty one takes some 50 KB of disk. Larger
 * pieces double up to LARGE_PIECE, the longest message, so that filling a share takes some fifteen calls.
 */
export const LEAST_PIECE = 64 * 1024;
export const LARGE_PIECE = 16 * 1024 * 1024;
