/**
 * Opens the transports of a browser: WebSocket, and KeepAlive by `fetch`.
 *
 * @module
 */
import { guidFrom, KeepAliveClient, prefixOf, STREAMED_BODY } from "../../encapsulation/index.ts";
import { bracketed } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";
import { authorization } from "../token-source.ts";
import { ClientTransport } from "./client-transport.ts";
import { fetchLines } from "./fetch-line.ts";
import { holdFor } from "./idle-cuts.ts";
import { edgeRoute } from "./route.ts";
import {
  CAPABILITIES,
  type Capabilities,
  type Transport,
  type TransportName,
  type TransportOptions,
} from "./transport.ts";
import { webWebSockets } from "./web-websocket.ts";
import { openWebSocket } from "./websocket-transport.ts";

/** The transports that a browser can make, best first. */
export const WEB_TRANSPORTS = ["websocket", "keepalive"] as const satisfies readonly TransportName[];
export type WebTransportName = (typeof WEB_TRANSPORTS)[number];

/**
 * Opens a transport to the edge.
 *
 * @throws DeviceError InvalidOption, MixedContent
 */
export function openWebTransport(options: TransportOptions): Transport {
  const { transport, relay, token } = options;
  const name = WEB_TRANSPORTS.find((known) => known === transport);
  if (name === undefined || options.edge === undefined) {
    const text = `a browser connects to an edge by ${WEB_TRANSPORTS.join(" or ")}: give its URL as the option edge`;
    throw new DeviceError("InvalidOption", text);
  }
  const { host, port, secure, edge } = edgeRoute(options.edge);
  assertUnmixed(edge);
  // A browser does not report its connections. A way that fails may be refused alone, so the others are tried too.
  queueMicrotask(() => options.onConnected?.());
  if (name === "websocket") {
    return openWebSocket(options, { edge, open: webWebSockets(edge), capabilities: withoutToken(name) });
  }
  // An edge that passes the connection on sees no Connect, and asks for the token in a header.
  const carriesToken = relay !== edge.hostname;
  const headers = carriesToken ? authorization(token) : {};
  const client = new KeepAliveClient({
    serverHost: bracketed(host),
    serverPort: port,
    secure,
    prefix: prefixOf(edge),
    relay,
    guid: guidFrom(crypto.getRandomValues(new Uint8Array(24))),
    bodyLimit: options.wayLimits?.body.limit(edge.origin) ?? STREAMED_BODY,
    hold: holdFor(options.idleLimit, options.wayLimits?.hold.limit(edge.origin)),
  });
  return new ClientTransport(name, client, {
    edge,
    open: fetchLines({ edge, headers }),
    token,
    relay,
    capabilities: carriesToken ? CAPABILITIES.keepalive : withoutToken(name),
    wayLimits: options.wayLimits,
  });
}

function withoutToken(name: WebTransportName): Capabilities {
  return { ...CAPABILITIES[name], carriesToken: false };
}

/** Hosts that browsers trust without TLS [W3C Secure Contexts 3.1]. */
const OWN_MACHINE = /^(?:(?:.*\.)?localhost|127(?:\.\d+){3}|\[::1\])$/;

/**
 * A page that came by HTTPS may connect to plain HTTP on its own machine only [W3C Mixed Content 4.4].
 *
 * @throws DeviceError MixedContent
 */
function assertUnmixed({ protocol, hostname, origin }: URL): void {
  const page = (globalThis as { readonly location?: { readonly protocol?: string } }).location;
  if (page?.protocol !== "https:" || protocol === "https:" || OWN_MACHINE.test(hostname)) return;
  const text = `${origin} is plain HTTP, which browsers forbid to a page that came by HTTPS: give the edge's https URL`;
  throw new DeviceError("MixedContent", text);
}
