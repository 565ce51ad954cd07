/**
 * The path of an edge that is not at the root of its host: `https://host/groove/`. Either the reverse proxy removes it,
 * or the edge is configured with it (PREFIX) and removes it itself.
 *
 * @module
 */

import { malformed, type Setting } from "../../lib/setting.ts";
import type { Settings } from "./settings.ts";

/** Segments of unreserved characters, which have only one spelling. */
const PREFIX = /^(?:\/[A-Za-z0-9\-._~]+)+$/;

/** Reads a prefix, and removes trailing slashes. Empty for the root. */
export function readPrefix(text: string): Setting<string> {
  const prefix = text.trim().replace(/\/+$/, "");
  // Clients resolve dot segments before they send.
  const dots = prefix.split("/").some((segment) => segment === "." || segment === "..");
  if (prefix === "" || (PREFIX.test(prefix) && !dots)) return { ok: true, value: prefix };
  const cure = "write a path of letters, digits and - . _ ~, such as /groove (--prefix)";
  return malformed("PREFIX", `is ${JSON.stringify(text)}, which is not a path that an edge can have`, cure);
}

/** The path under which an edge is served. A malformed PREFIX counts as none; the log reports it. */
export function prefixOf({ PREFIX = "" }: Pick<Settings, "PREFIX">): string {
  if (PREFIX === "") return "";
  const read = readPrefix(PREFIX);
  return read.ok ? read.value : "";
}

/** Returns the rest of a path under the prefix; undefined if it is not under it. */
export function pathUnder(prefix: string, path: string): string | undefined {
  if (prefix === "") return path;
  if (path === prefix) return "/";
  return path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : undefined;
}

/** Paths of the edge's root, found at the end of a longer path. */
const MISPLACED =
  /^(\/.+?)\/(?:\d{1,4}\.\d{1,4}\/[^/]+\/[^/,]+,ConnType=[^/]*|(?:admin\/)?mailboxes(?:\/.*)?|health|ready|metrics)$/i;

/** The edge's own paths. What follows them is never a path under a prefix. */
const OWN = /^\/(?:admin|mailboxes|tickets|send|health|ready|metrics|local)(?:\/|$)/i;

/** Guesses the prefix that the client of this request uses; undefined if the path does not look like one of an edge. */
export function seemingPrefix(method: string, path: string): string | undefined {
  if (OWN.test(path)) return undefined;
  // A poll goes to the root, wherever that is.
  if (method === "POST" && /^\/.*[^/]\/$/.test(path)) return path.slice(0, -1);
  return MISPLACED.exec(path)?.[1];
}

/** Corrects a mailbox path whose address has a plain slash instead of %2F. Undefined for every other path. */
export function withWholeAddress(path: string): string | undefined {
  const [, head, identity, device, tail = ""] =
    /^((?:\/admin)?\/mailboxes)\/([^/]+)\/([^/]+)(\/(?:rule|lock|room|messages))?\/?$/.exec(path) ?? [];
  // With nothing after it, this is the rule, say, of an identity's mailbox.
  if (head === undefined || (tail === "" && /^(?:rule|lock|room|messages)$/.test(device ?? ""))) return undefined;
  return `${head}/${identity}%2F${device}${tail}`;
}
