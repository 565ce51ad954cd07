/** What the tests of networks need, and how much of them is to run. */
import { existsSync } from "node:fs";
import { whyNoNamespaces } from "../support/namespaces.ts";

/** A program, and the Debian package that has it. */
export interface Need {
  readonly program: string;
  readonly package: string;
}

export const NEEDS = {
  nft: { program: "/usr/sbin/nft", package: "nftables" },
  squid: { program: "/usr/sbin/squid", package: "squid" },
  tinyproxy: { program: "/usr/bin/tinyproxy", package: "tinyproxy" },
  dante: { program: "/usr/sbin/danted", package: "dante-server" },
  microsocks: { program: "/usr/bin/microsocks", package: "microsocks" },
  varnish: { program: "/usr/sbin/varnishd", package: "varnish" },
  nginx: { program: "/usr/sbin/nginx", package: "nginx-light" },
  socat: { program: "/usr/bin/socat", package: "socat" },
  tayga: { program: "/usr/sbin/tayga", package: "tayga" },
  haproxy: { program: "/usr/sbin/haproxy", package: "haproxy" },
} as const satisfies Readonly<Record<string, Need>>;

/** `GROOVEWAY_NETWORKS`: empty for the quick networks, 1 for all of them, full for all of them with all data. */
export const EXTENT = process.env.GROOVEWAY_NETWORKS ?? "";

const whyNowhere = whyNoNamespaces();

/** Why what needs these and network namespaces is impossible here; false if it is possible. */
export function whyImpossible(needs: readonly Need[]): string | false {
  if (whyNowhere !== undefined) return `SKIPPED: ${whyNowhere}`;
  const missing = needs.filter(({ program }) => !existsSync(program));
  return missing.length > 0 && `SKIPPED: apt-get install ${missing.map((need) => need.package).join(" ")}`;
}

/**
 * Why a network cannot be made here, or is not to be made now; false if neither.
 *
 * @param isQuick whether it is made with every `npm test`
 */
export function whyNot(needs: readonly Need[], isQuick: boolean): string | false {
  const impossible = whyImpossible(needs);
  if (impossible !== false) return impossible;
  return EXTENT === "" && !isQuick ? "SKIPPED: set GROOVEWAY_NETWORKS=1" : false;
}
