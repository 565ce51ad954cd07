/**
 * Parses the hops of a request from reverse proxies' headers: X-Forwarded-For, and Forwarded [RFC 7239]. Pure.
 *
 * A client can write both headers itself. Each proxy appends the address that it was reached from. So the last entry
 * comes from the nearest proxy, and a client may have written everything before the first proxy's entry.
 *
 * @module
 */

/** A name and its value, a token or a quoted string, up to the end of the pair, the element or the header. */
const PAIR = /[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)=(?:([!#$%&'*+.^_`|~\w-]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*([;,]|$)/y;

/** Returns the hops in X-Forwarded-For, the nearest last. An entry that is not an address is returned as it is. */
export function xForwardedForHops(header: string): string[] {
  return header.split(",").map((entry) => withoutPort(entry.trim()));
}

/**
 * Returns the hops in Forwarded, the nearest last. A hop is empty if the proxy does not name it.
 *
 * @returns undefined if the header is malformed: a client's quote may have swallowed what a proxy appended
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
      // At most once per element, or a client's value could replace the proxy's.
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

/** Some proxies add the port, and write IPv6 addresses in brackets. */
function withoutPort(node: string): string {
  return /^\[(.*)\](?::[\w.-]+)?$/.exec(node)?.[1] ?? /^([\d.]+):[\w.-]+$/.exec(node)?.[1] ?? node;
}
