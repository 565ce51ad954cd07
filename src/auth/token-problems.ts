/**
 * Why a token does not admit its bearer. The edge's enumeration of reasons includes these.
 *
 * @module
 */

/** A problem as the edge reports it over HTTP: status, cause and cure. */
interface TokenProblemRule {
  readonly status: 401 | 403 | 500;
  readonly cause: string;
  readonly cure: string;
}

export const TOKEN_PROBLEMS = {
  NoKeys: {
    status: 500,
    cause: "This edge has no keys to verify tokens with, so it admits no device.",
    cure: "The operator sets KEYS (--keys) or JWKS_URL; for development, DEV=open (--dev).",
  },
  KeysUnavailable: {
    status: 500,
    cause: "The edge cannot fetch or use its key set or its list of revoked tokens.",
    cure: "Try again; the operator checks KEYS, JWKS_URL, REVOKED_URL and the log.",
  },
  TokenNeeded: {
    status: 401,
    cause: "The request has no token.",
    cure: "Send a token for this edge as Authorization: Bearer (--token).",
  },
  TokenInvalid: {
    status: 401,
    cause: "This edge cannot verify the token.",
    cure: "Get a new token, signed with a key of this edge (grooveway token issue --key).",
  },
  TokenExpired: { status: 401, cause: "The token has expired.", cure: "Get a new token." },
  TokenNotYetValid: {
    status: 401,
    cause: "The token is not valid yet.",
    cure: "Wait until the token is valid; if it should be, correct the clocks.",
  },
  TokenRevoked: { status: 401, cause: "The token has been revoked.", cure: "Ask the operator for a new token." },
  WrongAudience: {
    status: 401,
    cause: "The token is for another edge.",
    cure: "Get a token whose aud is one of this edge's names (RELAY_NAME, --name).",
  },
  ScopeMissing: {
    status: 403,
    cause: "The token does not allow this.",
    cure: "Get a token with the scope and the address that this needs (grooveway token issue).",
  },
} as const satisfies Record<string, TokenProblemRule>;

/** Name of a token problem: stable, and listed in the README. */
export type TokenProblem = keyof typeof TOKEN_PROBLEMS;
