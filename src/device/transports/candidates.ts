/**
 * The ways that a device may try, best first. Pure.
 *
 * No way is weaker than what the user wrote. From an `https` edge come only ways over TLS; SSTP without TLS and plain
 * HTTP need an address that says so (a relay without an edge, an `http` edge) or `allowPlain`.
 *
 * @module
 */
import { HTTP_PORT, SECURE_TUNNEL_PORT, SSTP_PORT } from "../../encapsulation/index.ts";
import { formatHostPort, unbracketed } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";
import { edgeRoute, parsedRelay, type Route } from "./route.ts";
import { type ProxyChain, type ProxyServer, TRANSPORTS, type TransportName, type Way } from "./transport.ts";

/** The proxies for one destination, and where they come from. */
export interface ProxyChoice {
  /** Chains to try in order; an empty one stands for a direct connection. Never empty itself. */
  readonly chains: readonly ProxyChain[];
  /** Where the setting was found, for the user: `--proxy`, `HTTPS_PROXY`, `the PAC file http://...`. */
  readonly source: string;
  /** Whether the user named the proxy for this program alone, so that nothing may go past it. */
  readonly isForced: boolean;
  /** Why the setting could not be followed, so that the connection is direct: the PAC file is out of reach. */
  readonly problem?: string | undefined;
}

/** Nothing says that there is a proxy. */
export const NO_PROXY_SET: ProxyChoice = { chains: [[]], source: "no proxy is set", isForced: false };

/** The proxies for the edge and for the relay, which an exception may set apart. Default: none. */
export interface ProxyChoices {
  readonly edge?: ProxyChoice | undefined;
  readonly relay?: ProxyChoice | undefined;
}

export interface CandidateOptions {
  /** Only ways of this transport. Default: of all. */
  readonly transport?: TransportName | undefined;
  /** URL of the edge. */
  readonly edge?: string | undefined;
  /** `host` or `host:port` of a relay that the user named; undefined where the edge itself is the relay. */
  readonly relay?: string | undefined;
  /** Allows ways without TLS from an `https` edge. Default false. */
  readonly allowPlain?: boolean | undefined;
}

/**
 * Lists the ways to a relay, in the order of {@link TRANSPORTS}; ways of one transport in the order of the chains.
 * Empty if the options allow none.
 *
 * @throws DeviceError InvalidOption if `edge` or `relay` cannot be parsed
 */
export function candidates(options: CandidateOptions, { edge: toEdge, relay: toRelay }: ProxyChoices = {}): Way[] {
  const { relay } = options;
  const edge = options.edge === undefined ? undefined : edgeRoute(options.edge);
  const isPlainAllowed = options.allowPlain === true || edge?.secure !== true;
  const wanted = options.transport === undefined ? TRANSPORTS : [options.transport];
  return wanted.flatMap((transport) => {
    switch (transport) {
      case "websocket":
      case "longlived":
      case "keepalive":
      case "polling":
        return edge === undefined ? [] : edgeWays(transport, edge, chainsOf(toEdge), options.allowPlain === true);
      default:
        return relay === undefined ? [] : relayWays(transport, relay, chainsOf(toRelay), isPlainAllowed);
    }
  });
}

/** Whether requests name the whole URL: the last proxy forwards plain HTTP itself [RFC 9112 3.2.2]. */
export function hasAbsoluteTargets({ transport, secure, proxies }: Way): boolean {
  // A WebSocket needs a tunnel also in plain: proxies remove Upgrade from what they forward.
  const isRequest = transport === "longlived" || transport === "keepalive" || transport === "polling";
  return isRequest && !secure && isHttp(proxies.at(-1));
}

/**
 * Equal for ways that share the connection to the same server: if one cannot connect, none can. A proxy that refuses
 * tunnels may still forward requests.
 */
export function pathText(way: Way): string {
  const { host, port, secure, proxies } = way;
  return JSON.stringify([host, port, secure, hasAbsoluteTargets(way), proxies.map(proxyText)]);
}

/** Describes a way in one line: `websocket to edge.example.com:443 over TLS through http://proxy.example.com:3128`. */
export function wayText(way: Way): string {
  const through = way.proxies.map((proxy) => `${THROUGH}${proxyText(proxy)}`).join("");
  return `${way.transport} to ${formatHostPort(way)}${way.secure ? " over TLS" : ""}${through}`;
}

const THROUGH = " through ";

/** Whether a way goes through a proxy, by its text. */
export function hasProxy(text: string): boolean {
  return text.includes(THROUGH);
}

/** A way, and why it failed. */
export interface FailedWay {
  readonly way: Way;
  readonly error: unknown;
}

/** Whether a way may be tried after others failed. A proxy that has answered is not gone past. */
export function mayFollow(failed: readonly FailedWay[], next: Way): boolean {
  return failed.every(({ way, error }) => {
    if (isOfProxy(error)) return wayText({ ...way, port: 0 }) === wayText({ ...next, port: 0 });
    return error instanceof DeviceError && error.code === "ConnectFailed";
  });
}

/** The error that says most: that of a proxy that has answered, or else of the best way. */
export function tellingError(failed: readonly FailedWay[]): unknown {
  return (failed.find(({ error }) => isOfProxy(error)) ?? failed[0])?.error;
}

function isOfProxy(error: unknown): boolean {
  return error instanceof DeviceError && error.code.startsWith("Proxy");
}

/** A proxy as a URL, without credentials. */
export function proxyText(proxy: ProxyServer): string {
  return `${proxy.kind}://${formatHostPort(proxy)}`;
}

function edgeWays(
  transport: TransportName,
  { host, port, secure }: Route,
  chains: readonly FoundChain[],
  allowPlain: boolean,
): Way[] {
  const ways = chains.map((chain) => ({ transport, host, port, secure, ...chain }));
  // Only the standard port has a plain counterpart.
  if (!secure || !allowPlain || port !== SECURE_TUNNEL_PORT) return ways;
  return [...ways, ...chains.map((chain) => ({ transport, host, port: HTTP_PORT, secure: false, ...chain }))];
}

function relayWays(
  transport: "tcp" | "tcp443" | "tls" | "connect" | "socks",
  relay: string,
  chains: readonly FoundChain[],
  isPlainAllowed: boolean,
): Way[] {
  const parsed = parsedRelay(relay);
  const host = unbracketed(parsed.host);
  // A relay with a port of its own is reached there only. On 2492 nobody speaks TLS.
  const own = parsed.port === SSTP_PORT ? undefined : parsed.port;
  const portsThrough = (...usual: readonly number[]) => (parsed.port === undefined ? usual : [parsed.port]);
  const secure = transport === "tls";
  if (!secure && !isPlainAllowed) return [];
  const through = (fits: (chain: ProxyChain) => boolean, ...ports: readonly number[]) =>
    chains
      .filter(({ proxies }) => fits(proxies))
      .flatMap((chain) => ports.map((port) => ({ transport, host, port, secure, ...chain })));
  switch (transport) {
    case "tcp":
      return through(isDirect, own ?? SSTP_PORT);
    case "tcp443":
      return own === undefined ? through(isDirect, SECURE_TUNNEL_PORT) : [];
    case "tls":
      return through(() => true, own ?? SECURE_TUNNEL_PORT);
    case "connect":
      // Most HTTP proxies open tunnels to 443 only.
      return through((chain) => isHttp(chain.at(-1)), ...(own === undefined ? [SECURE_TUNNEL_PORT, SSTP_PORT] : [own]));
    case "socks":
      return through(
        (chain) => !isDirect(chain) && !isHttp(chain.at(-1)),
        ...portsThrough(SSTP_PORT, SECURE_TUNNEL_PORT),
      );
  }
}

/** A chain, and where it was found. */
interface FoundChain {
  readonly proxies: ProxyChain;
  readonly source?: string;
}

/** Unless the user has forced a proxy, the direct way comes last: a laptop may have left the network of the proxy. */
function chainsOf({ chains, source, isForced }: ProxyChoice = NO_PROXY_SET): FoundChain[] {
  const all = isForced || chains.some(isDirect) ? chains : [...chains, []];
  return all.map((proxies) => (isDirect(proxies) ? { proxies } : { proxies, source }));
}

function isDirect(chain: ProxyChain): boolean {
  return chain.length === 0;
}

function isHttp(proxy: ProxyServer | undefined): boolean {
  return proxy?.kind === "http" || proxy?.kind === "https";
}
