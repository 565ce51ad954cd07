/**
 * The path under which an edge stands, when it is not the root of its host: `https://host/groove/`. Either the reverse proxy
 * takes it away, or the edge is told it (PREFIX) and takes it away itself.
 *
 * @module
 */

/** Segments of unreserved characters, which have one spelling each. */
const PREFIX = /^(?:\/[A-Za-z0-9\-._~]+)+$/;

/** The prefix that a setting names, without a slash at the end; empty for the root. Undefined when it is none. */
export function parsePrefix(text: string): string | undefined {
  const prefix = text.trim().replace(/\/+$/, "");
  // Clients take out segments of dots before they send.
  const dots = prefix.split("/").some((segment) => segment === "." || segment === "..");
  return prefix === "" || (PREFIX.test(prefix) && !dots) ? prefix : undefined;
}

/** The rest of a path under the prefix, undefined when it is not under it. */
export function pathUnder(prefix: string, path: string): string | undefined {
  if (prefix === "") return path;
  if (path === prefix) return "/";
  return path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : undefined;
}

/** What the edge answers to at its root, at the end of a longer path. */
const MISPLACED =
  /^(\/.+?)\/(?:\d{1,4}\.\d{1,4}\/[^/]+\/[^/,]+,ConnType=[^/]*|(?:admin\/)?mailboxes(?:\/.*)?|health)$/i;

/** Paths of the edge itself: what stands behind them is no path under a prefix. */
const OWN = /^\/(?:admin|mailboxes|health|local)(?:\/|$)/i;

/** The prefix that whoever sends a request to this path seems to use. Undefined: it does not look like one for an edge. */
export function seemingPrefix(method: string, path: string): string | undefined {
  if (OWN.test(path)) return undefined;
  // A poll goes to the root, whatever that is.
  if (method === "POST" && /^\/.*[^/]\/$/.test(path)) return path.slice(0, -1);
  return MISPLACED.exec(path)?.[1];
}

/** The path of a mailbox whose address has its slash as it is: as it has to be written. Undefined for every other path. */
export function withWholeAddress(path: string): string | undefined {
  const [, head, identity, device, tail = ""] =
    /^((?:\/admin)?\/mailboxes)\/([^/]+)\/([^/]+)(\/(?:rule|lock))?\/?$/.exec(path) ?? [];
  // Without more behind it, this is what is asked of the mailbox of an identity.
  if (head === undefined || (tail === "" && /^(?:rule|lock)$/.test(device ?? ""))) return undefined;
  return `${head}/${identity}%2F${device}${tail}`;
}
