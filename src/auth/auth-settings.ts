/**
 * The settings by which tokens are verified.
 *
 * @module
 */

export interface AuthSettings {
  /** This edge's own Relay-Server-Names, see own-names.ts. Empty until the operator sets it: then no request can name this edge. */
  readonly RELAY_NAME?: string;
  /** A JSON Web Key Set, as text: the keys that tokens are verified by. */
  readonly KEYS?: string;
  /** Where to fetch such a key set from. */
  readonly JWKS_URL?: string;
  /** Ids of tokens that are no longer let in, separated by commas. */
  readonly REVOKED?: string;
  /** Where to fetch a JSON array of such ids from. */
  readonly REVOKED_URL?: string;
}
