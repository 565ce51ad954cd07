/**
 * The setting LINK_WAYS: the ways to an origin relay, in the order in which they are tried.
 *
 *   sstp:2492   SSTP over TCP
 *   sstp:443    the same on the port that firewalls let pass: the specification's direct Secure Tunnel
 *   tls:443     SSTP over TLS
 *   http:80     SSTP in KeepAlive [MS-GRVHENC 2.2.3]
 *
 * TLS excludes the other ways: an attacker who blocks its port would otherwise force the edge to send in clear.
 *
 * @module
 */
import { parseRelay, SSTP_PORT } from "../../encapsulation/index.ts";
import { formatHostPort, parsePort } from "../../lib/host-port.ts";
import { entriesOf, malformed, type Setting } from "../../lib/setting.ts";

export interface Way {
  readonly kind: "sstp" | "tls" | "http";
  readonly port: number;
}

/** The ways tried if LINK_WAYS is not set. */
const DEFAULT_WAYS = "sstp:2492 sstp:443 http:80";

export function readWays(text: string): Setting<readonly Way[]> {
  const entries = entriesOf(text);
  if (entries.length === 0) return readWays(DEFAULT_WAYS);
  const ways: Way[] = [];
  for (const entry of entries) {
    const [, kind, digits = ""] = /^(sstp|tls|http):(.*)$/.exec(entry) ?? [];
    const port = parsePort(digits);
    if (kind === undefined || port === undefined) {
      const problem = `has ${JSON.stringify(entry)}, which is not a way to connect to a relay`;
      return malformed(
        "LINK_WAYS",
        problem,
        "write sstp:PORT, tls:PORT or http:PORT (--link-ways), separated by spaces",
      );
    }
    ways.push({ kind: kind as Way["kind"], port });
  }
  const plain = ways.findIndex(({ kind }) => kind !== "tls");
  if (plain >= 0 && ways.some(({ kind }) => kind === "tls")) {
    const secure = entries.filter((entry) => entry.startsWith("tls:")).join(" ");
    const problem = `has ${entries[plain]} beside TLS, so an attacker who blocks the TLS port would get the messages unencrypted`;
    return malformed("LINK_WAYS", problem, `write ${JSON.stringify(secure)}`);
  }
  return { ok: true, value: ways };
}

/**
 * Returns the ways to one relay, each with the name to dial. A name with a port has one way: of the kind that the
 * setting gives to that port; otherwise TLS if the setting has only TLS, and SSTP if not.
 *
 * @param relay Relay-Server-Name
 * @param last the name that worked last, which is tried first
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
    const other = ways.every(({ kind }) => kind === "tls") ? "tls" : "sstp";
    const kind = ways.find((way) => way.port === port)?.kind ?? other;
    return [{ way: { kind, port }, name: formatHostPort({ host, port }) }];
  }
  const all = ways.map((way) => ({ way, name: formatHostPort({ host, port: way.port }) }));
  return all.sort((a, b) => Number(b.name === last) - Number(a.name === last));
}
