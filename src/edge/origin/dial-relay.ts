/**
 * The way to an origin relay: judged by its name, resolved, judged by its addresses, and dialled at one of these. A
 * second look at the name cannot lead elsewhere, because there is none.
 *
 * @module
 */

import type { ByteChannel } from "../byte-channel.ts";
import { classify, readAddress } from "../policy/ip-address.ts";
import { judgeAddresses, judgeRelay } from "../policy/relay-allow-list.ts";
import { DIAL_CANDIDATES, DIAL_TIMEOUT } from "./limits.ts";
import { policyOf, type RelayRefused, type RelaySettings, tellRefusal } from "./relay-policy.ts";
import { DEFAULT_RESOLVER, resolveName } from "./resolve-name.ts";
import { dial } from "./tcp-channel.ts";

/** How a relay is connected to. */
export interface Way {
  readonly tls: boolean;
  /** Whether a relay on the public internet may be connected to without TLS. */
  readonly clear: boolean;
}

/** What is passed through is the device's own affair. */
const PASSED_THROUGH: Way = { tls: false, clear: true };

/**
 * Reaches a relay, whoever asks: what the Worker has refused is refused here again.
 *
 * @param name Relay-Server-Name [MS-GRVHENC 2.2.1.1.2]
 * @param readSize the most that is read ahead, in octets
 */
export async function dialRelay(
  name: string,
  env: RelaySettings,
  readSize: number,
  { tls, clear }: Way = PASSED_THROUGH,
): Promise<{ readonly type: "origin"; readonly origin: ByteChannel } | RelayRefused> {
  const policy = policyOf(env);
  if (policy === undefined) return { type: "refused", reason: "EdgeMisconfigured" };
  const verdict = judgeRelay(name, policy.rules, policy.dev);
  if (verdict.type === "refused") return verdict;
  const { hostname, port } = verdict.endpoint;
  let hosts: readonly string[] = [hostname];
  if (verdict.resolve) {
    const resolved = await resolveName(hostname, env.RESOLVER || DEFAULT_RESOLVER);
    if (resolved.type === "refused") return told(name, resolved);
    const judged = judgeAddresses(resolved.addresses, policy.rules, { ...policy.dev, port });
    if (judged.type === "refused") return told(name, judged);
    // A certificate is for the name. Should it lead elsewhere at a second look, no one there can show the certificate.
    if (!tls) hosts = judged.hosts.slice(0, DIAL_CANDIDATES);
  }
  if (!tls && !clear && hosts.some(isPublic)) return told(name, { type: "refused", reason: "LinkInClear" });
  const end = Date.now() + DIAL_TIMEOUT;
  for (const [n, host] of hosts.entries()) {
    // One that does not answer leaves as much to each that follows.
    const patience = (end - Date.now()) / (hosts.length - n);
    const origin = await dial({ hostname: host, port }, readSize, patience, tls);
    if (origin !== undefined) return { type: "origin", origin };
  }
  return { type: "refused", reason: "OriginUnreachable" };
}

function isPublic(host: string): boolean {
  const reading = readAddress(host);
  return reading.type === "address" && classify(reading.address) === "public";
}

/** The operator allowed the name, and should know why it is not dialled all the same. */
function told(name: string, refusal: RelayRefused): RelayRefused {
  tellRefusal(name, refusal);
  return refusal;
}
