/**
 * Connects to an edge outside a transport, through the proxies of this moment.
 *
 * @module
 */
import { DeviceError } from "../device-error.ts";
import { type FailedWay, mayFollow, tellingError } from "./candidates.ts";
import { type Dialler, direct } from "./dial.ts";
import { findWays } from "./find-ways.ts";
import type { Proxies } from "./proxy/proxy-settings.ts";
import { tunnelDialler } from "./proxy/tunnel.ts";

/**
 * Makes a dialler to an edge. HTTP proxies carry also plain HTTP in a tunnel.
 *
 * @param ca PEM certificates of the authorities to trust in addition, for proxies reached over TLS
 */
export function edgeDialler(edge: string, proxies: Proxies, ca?: string): Dialler {
  return async (to, patience) => {
    const failed: FailedWay[] = [];
    // A WebSocket is dialled in the same way.
    for (const way of await findWays({ edge, transport: "websocket" }, proxies)) {
      if (!mayFollow(failed, way)) continue;
      const options = { source: way.source ?? "", accounts: proxies.accounts, ca };
      const dialler = way.proxies.length === 0 ? direct() : tunnelDialler(way.proxies, options);
      try {
        return await dialler(to, patience);
      } catch (error) {
        failed.push({ error, way });
      }
    }
    throw tellingError(failed) ?? new DeviceError("InternalError", "an edge has no way to it");
  };
}
