/** The boxes that stand in a network's router: proxies of Debian, as they are or configured, and scripted ones. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { authority, selfSigned } from "../support/certificates.ts";
import type { Namespace } from "../support/namespaces.ts";
import { eventually } from "../support/watch.ts";
import type { Network } from "./internet.ts";
import { NEEDS } from "./needs.ts";

/** The password of all proxies. It has what a URL must escape. */
export const CREDENTIALS = { user: "alice", password: "p@ss/w%rd" } as const;

/** User and password as they are written in a URL. */
export const USERINFO = `${CREDENTIALS.user}:${encodeURIComponent(CREDENTIALS.password)}`;

/** A scripted box in the place of the edge: see middlebox.ts for the kinds. */
export async function scripted(net: Network, kind: string): Promise<void> {
  const { key, cert } = selfSigned("portal.test", 2);
  await startScripted(net, kind, key, cert);
}

async function startScripted(net: Network, kind: string, key: string, cert: string): Promise<void> {
  net.names(net.inside.ipv4);
  const paths = [net.internet.file(`box-${net.number}.key`, key), net.internet.file(`box-${net.number}.pem`, cert)];
  await net.router.node(new URL("middlebox.ts", import.meta.url), kind, net.outside.ipv4, ...paths).line(/listening/);
}

/** A scripted box on the router's port 80 that lets no Upgrade through, for what a filter sends there. */
export async function boxWithoutUpgrade(net: Network): Promise<void> {
  await net.router
    .node(new URL("middlebox.ts", import.meta.url), "redirect-upgrade", net.outside.ipv4)
    .line(/listening/);
}

/** A forward proxy: the site reaches nothing but it, by the router's address, and leaves names to it. */
async function proxy(net: Network, port: number, command: readonly string[]): Promise<void> {
  net.names();
  net.router.start(command, { all: true });
  await net.router.listening(port);
}

/** Squid on 3128. */
export async function squid(net: Network, ...rules: readonly string[]): Promise<void> {
  await startSquid(net, ["http_port 3128", ...rules, "http_access deny all", "access_log none", "cache deny all"]);
}

/** Debian's own squid.conf, in which the administrator has allowed the local networks, as its comment says. */
export async function debianSquid(net: Network): Promise<void> {
  const own = readFileSync("/etc/squid/squid.conf", "utf8").split("\n");
  const lines = own.map((line) =>
    line.startsWith("include /etc/squid/conf.d/") ? "http_access allow localnet" : line,
  );
  await startSquid(net, lines);
}

async function startSquid(net: Network, lines: readonly string[]): Promise<void> {
  // Another squid of this machine has the usual files; and an end of 30 s for open connections would be a long wait.
  const ours = ["pid_filename none", "cache_log /dev/null", "shutdown_lifetime 0 seconds", "netdb_filename none"];
  const path = net.internet.file(`squid-${net.number}.conf`, `${[...lines, ...ours].join("\n")}\n`);
  await proxy(net, 3128, [NEEDS.squid.program, "-N", "-f", path]);
}

/** The rules of squid that ask for a password. */
export function squidPassword(net: Network, scheme: "basic" | "digest" | "ntlm"): string[] {
  const { user, password } = CREDENTIALS;
  const realm = "box";
  const helpers = "/usr/lib/squid";
  switch (scheme) {
    case "basic": {
      const hash = execFileSync("openssl", ["passwd", "-apr1", password], { encoding: "utf8" }).trim();
      const file = net.internet.file(`basic-${net.number}`, `${user}:${hash}\n`);
      return rules("basic", [`program ${helpers}/basic_ncsa_auth ${file}`, `realm ${realm}`]);
    }
    case "digest": {
      const file = net.internet.file(`digest-${net.number}`, `${user}:${password}\n`);
      return rules("digest", [`program ${helpers}/digest_file_auth ${file}`, `realm ${realm}`]);
    }
    case "ntlm":
      // It takes every password, and checks the three legs.
      return rules("ntlm", [`program ${helpers}/ntlm_fake_auth`]);
  }
}

function rules(scheme: string, params: readonly string[]): string[] {
  const lines = params.map((param) => `auth_param ${scheme} ${param}`);
  return [...lines, "acl known proxy_auth REQUIRED", "http_access allow known"];
}

/** Tinyproxy on 8888, which asks for no password. */
export async function tinyproxy(net: Network): Promise<void> {
  const path = net.internet.file(
    `tinyproxy-${net.number}.conf`,
    "Port 8888\nListen 0.0.0.0\nTimeout 600\nMaxClients 100\nAllow 10.0.0.0/8\nConnectPort 443\n",
  );
  await proxy(net, 8888, [NEEDS.tinyproxy.program, "-d", "-c", path]);
}

/** Microsocks on 1080, without a password. */
export async function microsocks(net: Network): Promise<void> {
  await proxy(net, 1080, [NEEDS.microsocks.program, "-i", "0.0.0.0", "-p", "1080"]);
}

/** Microsocks on 1080, with user and password. */
export async function microsocksPassword(net: Network): Promise<void> {
  const { user, password } = CREDENTIALS;
  const args = ["-i", "0.0.0.0", "-p", "1080", "-u", user, "-P", password];
  await proxy(net, 1080, [NEEDS.microsocks.program, ...args]);
}

/** Dante on 1080. It asks the machine for the passwords of its users, so the router has a user. */
export async function dante(net: Network): Promise<void> {
  const { user, password } = CREDENTIALS;
  const hash = execFileSync("openssl", ["passwd", "-6", password], { encoding: "utf8" }).trim();
  net.router.setting("passwd", `${readFileSync("/etc/passwd", "utf8")}${user}:x:4711:4711::/:/usr/sbin/nologin\n`);
  net.router.setting("shadow", `root:*:1::::::\n${user}:${hash}:1::::::\n`);
  const any = "from: 0.0.0.0/0 to: 0.0.0.0/0";
  const path = net.internet.file(
    `danted-${net.number}.conf`,
    `logoutput: stderr
internal: ${net.inside.ipv4} port = 1080
external: outside
socksmethod: username
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { ${any} }
socks pass { ${any} }
`,
  );
  await proxy(net, 1080, [NEEDS.dante.program, "-f", path]);
}

/** A reverse proxy in the place of the edge, on 80. */
async function front(net: Network, command: readonly string[]): Promise<void> {
  net.names(net.inside.ipv4);
  net.router.start(command, { all: true });
  await net.router.listening(80);
}

/** nginx as a reverse proxy with nothing set but where the edge is, and some more settings of its server if given. */
export async function nginx(net: Network, ...settings: readonly string[]): Promise<void> {
  const { folder } = net.internet;
  const path = net.internet.file(
    `nginx-${net.number}.conf`,
    `daemon off; user root; pid ${folder}/nginx-${net.number}.pid; error_log stderr; events {}
     http {
       access_log off;
       client_body_temp_path ${folder}/nginx-body-${net.number}; proxy_temp_path ${folder}/nginx-proxy-${net.number};
       server { listen 80; ${settings.join(" ")} location / { proxy_pass http://${net.outside.ipv4}; } }
     }`,
  );
  await front(net, [NEEDS.nginx.program, "-c", path, "-e", "stderr"]);
}

/** haproxy as a reverse proxy, with the time-outs that its own examples have. */
export async function haproxy(net: Network): Promise<void> {
  const path = net.internet.file(
    `haproxy-${net.number}.cfg`,
    `defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
listen edge
  bind :::80 v4v6
  server edge ${net.outside.ipv4}:80
`,
  );
  await front(net, [NEEDS.haproxy.program, "-f", path]);
}

/** Inspects TLS with an authority of its own, which is in inspector.pem; the site trusts it if `trusted`. */
export async function inspector(net: Network, trusted: boolean): Promise<void> {
  const { ca, key, cert } = authority(["DNS:edge.test"]);
  net.internet.file("inspector.pem", ca);
  if (trusted) net.authority = ca;
  await startScripted(net, "inspect", key, cert);
}

/** Delay and loss between router and internet: see slow-line.ts. */
export async function slowLine(net: Network): Promise<void> {
  const { router, internet, number } = net;
  const [near, far] = [`10.240.${number}.1`, `10.240.${number}.2`];
  const [routerPort, internetPort, linePort] = [9001, 9002, 9000];
  // The line itself runs on the router; its other end reaches it by the cable. A datagram has room for 28 more bytes.
  const line = router.node(
    new URL("slow-line.ts", import.meta.url),
    String(linePort),
    `127.0.0.1:${routerPort}`,
    `${net.outside.ipv4}:${internetPort}`,
  );
  await line.line(/listening/);
  const end = (device: string, address: string, lineAddress: string, port: number) => [
    NEEDS.socat.program,
    `TUN:${address}/24,tun-name=${device},iff-no-pi,iff-up`,
    `UDP4:${lineAddress}:${linePort},sourceport=${port}`,
  ];
  const lineFromInternet = net.outside.ipv4.replace(/2$/, "1");
  router.start(end("slow", near, "127.0.0.1", routerPort), { all: true });
  internet.machine.start(end(`slow${number}`, far, lineFromInternet, internetPort), { all: true });
  await eventually(() => isThere(router, "slow") && isThere(internet.machine, `slow${number}`), "the ends of the line");
  router.ip("link", "set", "slow", "mtu", "1400");
  internet.machine.ip("link", "set", `slow${number}`, "mtu", "1400");
  internet.machine.run("ip", "route", "replace", `10.210.${number}.0/24`, "via", near);
  net.names(far);
  net.letOut();
}

function isThere(machine: Namespace, device: string): boolean {
  return machine.run("ip", "-brief", "address", "show").includes(`${device} `);
}

/** NAT64: the site has IPv6 only, the edge IPv4 only, and its name an address that the router translates. */
export function nat64(net: Network): void {
  const { router, internet, number } = net;
  ipv6Only(net);
  const prefix = `fd00:64:${number}::`;
  const pool = `192.168.${number}.0/24`;
  const path = internet.file(
    `tayga-${number}.conf`,
    `tun-device nat64
ipv4-addr 192.168.${number}.1
prefix ${prefix}/96
dynamic-pool ${pool}
`,
  );
  router.run(NEEDS.tayga.program, "-c", path, "--mktun");
  router.ip("link", "set", "nat64", "up");
  router.route("add", pool, "dev", "nat64");
  router.route("add", `${prefix}/96`, "dev", "nat64");
  internet.machine.route("add", pool, "via", net.outside.ipv4.replace(/2$/, "1"));
  router.start([NEEDS.tayga.program, "-c", path, "--nodetach"], { all: true });
  net.names(`${prefix}${net.outside.ipv4}`);
}

/** The site has no IPv4 address, and the edge's name none either. */
export function ipv6Only(net: Network): void {
  net.site.ip("address", "flush", "dev", "inside", "scope", "global");
  net.site.ip("address", "add", `${net.address.ipv6}/64`, "dev", "inside", "nodad");
  net.router.forward();
  net.site.route("add", "default", "via", net.inside.ipv6);
  net.names(net.outside.ipv6);
}
