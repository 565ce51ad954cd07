/** The networks, one row each: what it is made of, what gets through it, and what stops the rest. */
import type { Status, TransportName } from "../../src/device/index.ts";
import {
  dante,
  debianSquid,
  haproxy,
  inspector,
  ipv6Only,
  microsocks,
  microsocksPassword,
  nat64,
  nginx,
  scripted,
  slowLine,
  squid,
  squidPassword,
  tinyproxy,
  USERINFO,
} from "./boxes.ts";
import type { CurlResult } from "./curl.ts";
import type { Network, Scheme } from "./internet.ts";
import { NEEDS, type Need } from "./needs.ts";
import type { ConnectArgument } from "./peer.ts";

/** A request by curl from the site, which shows that the network is what it is meant to be. */
export interface Control {
  /** Arguments of curl. */
  readonly args: readonly string[];
  readonly result: CurlResult;
}

/** What a device says when a transport is stopped; `Silence` if it says nothing while it is waited for. */
export type Stop = "Silence" | "ConnectFailed" | "CertificateRefused" | "TlsFailed" | "NotAnEdge" | "Refused";

export interface Row {
  readonly name: string;
  /** Runs with every `npm test`, with little data. The others run when they are asked for. */
  readonly quick?: true;
  /** What the machine must have; nothing else but root and iproute2 is needed. */
  readonly needs?: readonly Need[];
  readonly build: (net: Network) => Promise<void> | void;
  readonly control: readonly Control[];
  /** How the edge's URL begins. */
  readonly scheme: Scheme;
  /** The transports that get through, each used for the whole exchange. */
  readonly works: readonly TransportName[];
  /** The transports that do not, and how the device reports it. */
  readonly stopped?: Readonly<Partial<Record<TransportName, Stop>>>;
  /** What the doctor says about those that are stopped, if not `blocked`. */
  readonly described?: Readonly<Partial<Record<TransportName, Status>>>;
  /** The proxy that the site has to use; then `works` is what gets through it, and nothing does without it. */
  readonly proxy?: (net: Network) => string;
  /** Those of `works` that need longer for the first message than a device may take to find its way. */
  readonly slow?: readonly TransportName[];
  /** Messages go on for this long, one each way every so many seconds, because connections that last or rest end. */
  readonly stay?: { readonly seconds: number; readonly every: number };
  /** So little gets through in time that a large file is out of the question. */
  readonly thin?: true;
  /** The transports whose connections end meanwhile; those of the others do not. */
  readonly loses?: readonly TransportName[];
  /** Those whose connections may end or not, since they ask for a sign of life at about the time of the cut. */
  readonly mayLose?: readonly TransportName[];
}

/** A transport, or undefined for what the device finds. */
export type Way = TransportName | undefined;

/** The options by which a device uses a way: TCP goes to the relay itself. */
export function optionsOf(net: Network, row: Row, way: Way, address: string): ConnectArgument["options"] {
  if (way === "tcp") return { address, transport: way, relay: "relay.test" };
  return {
    address,
    edge: `${row.scheme}://edge.test`,
    ...(way !== undefined && { transport: way }),
    ...(row.scheme === "https" ? { ca: net.authority } : { allowPlain: true }),
  };
}

const HTTP_WAYS = ["websocket", "longlived", "keepalive", "polling"] as const;
const ALL = ["tcp", ...HTTP_WAYS] as const;

const ask = (url: string, result: CurlResult, ...args: readonly string[]): Control => ({
  args: [...args, url],
  result,
});
const EDGE = "https://edge.test/health";
const PLAIN = "http://edge.test/health";
/** What listens there says nothing to HTTP, but it accepts the connection. */
const RELAY = "http://relay.test:2492/";

/** What comes of TLS whose certificate nobody trusts. */
const DISTRUSTED = {
  stopped: {
    websocket: "CertificateRefused",
    longlived: "CertificateRefused",
    keepalive: "CertificateRefused",
    polling: "CertificateRefused",
  },
  described: { websocket: "inspected", longlived: "inspected", keepalive: "inspected", polling: "inspected" },
} as const;

/** An address from which nothing comes back. */
const SWALLOWED = "10.230.0.1";

/** A proxy between site and internet: the controls are with it, without it, and without its password if it has one. */
function proxied(
  name: string,
  needs: Need,
  build: Row["build"],
  {
    scheme,
    port,
    password,
    control = [],
  }: {
    readonly scheme: "http" | "socks5h";
    readonly port: number;
    /** The option of curl for the scheme of the password. */
    readonly password?: "--proxy-basic" | "--proxy-digest" | "--proxy-ntlm" | "--socks5-basic";
    readonly control?: readonly Control[];
  },
): Row {
  const url = (net: Network, user = "") => `${scheme}://${user}${net.inside.ipv4}:${port}`;
  const through = (result: CurlResult, user: string, ...args: readonly string[]): Control =>
    ask(EDGE, result, ...args, "--proxy", `${scheme}://${user}router.test:${port}`);
  return {
    name,
    needs: [needs],
    build,
    scheme: "https",
    works: HTTP_WAYS,
    proxy: (net) => url(net, password === undefined ? "" : `${USERINFO}@`),
    control: [
      ask(EDGE, "name unknown"),
      ...(password === undefined
        ? [through(200, "")]
        : [through(200, `${USERINFO}@`, password), through("proxy refuses", "")]),
      ...control,
    ],
  };
}

export const NETWORKS: readonly Row[] = [
  {
    name: "open",
    quick: true,
    build: (net) => net.letOut(),
    control: [ask(EDGE, 200), ask(PLAIN, 200), ask(RELAY, "cut")],
    scheme: "https",
    works: ALL,
  },
  {
    name: "only 443 and 80 out",
    quick: true,
    build: (net) => net.letOut([443, 80]),
    control: [ask(EDGE, 200), ask(PLAIN, 200), ask(RELAY, "lost")],
    scheme: "https",
    works: HTTP_WAYS,
    stopped: { tcp: "Silence" },
  },
  {
    name: "only 80 out",
    build: (net) => net.letOut([80]),
    control: [ask(EDGE, "lost"), ask(PLAIN, 200), ask(RELAY, "lost")],
    scheme: "http",
    works: HTTP_WAYS,
    stopped: { tcp: "Silence" },
  },
  {
    name: "an address that swallows packets beside one that works",
    build: (net) => {
      net.letOut();
      net.router.route("add", "blackhole", SWALLOWED);
      net.names(SWALLOWED, net.outside.ipv4);
    },
    // curl takes the next address when the first has used up half of its time.
    control: [ask(PLAIN, 200, "--connect-timeout", "3"), ask(PLAIN, "lost", "--resolve", `edge.test:80:${SWALLOWED}`)],
    scheme: "http",
    works: ALL,
  },
  {
    name: "IPv6 only",
    quick: true,
    build: ipv6Only,
    control: [ask(EDGE, 200), ask(EDGE, "refused", "--resolve", "edge.test:443:10.220.1.2")],
    scheme: "https",
    works: ALL,
  },
  {
    name: "a login page that redirects",
    quick: true,
    build: (net) => scripted(net, "portal-redirect"),
    control: [ask(PLAIN, 302), ask(EDGE, "distrusted")],
    scheme: "http",
    works: [],
    stopped: {
      tcp: "ConnectFailed",
      websocket: "NotAnEdge",
      longlived: "NotAnEdge",
      keepalive: "NotAnEdge",
      polling: "NotAnEdge",
    },
  },
  {
    name: "a login page in the place of every answer, over TLS",
    build: (net) => scripted(net, "portal-page"),
    control: [ask(PLAIN, 200), ask(EDGE, "distrusted")],
    scheme: "https",
    works: [],
    ...DISTRUSTED,
  },
  {
    name: "a redirect in answer to an Upgrade",
    quick: true,
    build: (net) => scripted(net, "redirect-upgrade"),
    control: [ask(PLAIN, 200), ask(PLAIN, 302, "-H", "Connection: Upgrade", "-H", "Upgrade: websocket")],
    scheme: "http",
    works: ["longlived", "keepalive", "polling"],
    stopped: { tcp: "ConnectFailed", websocket: "NotAnEdge" },
  },
  {
    name: "a page in answer to an Upgrade",
    build: (net) => scripted(net, "page-for-upgrade"),
    control: [ask(PLAIN, 200), ask(PLAIN, 200, "-H", "Connection: Upgrade", "-H", "Upgrade: websocket")],
    scheme: "http",
    works: ["longlived", "keepalive"],
    stopped: { websocket: "NotAnEdge" },
  },
  {
    name: "only the path / is allowed",
    build: (net) => scripted(net, "only-root"),
    control: [ask("http://edge.test/", 200), ask(PLAIN, 403)],
    scheme: "http",
    works: ["polling"],
    stopped: { websocket: "NotAnEdge", longlived: "NotAnEdge", keepalive: "NotAnEdge" },
  },
  {
    name: "GET goes through, POST is held",
    build: (net) => scripted(net, "hold-post"),
    control: [ask(PLAIN, 200), ask(PLAIN, "lost", "--data", "x")],
    scheme: "http",
    works: ["websocket"],
    stopped: { longlived: "Silence", keepalive: "Silence", polling: "Silence" },
  },
  {
    name: "unknown headers are removed",
    build: (net) => scripted(net, "strip-headers"),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: HTTP_WAYS,
  },
  {
    name: "headers are added",
    build: (net) => scripted(net, "add-headers"),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: HTTP_WAYS,
  },
  {
    name: "HTTP/1.0 with Connection: close",
    build: (net) => scripted(net, "http-1.0"),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: ["longlived", "keepalive", "polling"],
    stopped: { websocket: "Refused" },
  },
  {
    name: "every connection is cut after 20 s",
    build: (net) => scripted(net, "cut"),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: ALL,
    stay: { seconds: 45, every: 1 },
    // A poll is over before, and KeepAlive sends again what a connection has not carried, unless its answer had begun.
    loses: ["tcp", "websocket", "longlived"],
    mayLose: ["keepalive"],
  },
  {
    name: "the first SYN is lost",
    needs: [NEEDS.nft],
    build: (net) => {
      net.letOut();
      net.filter(`set seen { type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout; timeout 60s; size 65535; }
chain first {
type filter hook forward priority 0;
tcp flags & (syn|ack) == syn ip saddr . tcp sport . ip daddr . tcp dport != @seen add @seen { ip saddr . tcp sport . ip daddr . tcp dport } drop
}`);
    },
    control: [ask(PLAIN, 200), ask(PLAIN, "lost", "--connect-timeout", "0.5")],
    scheme: "http",
    works: ALL,
    // Each poll is a connection of its own, and pays the second that a lost SYN costs.
    slow: ["polling"],
  },
  {
    name: "300 ms of delay, and one packet of fifty lost",
    needs: [NEEDS.socat],
    build: slowLine,
    control: [ask(PLAIN, 200, "--max-time", "10"), ask(PLAIN, "lost", "--max-time", "0.5")],
    scheme: "http",
    works: ALL,
    thin: true,
  },
  {
    name: "IPv6 only, with NAT64",
    needs: [NEEDS.tayga],
    build: nat64,
    control: [ask(EDGE, 200), ask(EDGE, "refused", "--resolve", "edge.test:443:10.220.1.2")],
    scheme: "https",
    works: ALL,
  },
  {
    name: "TLS is inspected, by an authority that the device trusts",
    build: (net) => inspector(net, true),
    control: [ask(EDGE, "distrusted"), ask(EDGE, 200, "--cacert", "inspector.pem")],
    scheme: "https",
    works: HTTP_WAYS,
  },
  {
    name: "TLS is inspected, by an authority that nobody trusts",
    build: (net) => inspector(net, false),
    control: [ask(EDGE, "distrusted"), ask(EDGE, 200, "--cacert", "inspector.pem")],
    scheme: "https",
    works: [],
    ...DISTRUSTED,
  },
  {
    name: "nginx as it is",
    needs: [NEEDS.nginx],
    build: (net) => nginx(net),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: ["keepalive", "polling"],
    stopped: { tcp: "ConnectFailed", websocket: "Refused", longlived: "NotAnEdge" },
  },
  {
    name: "nginx with any length of bodies, and buffers",
    needs: [NEEDS.nginx],
    build: (net) => nginx(net, "client_max_body_size 0;", "proxy_request_buffering on;", "proxy_buffering on;"),
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: ["keepalive", "polling"],
    stopped: { longlived: "Silence" },
    described: { longlived: "buffered" },
  },
  {
    name: "haproxy with time-outs of 10 s",
    needs: [NEEDS.haproxy],
    build: haproxy,
    control: [ask(PLAIN, 200)],
    scheme: "http",
    works: HTTP_WAYS,
    stay: { seconds: 26, every: 13 },
    loses: ["longlived", "keepalive"],
    mayLose: ["websocket"],
  },
  proxied("squid", NEEDS.squid, (net) => squid(net, "http_access allow all"), { scheme: "http", port: 3128 }),
  proxied("Debian's own squid.conf", NEEDS.squid, debianSquid, {
    scheme: "http",
    port: 3128,
    control: [ask("https://edge.test:2492/", "proxy refuses", "--proxy", "http://router.test:3128")],
  }),
  proxied("squid with Basic", NEEDS.squid, (net) => squid(net, ...squidPassword(net, "basic")), {
    scheme: "http",
    port: 3128,
    password: "--proxy-basic",
  }),
  proxied("squid with Digest", NEEDS.squid, (net) => squid(net, ...squidPassword(net, "digest")), {
    scheme: "http",
    port: 3128,
    password: "--proxy-digest",
  }),
  proxied("squid with NTLM", NEEDS.squid, (net) => squid(net, ...squidPassword(net, "ntlm")), {
    scheme: "http",
    port: 3128,
    password: "--proxy-ntlm",
  }),
  {
    name: "squid that forbids CONNECT",
    needs: [NEEDS.squid],
    build: (net) => squid(net, "acl tunnels method CONNECT", "http_access deny tunnels", "http_access allow all"),
    control: [
      ask(PLAIN, "name unknown"),
      ask(PLAIN, 200, "--proxy", "http://router.test:3128"),
      ask(EDGE, "proxy refuses", "--proxy", "http://router.test:3128"),
    ],
    scheme: "http",
    works: ["longlived", "keepalive", "polling"],
    proxy: (net) => `http://${net.inside.ipv4}:3128`,
  },
  {
    name: "squid that takes bodies up to 1 MB",
    needs: [NEEDS.squid],
    build: (net) =>
      squid(
        net,
        "acl tunnels method CONNECT",
        "http_access deny tunnels",
        "http_access allow all",
        "request_body_max_size 1 MB",
      ),
    control: [
      ask(PLAIN, 200, "--proxy", "http://router.test:3128"),
      ask(PLAIN, 413, "--proxy", "http://router.test:3128", "--header", "Content-Length: 67108864", "--data", "x"),
    ],
    scheme: "http",
    works: ["keepalive", "polling"],
    stopped: { longlived: "NotAnEdge" },
    proxy: (net) => `http://${net.inside.ipv4}:3128`,
  },
  {
    name: "a PAC file that sends the edge's name to a proxy, and all else nowhere",
    needs: [NEEDS.squid],
    build: async (net) => {
      await squid(net, "http_access allow all");
      const script = `function FindProxyForURL(url, host) {
        return host === "edge.test" ? "PROXY ${net.inside.ipv4}:3128" : "PROXY 127.0.0.1:9";
      }`;
      net.internet.file(`proxy-${net.number}.pac`, script);
    },
    control: [ask(EDGE, "name unknown"), ask(EDGE, 200, "--proxy", "http://router.test:3128")],
    scheme: "https",
    works: HTTP_WAYS,
    proxy: (net) => `pac+file://${net.internet.folder}/proxy-${net.number}.pac`,
  },
  proxied("tinyproxy", NEEDS.tinyproxy, tinyproxy, {
    scheme: "http",
    port: 8888,
    control: [ask("https://edge.test:2492/", "proxy refuses", "--proxy", "http://router.test:8888")],
  }),
  {
    name: "tinyproxy, without TLS: it closes each connection after an answer, and does not say so",
    needs: [NEEDS.tinyproxy],
    build: tinyproxy,
    control: [
      ask(PLAIN, "name unknown"),
      ask(PLAIN, 200, "--proxy", "http://router.test:8888"),
      ask(PLAIN, "proxy refuses", "--proxy", "http://router.test:8888", "--proxytunnel"),
    ],
    scheme: "http",
    works: ["longlived", "keepalive", "polling"],
    proxy: (net) => `http://${net.inside.ipv4}:8888`,
  },
  proxied("microsocks", NEEDS.microsocks, microsocks, { scheme: "socks5h", port: 1080 }),
  proxied("microsocks with a password", NEEDS.microsocks, microsocksPassword, {
    scheme: "socks5h",
    port: 1080,
    password: "--socks5-basic",
  }),
  proxied("dante with a password", NEEDS.dante, dante, {
    scheme: "socks5h",
    port: 1080,
    password: "--socks5-basic",
  }),
];
