/**
 * Revoked tokens, which are refused although they have not expired: the settings REVOKED and REVOKED_URL.
 *
 * @module
 */

import type { AuthSettings } from "./auth-settings.ts";
import { FETCHED_AGE, REVOKED_OCTETS } from "./limits.ts";
import { type Fetched, RefreshedUrls, RemoteError } from "./refreshed-url.ts";

export type RevocationSettings = Pick<AuthSettings, "REVOKED" | "REVOKED_URL">;

/** Whether a token with this id is revoked; undefined if the list is unavailable. */
export async function isRevoked(
  id: string,
  { REVOKED = "", REVOKED_URL = "" }: RevocationSettings,
  now: number,
): Promise<Fetched<boolean> | undefined> {
  if (REVOKED.split(",").some((revoked) => revoked.trim() === id)) return { value: true, asOf: now };
  if (REVOKED_URL === "") return { value: false, asOf: now };
  const list = await lists.at(REVOKED_URL).get(now, FETCHED_AGE);
  return list && { value: list.value.has(id), asOf: list.asOf };
}

const lists = new RefreshedUrls("list of revoked tokens", REVOKED_OCTETS, parseRevoked);

/** Parses a JSON array of ids. @throws RemoteError */
function parseRevoked(text: string): ReadonlySet<string> {
  let ids: unknown;
  try {
    ids = JSON.parse(text);
  } catch {
    ids = undefined;
  }
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) {
    throw new RemoteError("the list of revoked tokens is not a JSON array of strings");
  }
  return new Set(ids);
}
