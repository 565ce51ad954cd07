/**
 * Dials a TCP destination of STREAM_ORIGINS for a device: checks the token's scope and the list, resolves the name, checks
 * its addresses, and dials one of them. Invariant: it dials the addresses that it has checked, never a name, so a second
 * look-up cannot lead elsewhere.
 *
 * @module
 */
import { mayReach, type Rights } from "../../auth/scopes.ts";
import { bracketed, parseHostPort, unbracketed, withoutFinalDot } from "../../lib/host-port.ts";
import type { Reason } from "../../streams/index.ts";
import { type Destination, judgeAddresses, judgeTarget } from "../policy/destinations.ts";
import { formatAddress, readAddress } from "../policy/ip-address.ts";
import type { Settings } from "../policy/settings.ts";
import { readStreamOrigins } from "../policy/stream-origins.ts";
import { DIAL_CANDIDATES, DIAL_TIMEOUT } from "./limits.ts";
import { DEFAULT_RESOLVER, resolveName } from "./resolve-name.ts";
import { connectWithin } from "./tcp-channel.ts";

/** A connection, or why there is none: for the device, and in words for the operator. */
export type OriginDialled =
  | { readonly type: "connected"; readonly socket: Socket }
  | { readonly type: "refused"; readonly reason: Reason; readonly why: string };

let last: { readonly text: string; readonly list: readonly Destination[] } | undefined;

/** The list of destinations; empty if the setting is malformed. */
export function streamOrigins({ STREAM_ORIGINS = "" }: Pick<Settings, "STREAM_ORIGINS">): readonly Destination[] {
  if (last?.text === STREAM_ORIGINS) return last.list;
  const read = readStreamOrigins(STREAM_ORIGINS);
  last = { text: STREAM_ORIGINS, list: read.ok ? read.value : [] };
  return last.list;
}

/**
 * @param text `host:port` as the device has asked for it
 * @param rights of the device's token
 */
export async function dialOrigin(
  text: string,
  rights: Rights,
  env: Pick<Settings, "STREAM_ORIGINS" | "RESOLVER">,
): Promise<OriginDialled> {
  const target = targetIn(text);
  if (target === undefined) return refused("OriginNotAllowed", "it is not HOST:PORT");
  if (!mayReach(rights, target)) return refused("OriginScopeMissing", "the token does not allow it");
  const list = streamOrigins(env);
  const judged = judgeTarget(list, target);
  if (judged.type === "refused") return refused("OriginNotAllowed", judged.why);
  if (judged.type === "dial") return dial(judged.addresses, target.port);
  const { name } = judged;
  const resolved = await resolveName(name, env.RESOLVER || DEFAULT_RESOLVER);
  if (resolved.type === "refused") return refused("OriginUnreachable", resolved.detail);
  const found = judgeAddresses(list, { name, port: target.port }, resolved.addresses);
  if (found.type === "refused") return refused("OriginNotAllowed", found.why);
  return dial(found.addresses, target.port);
}

/** A destination as tokens and lists name it: an address in its usual spelling, or a name in lower case. */
function targetIn(text: string): { readonly host: string; readonly port: number } | undefined {
  const parsed = parseHostPort(text, { finalDot: true });
  if (typeof parsed === "string" || parsed.port === undefined) return undefined;
  const host = unbracketed(parsed.host);
  const reading = readAddress(host);
  if (reading.type === "malformed") return undefined;
  const canonical = reading.type === "address" ? formatAddress(reading.address) : withoutFinalDot(host);
  return { host: canonical, port: parsed.port };
}

async function dial(addresses: readonly string[], port: number): Promise<OriginDialled> {
  const tried = addresses.slice(0, DIAL_CANDIDATES);
  const end = Date.now() + DIAL_TIMEOUT;
  for (const [n, address] of tried.entries()) {
    // The remaining time is divided equally among the remaining addresses.
    const patience = (end - Date.now()) / (tried.length - n);
    const socket = await connectWithin({ hostname: bracketed(address), port }, patience);
    if (socket !== undefined) return { type: "connected", socket };
  }
  return refused("OriginUnreachable", `${tried.join(" and ")} port ${port} refused the connection, or did not answer`);
}

function refused(reason: Reason, why: string): OriginDialled {
  return { type: "refused", reason, why };
}
