/**
 * Dials an origin relay: checks its name against the policy, resolves it, checks the addresses, and dials one of them.
 * Invariant: without TLS it dials the addresses that it has checked, never the name, so a second DNS look-up cannot
 * lead elsewhere.
 *
 * @module
 */

import type { ByteChannel } from "../byte-channel.ts";
import { classify, readAddress } from "../policy/ip-address.ts";
import { judgeAddresses, judgeRelay } from "../policy/relay-allow-list.ts";
import { DIAL_CANDIDATES, DIAL_TIMEOUT } from "./limits.ts";
import { policyOf, type RelayRefused, type RelaySettings, tellRefusal } from "./relay-access.ts";
import { DEFAULT_RESOLVER, resolveName } from "./resolve-name.ts";
import { dial } from "./tcp-channel.ts";

/** How to connect to a relay. */
export interface Way {
  readonly tls: boolean;
  /** Whether a connection without TLS may go to the public internet. */
  readonly clear: boolean;
}

/** For virtual connections that are passed through: whether to encrypt is the device's decision. */
const PASSED_THROUGH: Way = { tls: false, clear: true };

/**
 * Dials a relay. It checks the policy itself, whether or not its caller has done so before.
 *
 * @param name Relay-Server-Name [MS-GRVHENC 2.2.1.1.2]
 * @param readSize the most that is read ahead, in bytes
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
    // TLS dials the name, since its certificate is for that. If a second DNS look-up leads elsewhere, the certificate
    // fails.
    if (!tls) hosts = judged.hosts.slice(0, DIAL_CANDIDATES);
  }
  if (!tls && !clear && hosts.some(isPublic)) return told(name, { type: "refused", reason: "LinkInClear" });
  const end = Date.now() + DIAL_TIMEOUT;
  for (const [n, host] of hosts.entries()) {
    // The remaining time is divided equally among the remaining addresses.
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

/** Logs a refusal: the operator has allowed the name, and needs to know why it is not dialled. */
function told(name: string, refusal: RelayRefused): RelayRefused {
  tellRefusal(name, refusal);
  return refusal;
}
