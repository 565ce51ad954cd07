/**
 * Tokens that are no longer let in although they have not expired: the settings REVOKED and REVOKED_URL.
 *
 * @module
 */

import type { AuthSettings } from "./auth-settings.ts";
import { REVOKED_AGE, REVOKED_OCTETS } from "./limits.ts";
import { RefreshedUrl, RemoteError } from "./refreshed-url.ts";

export type RevocationSettings = Pick<AuthSettings, "REVOKED" | "REVOKED_URL">;

/** Whether a token with this id is revoked; undefined when nobody knows, since the list cannot be had. */
export async function isRevoked(
  id: string,
  { REVOKED = "", REVOKED_URL = "" }: RevocationSettings,
  now: number,
): Promise<boolean | undefined> {
  if (REVOKED.split(",").some((revoked) => revoked.trim() === id)) return true;
  if (REVOKED_URL === "") return false;
  return (await listAt(REVOKED_URL).get(now, REVOKED_AGE))?.has(id);
}

let listURL: string | undefined;
let list: RefreshedUrl<ReadonlySet<string>> | undefined;

function listAt(url: string): RefreshedUrl<ReadonlySet<string>> {
  if (list === undefined || listURL !== url) list = new RefreshedUrl(url, REVOKED_OCTETS, parseRevoked);
  listURL = url;
  return list;
}

/** Reads a JSON array of ids. @throws RemoteError */
export function parseRevoked(text: string): ReadonlySet<string> {
  let ids: unknown;
  try {
    ids = JSON.parse(text);
  } catch {
    ids = undefined;
  }
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) {
    throw new RemoteError("the list of revoked tokens is no JSON array of texts");
  }
  return new Set(ids);
}
