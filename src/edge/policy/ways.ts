/**
 * The ways to an origin relay, in the order in which they are tried: the setting LINK_WAYS.
 *
 *   sstp:2492   SSTP over TCP
 *   sstp:443    the same on the port that firewalls let pass: the specification's direct Secure Tunnel
 *   tls:443     SSTP over TLS
 *   http:80     SSTP in KeepAlive [MS-GRVHENC 2.2.3]
 *
 * @module
 */
import { parseRelay, SSTP_PORT } from "../../encapsulation/index.ts";

export interface Way {
  readonly kind: "sstp" | "tls" | "http";
  readonly port: number;
}

/** What is tried when LINK_WAYS is not set. */
export const DEFAULT_WAYS = "sstp:2492 sstp:443 http:80";

/** The ways of a text, or its first entry that is none, with what is wrong and how to write it. */
export function parseWays(text: string): readonly Way[] | { readonly problem: string; readonly entry: string } {
  const entries = text.split(/[\s,]+/).filter((entry) => entry !== "");
  if (entries.length === 0) return parseWays(DEFAULT_WAYS);
  const ways: Way[] = [];
  for (const entry of entries) {
    const [, kind, digits] = /^(sstp|tls|http):([1-9]\d{0,4})$/.exec(entry) ?? [];
    const port = Number(digits);
    if (kind === undefined || port > 65535) {
      return { problem: `LINK_WAYS has ${JSON.stringify(entry)}: write sstp:PORT, tls:PORT or http:PORT`, entry };
    }
    ways.push({ kind: kind as Way["kind"], port });
  }
  return ways;
}

/**
 * The ways to one relay, each with the name to dial. A name with a port has one way: of the kind that the setting gives
 * to that port, or plain SSTP.
 *
 * @param relay Relay-Server-Name
 * @param last the name that worked last: it is tried first
 */
export function waysTo(
  relay: string,
  ways: readonly Way[],
  last?: string,
): { readonly way: Way; readonly name: string }[] {
  const parsed = parseRelay(relay);
  if (parsed === undefined) return [];
  const { host, port } = parsed;
  if (port !== undefined && port !== SSTP_PORT) {
    const kind = ways.find((way) => way.port === port)?.kind ?? "sstp";
    return [{ way: { kind, port }, name: `${host}:${port}` }];
  }
  const all = ways.map((way) => ({ way, name: `${host}:${way.port}` }));
  return all.sort((a, b) => Number(b.name === last) - Number(a.name === last));
}
