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

/** A key set is fetched anew after this time, so that a key that was taken out is gone within a minute or so. */
export const JWKS_AGE = 60_000;

/** The same for the list of revoked tokens: who is shut out is to be out within a minute. */
export const REVOKED_AGE = 20_000;

/** Octets of a key set: 32 keys have less than 8 KiB. */
export const JWKS_OCTETS = 64 * 1024;

/** Octets of a list of revoked tokens: some 25,000 ids, which an isolate keeps in memory. */
export const REVOKED_OCTETS = 1024 * 1024;

/** What is fetched for tokens must come within this time, since a device waits for it. */
export const FETCH_TIMEOUT = 3000;

/** It is not fetched more often than this, whatever key ids strangers make up. */
export const REFETCH_COOLDOWN = 5000;

/**
 * When it cannot be fetched, what was fetched last is used for so long: an hour to mend the server. After that nobody is
 * let in, since a token may have been revoked.
 */
export const STALE = 3600_000;
