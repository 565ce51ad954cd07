/**
 * Opens the transport that the options name: one virtual connection, or one TCP connection.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import {
  type ClientOptions,
  type EncapsulationClient,
  EncapsulationError,
  guidFrom,
  KeepAliveClient,
  LongLivedClient,
  PollingClient,
  prefixOf,
} from "../../encapsulation/index.ts";
import { bracketed } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";
import { nearOnly } from "../token-in-clear.ts";
import { authorization } from "../token-source.ts";
import { direct } from "./dial.ts";
import { type EdgeRoute, edgeRoute, parsedRelay, relayRoute } from "./route.ts";
import { SocketTransport } from "./socket-transport.ts";
import { rawClient } from "./tcp-client.ts";
import type { Transport, TransportOptions } from "./transport.ts";
import { openWebSocket } from "./websocket-transport.ts";

/**
 * Opens a transport.
 *
 * @throws DeviceError InvalidOption
 */
export function openTransport(options: TransportOptions): Transport {
  const { transport, relay, edge, ca, token, allowPlain } = options;
  parsedRelay(relay);
  try {
    if (transport === "tcp") {
      const route = relayRoute(relay);
      const guarded = token !== undefined && allowPlain !== true;
      const dialler = options.dialler ?? direct(guarded ? { refuse: nearOnly(route.host) } : {});
      return new SocketTransport(transport, rawClient(), { route, ca, dialler, token, relay });
    }
    if (edge === undefined) {
      throw new DeviceError("InvalidOption", `transport ${transport} needs an edge: give its URL (--edge), or use tcp`);
    }
    const route = edgeRoute(edge);
    const dialler = options.dialler ?? direct();
    if (transport === "websocket") return openWebSocket(options, { ...route, ca, dialler });
    return new SocketTransport(transport, clientOf(transport, route, options), { route, ca, dialler, token, relay });
  } catch (error) {
    // For example a contentLength above the maximum.
    if (error instanceof EncapsulationError) throw new DeviceError("InvalidOption", error.message);
    throw error;
  }
}

function clientOf(
  transport: "longlived" | "keepalive" | "polling",
  { host, port, secure, edge }: EdgeRoute,
  { relay, token, contentLength }: TransportOptions,
): EncapsulationClient {
  const common: ClientOptions = {
    serverHost: bracketed(host),
    serverPort: port,
    secure,
    prefix: prefixOf(edge),
    relay,
    guid: guidFrom(randomBytes(24)),
    headers: Object.entries(authorization(token)),
  };
  switch (transport) {
    case "longlived":
      return new LongLivedClient({ ...common, ...(contentLength !== undefined && { contentLength }) });
    case "keepalive":
      return new KeepAliveClient(common);
    case "polling":
      return new PollingClient(common);
  }
}
