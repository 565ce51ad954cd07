/**
 * The hops of a request, as reverse proxies write them: X-Forwarded-For, and Forwarded [RFC 7239]. Pure.
 *
 * A client may write both headers itself. Each proxy appends the address that it was reached from, so the end of a list is
 * what the nearest proxy says, and a client may have written all that stands before the first proxy's entry.
 *
 * @module
 */

/** A name and its value, which is a token or a quoted string, up to the end of it, of the element, or of the header. */
const PAIR = /[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)=(?:([!#$%&'*+.^_`|~\w-]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*([;,]|$)/y;

/** The hops in X-Forwarded-For, the nearest last; an entry that names no address stays as it is. */
export function xForwardedForHops(header: string): string[] {
  return header.split(",").map((entry) => withoutPort(entry.trim()));
}

/**
 * The hops in Forwarded, the nearest last; empty where a proxy does not say which.
 *
 * @returns undefined when the header is malformed: a client's quote may have swallowed what a proxy appended
 *
 * @example
 * forwardedHops('for=192.0.2.43, for="[2001:db8::17]:4711";proto=https'); // ["192.0.2.43", "2001:db8::17"]
 */
export function forwardedHops(header: string): string[] | undefined {
  const hops: string[] = [];
  let hop = "";
  PAIR.lastIndex = 0;
  for (;;) {
    const pair = PAIR.exec(header);
    if (pair === null) return undefined;
    const [, name = "", token, quoted = "", end] = pair;
    if (name.toLowerCase() === "for") {
      // Once at the most in an element, or a client's value could stand in for the proxy's.
      if (hop !== "") return undefined;
      hop = withoutPort(token ?? quoted.replace(/\\(.)/g, "$1"));
    }
    if (end !== ";") {
      hops.push(hop);
      hop = "";
    }
    if (end === "") return hops;
  }
}

/** Some proxies write the port as well, and IPv6 addresses in brackets. */
function withoutPort(node: string): string {
  return /^\[(.*)\](?::[\w.-]+)?$/.exec(node)?.[1] ?? /^([\d.]+):[\w.-]+$/.exec(node)?.[1] ?? node;
}
