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
    cause: "This edge has no keys to verify tokens by, so it lets nobody in.",
    cure: "The operator sets KEYS or JWKS_URL, or for development DEV=open.",
  },
  KeysUnavailable: {
    status: 500,
    cause: "The edge cannot have or use its key set or its list of revoked tokens.",
    cure: "Try again; the operator looks at KEYS, JWKS_URL, REVOKED_URL and the log.",
  },
  TokenNeeded: {
    status: 401,
    cause: "The request has no token.",
    cure: "Send Authorization: Bearer with a token of this edge.",
  },
  TokenInvalid: {
    status: 401,
    cause: "The token is not one that this edge can verify.",
    cure: "Get a new token; the operator issues it with a key that the edge has.",
  },
  TokenExpired: { status: 401, cause: "The token has expired.", cure: "Get a new token." },
  TokenNotYetValid: {
    status: 401,
    cause: "The token is not valid yet.",
    cure: "Wait until its time has come; if it has, set the clocks right.",
  },
  TokenRevoked: { status: 401, cause: "The token was revoked.", cure: "Ask the operator for a new token." },
  WrongAudience: {
    status: 401,
    cause: "The token is for another edge.",
    cure: "Get a token whose aud is the RELAY_NAME of this edge.",
  },
  ScopeMissing: {
    status: 403,
    cause: "The token does not allow this.",
    cure: "Get a token with the scope that is named.",
  },
} as const satisfies Record<string, TokenProblemRule>;

/** Name of a token problem: stable, and listed in the README. */
export type TokenProblem = keyof typeof TOKEN_PROBLEMS;
