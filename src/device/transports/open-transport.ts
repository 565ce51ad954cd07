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
  STREAMED_BODY,
} from "../../encapsulation/index.ts";
import { bracketed } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";
import { DIAL_TIMEOUT } from "../limits.ts";
import { nearOnly } from "../token-in-clear.ts";
import { authorization } from "../token-source.ts";
import { candidates, hasAbsoluteTargets } from "./candidates.ts";
import { ClientTransport } from "./client-transport.ts";
import { type Dialler, type DirectOptions, direct } from "./dial.ts";
import { findWays } from "./find-ways.ts";
import { holdFor } from "./idle-cuts.ts";
import { nodeWebSockets } from "./node-websocket.ts";
import { PendingTransport } from "./pending-transport.ts";
import { ProxyAccounts } from "./proxy/credentials.ts";
import { ForwardingProxy } from "./proxy/forwarding-proxy.ts";
import { Proxies } from "./proxy/proxy-settings.ts";
import { proveCredentials, proxyDialler, tunnelDialler } from "./proxy/tunnel.ts";
import { type EdgeRoute, edgeRoute, parsedRelay, relayRoute } from "./route.ts";
import { socketLines } from "./socket-line.ts";
import { rawClient } from "./tcp-client.ts";
import { CAPABILITIES, type Transport, type TransportName, type TransportOptions, type Way } from "./transport.ts";
import { openWebSocket } from "./websocket-transport.ts";

/** What `openTransport` takes besides what any transport needs. */
export interface NodeTransportOptions extends TransportOptions {
  /** Where proxies come from. Default: the environment and the operating system. Unused with `dialler`. */
  readonly proxies?: Proxies | undefined;
}

/** For callers that name none: one for the process, so that refused passwords are remembered. */
let defaultProxies: Proxies | undefined;

/**
 * Opens a transport: by `way`, or by the first way that establishes of those that the options allow.
 *
 * @throws DeviceError InvalidOption
 */
export function openTransport(options: NodeTransportOptions): Transport {
  const { transport, relay, edge, dialler } = options;
  parsedRelay(relay);
  const route = edge === undefined ? undefined : edgeRoute(edge);
  if (route === undefined && CAPABILITIES[transport].carriesToken) {
    throw new DeviceError("InvalidOption", `transport ${transport} needs an edge: give its URL (--edge), or use tcp`);
  }
  const asked = { transport, ...(CAPABILITIES[transport].carriesToken ? { edge } : { relay }) };
  if (dialler !== undefined) return openWay(options, options.way ?? first(candidates(asked), transport), dialler);
  defaultProxies ??= new Proxies();
  const { proxies = defaultProxies } = options;
  const needsProof = (way: Way) =>
    hasAbsoluteTargets(way) && proxies.accounts.find(way.proxies.at(-1) ?? way) !== undefined;
  if (options.way !== undefined && !needsProof(options.way)) return openWay(options, options.way);
  const host = route !== undefined && CAPABILITIES[transport].carriesToken ? route : relayRoute(relay);
  if (options.way === undefined && proxies.isDirect(host)) {
    return openWay(options, first(candidates(asked), transport));
  }
  return new PendingTransport(transport, {
    find: async () => {
      const ways = options.way === undefined ? await findWays(asked, proxies) : [options.way];
      return ways.length === 0 ? [first(ways, transport)] : ways;
    },
    open: async (way, signal) => {
      if (needsProof(way)) await prove(way, options, { proxies, signal });
      return openWay({ ...options, proxies }, way);
    },
  });
}

/** @throws DeviceError InvalidOption if there is none */
function first(ways: readonly Way[], transport: TransportName): Way {
  const [way] = ways;
  if (way !== undefined) return way;
  const kind = transport === "connect" ? "an HTTP" : "a SOCKS";
  const why =
    transport === "connect" || transport === "socks"
      ? `needs ${kind} proxy, and none is set: give one with --proxy, the option proxy, or HTTPS_PROXY`
      : "cannot be used with this relay and this proxy: choose another (--transport)";
  throw new DeviceError("InvalidOption", `transport ${transport} ${why}`);
}

/** Opens a transport by exactly one way. */
function openWay(options: NodeTransportOptions, way: Way, dialler?: Dialler): Transport {
  const { transport, relay, edge, ca, token, proxies = defaultProxies } = options;
  const { host, port, secure, source = "" } = way;
  const accounts = proxies?.accounts ?? new ProxyAccounts();
  const tunnel = { source, accounts, ca };
  try {
    if (edge === undefined || !CAPABILITIES[transport].carriesToken) {
      const guard = guardOf(options, way);
      const through = way.proxies.length === 0 ? direct(guard) : tunnelDialler(way.proxies, tunnel);
      const route = { host, port, secure };
      const reach = observed(dialler ?? through, options);
      const open = socketLines({ route, ca, dialler: reach });
      return new ClientTransport(transport, rawClient(), { open, token, relay });
    }
    const route = { host, port, secure, edge: edgeOf(edge, way) };
    const isAbsolute = hasAbsoluteTargets(way);
    const through = isAbsolute ? proxyDialler(way.proxies, tunnel) : tunnelDialler(way.proxies, tunnel);
    const reach = observed(dialler ?? (way.proxies.length === 0 ? direct() : through), options);
    if (transport === "websocket") {
      const open = nodeWebSockets({ ...route, ca, dialler: reach, token, relay });
      return openWebSocket(options, { edge: route.edge, open });
    }
    const [proxy] = isAbsolute ? way.proxies.slice(-1) : [];
    const forwarding = proxy && new ForwardingProxy({ proxy, source }, accounts);
    const client = clientOf(transport as HttpTransport, route, options, forwarding);
    return new ClientTransport(transport, client, {
      edge: route.edge,
      open: socketLines({ route, ca, dialler: reach }),
      token,
      relay,
      forwarding,
      wayLimits: options.wayLimits,
    });
  } catch (error) {
    // For example a contentLength above the maximum.
    if (error instanceof EncapsulationError) throw new DeviceError("InvalidOption", error.message);
    throw error;
  }
}

/** Keeps a token from leaving in clear. Through a proxy, only an address that is written out can be judged. */
function guardOf({ token, allowPlain }: NodeTransportOptions, { host, secure, proxies }: Way): DirectOptions {
  if (token === undefined || allowPlain === true || secure) return {};
  const refuse = nearOnly(host);
  const refusal = proxies.length === 0 ? undefined : refuse(host);
  if (refusal !== undefined) throw refusal;
  return { refuse };
}

/** The URL of the edge as this way reaches it: an `https` edge may be allowed on its plain port. */
function edgeOf(text: string, { secure }: Way): URL {
  const edge = new URL(text);
  if (edge.protocol === "https:" && !secure) {
    edge.port = "";
    edge.protocol = "http:";
  }
  return edge;
}

async function prove(
  way: Way,
  { edge = "", ca }: NodeTransportOptions,
  { proxies, signal }: { readonly proxies: Proxies; readonly signal: AbortSignal },
): Promise<void> {
  const { source = "" } = way;
  const question = { url: `${edgeOf(edge, way).origin}/`, to: way };
  const patience = { signal, timeout: DIAL_TIMEOUT };
  await proveCredentials(way.proxies, question, { source, accounts: proxies.accounts, ca, ...patience });
}

type HttpTransport = "longlived" | "keepalive" | "polling";

/** A dialler that reports its first connection. */
function observed(dialler: Dialler, { onConnected }: NodeTransportOptions): Dialler {
  if (onConnected === undefined) return dialler;
  return async (to, patience) => {
    const socket = await dialler(to, patience);
    onConnected();
    return socket;
  };
}

function clientOf(
  transport: HttpTransport,
  { host, port, secure, edge }: EdgeRoute,
  { relay, token, contentLength, wayLimits, idleLimit, awaitedSince }: TransportOptions,
  forwarding: ForwardingProxy | undefined,
): EncapsulationClient {
  const common: ClientOptions = {
    serverHost: bracketed(host),
    serverPort: port,
    secure,
    prefix: prefixOf(edge),
    relay,
    guid: guidFrom(randomBytes(24)),
    headers: Object.entries(authorization(token)),
    ...(forwarding !== undefined && { proxy: true, authorize: (challenge) => forwarding.authorize(challenge) }),
  };
  const bodyLimit = wayLimits?.body.limit(edge.origin) ?? STREAMED_BODY;
  switch (transport) {
    case "longlived":
      return new LongLivedClient({ ...common, ...(contentLength !== undefined && { contentLength }) });
    case "keepalive":
      return new KeepAliveClient({
        ...common,
        bodyLimit,
        hold: holdFor(idleLimit, wayLimits?.hold.limit(edge.origin)),
      });
    case "polling":
      return new PollingClient({ ...common, bodyLimit, awaitedSince });
    default:
      throw new DeviceError("InvalidOption", `transport ${transport} has no encapsulation`);
  }
}
