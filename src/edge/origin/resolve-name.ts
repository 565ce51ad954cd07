/**
 * Resolves names of origin relays, by DNS over HTTPS in its JSON form. The platform's own resolver would not show the
 * addresses, which the policy checks before one is dialled.
 *
 * @module
 */

import { readBody } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { RESOLVE_OCTETS, RESOLVE_TIMEOUT } from "./limits.ts";

/** The resolver if RESOLVER is not set. */
export const DEFAULT_RESOLVER = "https://cloudflare-dns.com/dns-query";

/** Result of resolving a name. The addresses are unchecked: check them against the policy before dialling one. */
export type Resolved =
  | { readonly type: "addresses"; readonly addresses: readonly string[] }
  | { readonly type: "refused"; readonly reason: "DNSLookupFailed"; readonly detail: string };

/** DNS record types to ask for. The answer also contains the records at the end of a chain of CNAMEs. */
const TYPES = { A: 1, AAAA: 28 } as const;

/**
 * Asks for the IPv4 and IPv6 addresses of a name in parallel.
 *
 * @param resolver URL of the JSON API
 * @returns IPv4 first, each family in the order of its answer
 */
export async function resolveName(name: string, resolver: string): Promise<Resolved> {
  const answers = await Promise.all([ask(name, "A", resolver), ask(name, "AAAA", resolver)]);
  const addresses = answers.flatMap((answer) => (typeof answer === "string" ? [] : answer));
  if (addresses.length > 0) return { type: "addresses", addresses };
  const why = answers.find((answer) => typeof answer === "string") ?? "it has no address";
  return { type: "refused", reason: "DNSLookupFailed", detail: `The relay's name was not resolved: ${why}.` };
}

/** Whether a resolver answers: that there is no such name as well [RFC 6761 6.4]. @param resolver empty: the default */
export async function isResolving(resolver = ""): Promise<boolean> {
  const answer = await ask("grooveway.invalid", "A", resolver || DEFAULT_RESOLVER);
  return typeof answer !== "string" || answer === NO_SUCH_NAME;
}

const NO_SUCH_NAME = "there is no such name";

/** Returns the addresses of one family, or why there are none. */
async function ask(name: string, type: keyof typeof TYPES, resolver: string): Promise<string[] | string> {
  const url = new URL(resolver);
  url.searchParams.set("name", name);
  url.searchParams.set("type", type);
  const over = new AbortController();
  try {
    const asked = fetch(url, {
      headers: { Accept: "application/dns-json" },
      // Only the operator's resolver may answer, so redirects are not followed.
      redirect: "manual",
      signal: over.signal,
    }).then((response) => read(response, TYPES[type]));
    const answer = await within(RESOLVE_TIMEOUT, asked);
    return answer?.value ?? "the resolver did not answer in time";
  } catch {
    return "the resolver cannot be reached";
  } finally {
    over.abort();
  }
}

async function read(response: Response, type: number): Promise<string[] | string> {
  if (response.status !== 200) {
    await response.body?.cancel();
    return `the resolver answered with status ${response.status}`;
  }
  const body = await readBody(response.body, RESOLVE_OCTETS);
  if (body === undefined) return "the resolver's answer is too long";
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder().decode(body));
  } catch {
    return "the resolver's answer is not JSON";
  }
  const { Status, Answer = [] } = (document ?? {}) as { readonly Status?: unknown; readonly Answer?: unknown };
  if (Status === 3) return NO_SUCH_NAME;
  if (Status !== 0) return "the resolver reported a failure";
  if (!Array.isArray(Answer)) return "the resolver's answer is not a DNS answer";
  const addresses: string[] = [];
  for (const record of Answer as readonly ({ readonly type?: unknown; readonly data?: unknown } | null)[]) {
    if (record?.type !== type) continue;
    if (typeof record.data !== "string") return "the resolver's answer is not a DNS answer";
    addresses.push(record.data);
  }
  return addresses;
}
