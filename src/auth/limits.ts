/**
 * The limits of tokens, keys and revocation, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Characters of a token, at most: it stands in a header, and proxies take heads of 16 KiB, some of 8. */
export const TOKEN_OCTETS = 8192;

/** By how much the clocks of issuer and edge may differ: more than clocks that are set do. */
export const CLOCK_TOLERANCE = 30_000;

/** Tokens that an isolate remembers as verified: 1000 devices in turn, at a few hundred octets each. */
export const VERIFIED_TOKENS = 1000;

/** How far in the future `iat` may lie: an issuer whose clock is ahead has not lied about `exp`, which counts as it is. */
export const ISSUED_AHEAD = 300_000;

/**
 * A judgement about a token dates from when the key set or the list of revoked tokens that it rests on was asked for, the
 * older of the two. Who connects is judged by one that is younger than CONNECTING_AGE when something is handed over:
 *
 *   20 s  FETCHED_AGE, the oldest key set or list that a judgement is made by
 *   10 s  for the request to wait for its turn, and for the handshake; if that takes longer, the judgement is renewed
 *
 * Who is connected is judged by one that is younger than CONNECTED_AGE, which leaves 5 s of a minute for octets on their way:
 *
 *   40 s  RENEWAL_AGE, from which on whatever happens has the judgement renewed, and nothing waits for that
 *    9 s  the longest that a renewal takes: two runs of FETCH_TIMEOUT that others have begun, and one of its own
 *
 * FETCHED_AGE is below RENEWAL_AGE, so that a judgement which was just renewed is not renewed again at once.
 */
export const FETCHED_AGE = 20_000;
export const CONNECTING_AGE = 30_000;
export const RENEWAL_AGE = 40_000;
export const CONNECTED_AGE = 55_000;

/** Octets of a key set: 32 keys have less than 8 KiB. */
export const JWKS_OCTETS = 64 * 1024;

/** Octets of a list of revoked tokens: some 25,000 ids, which an isolate keeps in memory. */
export const REVOKED_OCTETS = 1024 * 1024;

/** What is fetched for tokens must come within this time, since a device waits for it. */
export const FETCH_TIMEOUT = 3000;

/** It is not fetched more often than this, whatever key ids strangers make up, and not sooner after a failure. */
export const REFETCH_COOLDOWN = 5000;

/**
 * When it cannot be fetched, judgements are made by what was fetched last for so long: an hour to mend the server, less the
 * minute for which a judgement holds. After that nobody is let in or served, since a token may have been revoked.
 */
export const STALE = 3540_000;
