/**
 * Limits of tokens, keys and revocation, each with its reason. Bytes and milliseconds unless the name says otherwise.
 *
 * @module
 */

/** Maximum characters of a token. It is sent in a header, and proxies allow heads of 16 KiB, some only 8. */
export const TOKEN_OCTETS = 8192;

/** Allowed difference between the clocks of issuer and edge: more than that of synchronized clocks. */
export const CLOCK_TOLERANCE = 30_000;

/** Tokens that an isolate remembers as verified: 1000 devices in turn, at a few hundred bytes each. */
export const VERIFIED_TOKENS = 1000;

/**
 * How far in the future `iat` may lie. An issuer whose clock is ahead may be honest about `exp`, which is checked
 * anyway.
 */
export const ISSUED_AHEAD = 300_000;

/**
 * The age of a judgement about a token counts from the request for the key set or the revocation list that it rests on,
 * whichever is older. A connecting device needs a judgement younger than CONNECTING_AGE when something is handed over:
 *
 *   20 s  FETCHED_AGE, the oldest key set or list that a judgement may rest on
 *   10 s  for the request to wait for its turn, and for the handshake; if that takes longer, the judgement is renewed
 *
 * A connected device needs one younger than CONNECTED_AGE, which leaves 5 s of a minute for bytes in flight:
 *
 *   40 s  RENEWAL_AGE, after which any activity renews the judgement in the background
 *    9 s  the longest renewal: two runs of FETCH_TIMEOUT that others have begun, and one of its own
 *
 * FETCHED_AGE is below RENEWAL_AGE, so that a judgement that was just renewed is not renewed again at once.
 */
export const FETCHED_AGE = 20_000;
export const CONNECTING_AGE = 30_000;
export const RENEWAL_AGE = 40_000;
export const CONNECTED_AGE = 55_000;

/** Maximum bytes of a key set: 32 keys have less than 8 KiB. */
export const JWKS_OCTETS = 64 * 1024;

/** Maximum bytes of a revocation list: some 25,000 ids, which an isolate keeps in memory. */
export const REVOKED_OCTETS = 1024 * 1024;

/** Timeout for fetching a key set or a revocation list, since a device waits for it. */
export const FETCH_TIMEOUT = 3000;

/** Minimum interval between fetches, also after a failure, and whatever key ids strangers make up. */
export const REFETCH_COOLDOWN = 5000;

/**
 * How long the last key set or list is used when it cannot be fetched: an hour to repair the server, less the minute
 * for which a judgement holds. After that no device is admitted or served, since its token may have been revoked.
 */
export const STALE = 3540_000;
