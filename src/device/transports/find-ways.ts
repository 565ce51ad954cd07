/**
 * Finds the ways to an edge or relay: what the options allow, through the proxies of this moment.
 *
 * @module
 */
import { SSTP_PORT } from "../../encapsulation/index.ts";
import { unbracketed } from "../../lib/host-port.ts";
import { type CandidateOptions, candidates, NO_PROXY_SET, type ProxyChoice, type ProxyChoices } from "./candidates.ts";
import type { Proxies } from "./proxy/proxy-settings.ts";
import { edgeRoute, parsedRelay } from "./route.ts";
import type { Way } from "./transport.ts";

/**
 * Lists the ways to try, best first. Asks for the proxies anew.
 *
 * @throws DeviceError InvalidOption, ProxyFailed
 */
export async function findWays(options: CandidateOptions, proxies: Proxies): Promise<Way[]> {
  return candidates(options, await findChoices(options, proxies));
}

/**
 * Asks for the proxies to the edge and to the relay.
 *
 * @throws DeviceError InvalidOption, ProxyFailed
 */
export async function findChoices(options: CandidateOptions, proxies: Proxies): Promise<Required<ProxyChoices>> {
  const [edge, relay] = await Promise.all([toEdge(options, proxies), toRelay(options, proxies)]);
  return { edge, relay };
}

async function toEdge({ edge }: CandidateOptions, proxies: Proxies): Promise<ProxyChoice> {
  if (edge === undefined) return NO_PROXY_SET;
  const { host, port, secure } = edgeRoute(edge);
  return proxies.choose({ host, port, scheme: secure ? "https" : "http" });
}

async function toRelay({ relay }: CandidateOptions, proxies: Proxies): Promise<ProxyChoice> {
  if (relay === undefined) return NO_PROXY_SET;
  const { host, port = SSTP_PORT } = parsedRelay(relay);
  return proxies.choose({ host: unbracketed(host), port, scheme: "https" });
}
