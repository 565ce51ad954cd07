/**
 * Limits of requests to the edge itself, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/**
 * Time for a whole body to arrive: 9 kbit/s suffices for 32768 bytes, and only a device on a faster line sends longer
 * ones. A body in transit costs the runtime far more memory than its bytes.
 */
export const WHOLE_BODY_TIMEOUT = 30_000;

/** Bytes a millisecond that a long body must have besides: 1 Mbit/s, with which the longest takes 135 s more. */
export const BODY_RATE = 125;

/**
 * Bytes of Polling bodies over 32768 bytes that an isolate holds at the same time: an eighth of its 128 MiB. Devices send smaller
 * ones while it is used up.
 */
export const GROWN_BODIES_OCTETS = 16 * 1024 * 1024;

/** Longest body of one append to a stream: the longest message, which an object holds whole. */
export const APPEND_OCTETS = 16 * 1024 * 1024;

/** Messages in one append to the mailbox of a peer: two seconds of a sender's rate, for which the request waits. */
export const APPEND_MESSAGES = 10_000;

/** The longest request for a ticket: the longest name, every character of it escaped. */
export const TICKET_REQUEST_OCTETS = 4096;

/** The longest request that sets the rule of a mailbox: more than any valid rule needs. */
export const RULE_OCTETS = 64 * 1024;

/** Mailboxes on one page of an operator's list: each is a subrequest, and one request may not make too many. */
export const ADMIN_PAGE = 100;

/** How often an operator's request is tried on a full disk. The command gives up its ballast within the first second. */
export const FULL_TRIES = 3;

/** Seconds for which a browser need not ask again about the same URL: the most that Chromium remembers. */
export const PREFLIGHT_AGE = 7200;

/** Time for the status of one mailbox in an operator's list: an object that has to be moved is back by then. */
export const STATUS_TIMEOUT = 10_000;

/** How long a Worker goes by the directory having no key: an inbox that was just made is reached after that. */
export const NO_KEY_TIME = 1000;

/**
 * Bytes of long bodies that an isolate holds at the same time, with those that are being used: a quarter of its 128 MiB,
 * since each is copied on its way to its object. One sender alone may have half of it, and so one body of the longest
 * kind, whose buffer is a byte longer if its length is not known.
 */
export const BODIES_OCTETS = 2 * (APPEND_OCTETS + 1);

/** A body up to this length needs no room in what senders share: nearly all appends and webhooks are shorter. */
export const SHORT_BODY = 64 * 1024;

/** Seconds after which a request may be sent again for whose body there was no memory. */
export const BUSY_RETRY = 5;

/** Bytes of a read of a body that is forgotten. */
export const DISCARD_READ = 32 * 1024;

/**
 * Time for a call to the object of a stream or mailbox. Creating a fork takes longest: calls to the former and the new
 * source, of 10 s each at most, and to the accounts of their creators.
 */
export const OBJECT_TIMEOUT = 30_000;

/** Time for a call to the object of an inbox, with its mailbox behind it. Providers wait 30 s at most. */
export const INBOX_CALL_TIMEOUT = 20_000;

/** The longest request that makes or changes an inbox: more than a secret and an answer need. */
export const INBOX_REQUEST_OCTETS = 64 * 1024;

/** Numbers of requests set aside in one request of an owner: one page of their list, several times. */
export const CHOSEN_REQUESTS = 1000;

/** For how long an answer of /ready counts, in milliseconds. However many ask, the parts are checked no more often. */
export const READY_AGE = 2_000;

/** Time for each part of /ready. A key set may take 3 s, the resolver 5 s; a load balancer waits 5 s or more. */
export const READY_TIMEOUT = 4_000;

/** Links that /ready looks at: each is a call to an object. */
export const READY_LINKS = 32;

/** Seconds after which devices come back to an edge that has stopped: it starts in one or two, or in ten on a busy machine. */
export const RETURN_SECONDS = 3;

/** Time to tell the devices of an edge that stops. Service managers kill after 10 s or more. */
export const STOP_TIMEOUT = 5_000;

/** Connections of one collector that are told: with 16 of them, more than a machine holds. */
export const STOP_CONNECTIONS = 8192;

/** Tunnels that are told at the same time: each may have to wake. */
export const STOP_AT_ONCE = 128;
