/**
 * Says what can be read on the way to an edge or relay without TLS.
 *
 * @module
 */

import { unbracketed } from "../lib/host-port.ts";
import { isLoopback } from "../lib/near-address.ts";
import { visible } from "../lib/printable.ts";

/** Where a command connects to. */
export interface Destinations {
  readonly edges: readonly string[];
  /** A relay that is reached without an edge: `host` or `host:port`. */
  readonly relay?: string | undefined;
  /** Whether ways without TLS are tried for edges by https, too. */
  readonly allowPlain?: boolean | undefined;
  readonly hasToken: boolean;
}

/** Returns a line for the user; undefined if all goes by TLS, or stays on this machine. */
export function plainNotice({ edges, relay, allowPlain, hasToken }: Destinations): string | undefined {
  const all = edges.flatMap((edge) => URL.parse(edge) ?? []);
  const plain = all.filter(({ protocol }) => protocol === "http:").map(({ hostname }) => hostname);
  const named = [...plain, ...(relay === undefined ? [] : [relay.replace(/:\d+$/, "")])].filter((host) => !isOwn(host));
  const what = hasToken ? "the token and the messages" : "the messages";
  if (named.length > 0) return visible(`the way to ${named.join(" and ")} has no TLS: others on it can read ${what}`);
  const isSecure = all.some(({ protocol }) => protocol === "https:");
  if (allowPlain !== true || !isSecure) return undefined;
  return `--allow-plain: where TLS does not get through, others on the way can read ${what}`;
}

function isOwn(host: string): boolean {
  return isLoopback(unbracketed(host)) || /(?:^|\.)localhost\.?$/i.test(host);
}
