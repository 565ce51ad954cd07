/**
 * The settings for verifying tokens.
 *
 * @module
 */

export interface AuthSettings {
  /** This edge's own Relay-Server-Names, see own-names.ts. If empty, no request can name this edge. */
  readonly RELAY_NAME?: string;
  /** A JSON Web Key Set, as text: the keys that verify tokens. */
  readonly KEYS?: string;
  /** Where to fetch such a key set from. */
  readonly JWKS_URL?: string;
  /** Ids of revoked tokens, separated by commas. */
  readonly REVOKED?: string;
  /** Where to fetch a JSON array of such ids from. */
  readonly REVOKED_URL?: string;
}
