/**
 * The machines around a network under test: the site, where the device is, its router, where the obstacles are, and the
 * internet, where edges, relay and a far device are.
 *
 *   site 10.210.N.2 ── inside ─ router ─ outside ── 10.220.N.2 internet
 *        fd00:210:N::2                              fd00:220:N::2
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { authority, type Certificates } from "../support/certificates.ts";
import { cable, type Namespace, Namespaces, type Program } from "../support/namespaces.ts";
import { Child } from "../support/rpc.ts";

/** The command `grooveway`, to be run by Node. */
export const COMMAND = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));
const PEER = new URL("peer.ts", import.meta.url);

/** Runs a command without the proxies of this machine, which devices must not find. */
export const WITHOUT_PROXIES = [
  "env",
  ...["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => ["-u", name, "-u", name.toLowerCase()]),
] as const;

/** What the device may be told to connect to. */
export type Scheme = "http" | "https";

/** What is outside: one edge for each scheme, one relay, and devices. All networks of a test share it. */
export class Internet {
  readonly folder = mkdtempSync(join(tmpdir(), "grooveway-networks-"));
  readonly certificates: Certificates = authority(["DNS:edge.test", "DNS:relay.test"]);
  readonly #namespaces = new Namespaces();
  readonly machine: Namespace = this.#namespaces.add("net");
  readonly #servers = new Map<string, Promise<Program>>();
  readonly #peers: Child[] = [];
  readonly #networks: Network[] = [];
  #far: Child | undefined;

  constructor() {
    // Some proxies run as users of their own.
    chmodSync(this.folder, 0o755);
    this.machine.setting("hosts", "127.0.0.1 localhost edge.test relay.test\n::1 localhost\n");
    this.file("ca.pem", this.certificates.ca);
    this.file("key.pem", this.certificates.key);
    this.file("cert.pem", this.certificates.cert);
  }

  /** Writes a file that programs of any user can read, and returns its path. */
  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text, { mode: 0o644 });
    return path;
  }

  /** Starts the edge that is reached by this scheme, on its standard port, unless it runs. */
  async edge(scheme: Scheme): Promise<void> {
    const tls = ["--tls-key", join(this.folder, "key.pem"), "--tls-cert", join(this.folder, "cert.pem")];
    const way = scheme === "https" ? ["--port", "443", ...tls] : ["--port", "80"];
    await this.#serve(["edge", "--dev", "--host", "::", "--name", "edge.test", ...way]);
  }

  /** Starts the relay on its standard port, unless it runs. */
  async relay(): Promise<void> {
    await this.#serve(["relay", "--host", "::", "--name", "relay.test"]);
  }

  /** Serves HTTPS for the edge that is reached by HTTP: both are one edge then, with one mailbox for a device. */
  async tlsBeforeEdge(): Promise<void> {
    const box = new URL("middlebox.ts", import.meta.url);
    const paths = ["key.pem", "cert.pem"].map((name) => join(this.folder, name));
    await this.machine.node(box, "tls", "127.0.0.1", ...paths).line(/listening/);
  }

  async #serve(args: readonly string[]): Promise<void> {
    const key = args.join(" ");
    const starting =
      this.#servers.get(key) ??
      (async () => {
        const program = this.machine.start([process.execPath, COMMAND, ...args, "--json"]);
        await program.line(/"listening"/);
        return program;
      })();
    this.#servers.set(key, starting);
    await starting;
  }

  /** Devices on the internet itself. */
  get far(): Child {
    this.#far ??= this.#peer(this.machine);
    return this.#far;
  }

  #peer(machine: Namespace): Child {
    const peer = new Child(PEER, (...command) => machine.command(...WITHOUT_PROXIES, ...command));
    this.#peers.push(peer);
    return peer;
  }

  /** A new network, sealed: the site reaches its router and nothing else. */
  network(): Network {
    const network = new Network(this, this.#namespaces, this.machine, this.#networks.length + 1, (machine) =>
      this.#peer(machine),
    );
    this.#networks.push(network);
    return network;
  }

  async close(): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.end()));
    await this.#namespaces.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A site, its router, and what lies between it and the internet. */
export class Network {
  readonly internet: Internet;
  readonly site: Namespace;
  readonly router: Namespace;
  /** Addresses of the site itself. */
  readonly address: { readonly ipv4: string; readonly ipv6: string };
  /** Addresses of the router as the site sees it. */
  readonly inside: { readonly ipv4: string; readonly ipv6: string };
  /** Addresses of the internet, with everything on it, as the router sees them. */
  readonly outside: { readonly ipv4: string; readonly ipv6: string };
  /** The authority that devices at the site trust, in PEM. */
  authority: string;
  /** Distinguishes what belongs to this network, such as the addresses of its devices. */
  readonly number: number;
  readonly #open: (machine: Namespace) => Child;
  #near: Child | undefined;

  constructor(
    internet: Internet,
    namespaces: Namespaces,
    machine: Namespace,
    number: number,
    open: (machine: Namespace) => Child,
  ) {
    this.internet = internet;
    this.authority = internet.certificates.ca;
    this.number = number;
    this.#open = open;
    this.site = namespaces.add(`s${number}`);
    this.router = namespaces.add(`r${number}`);
    this.address = { ipv4: `10.210.${number}.2`, ipv6: `fd00:210:${number}::2` };
    this.inside = { ipv4: `10.210.${number}.1`, ipv6: `fd00:210:${number}::1` };
    this.outside = { ipv4: `10.220.${number}.2`, ipv6: `fd00:220:${number}::2` };
    cable(
      { on: this.site, device: "inside", addresses: [`${this.address.ipv4}/24`, `${this.address.ipv6}/64`] },
      { on: this.router, device: "inside", addresses: [`${this.inside.ipv4}/24`, `${this.inside.ipv6}/64`] },
    );
    const outside = `out${number}`;
    cable(
      { on: this.router, device: "outside", addresses: [`10.220.${number}.1/24`, `fd00:220:${number}::1/64`] },
      { on: machine, device: outside, addresses: [`${this.outside.ipv4}/24`, `${this.outside.ipv6}/64`] },
    );
    machine.route("add", `10.210.${number}.0/24`, "via", `10.220.${number}.1`);
    machine.route("add", `fd00:210:${number}::/64`, "via", `fd00:220:${number}::1`);
    this.router.setting("hosts", `127.0.0.1 localhost\n${this.outside.ipv4} edge.test relay.test\n`);
    this.names(this.outside.ipv4);
    // Nothing answers there: names that are not in the file fail at once.
    this.site.setting("resolv.conf", "nameserver 127.0.0.1\n");
  }

  /** The addresses that the site finds for edge and relay; without any it has to leave names to its proxy. */
  names(...addresses: readonly string[]): void {
    const lines = addresses.map((address) => `${address} edge.test relay.test\n`);
    const always = `127.0.0.1 localhost\n${this.address.ipv4} site.test\n${this.inside.ipv4} router.test\n`;
    this.site.setting("hosts", always + lines.join(""));
  }

  /** Lets packets out: to some TCP ports, or any. What is not let out disappears. */
  letOut(ports?: readonly number[]): void {
    this.router.forward();
    this.site.route("add", "default", "via", this.inside.ipv4);
    this.site.route("add", "default", "via", this.inside.ipv6);
    if (ports === undefined) return;
    for (const family of ["-4", "-6"]) {
      const rule = (...args: readonly string[]) => this.router.ip(family, "rule", "add", "iif", "inside", ...args);
      for (const port of ports) rule("ipproto", "tcp", "dport", String(port), "priority", "10", "lookup", "main");
      rule("priority", "20", "blackhole");
    }
  }

  /** Sets the packet filter of the router in place of what it was, in the words of `nft` within a table. */
  filter(...chains: readonly string[]): void {
    const text = `table inet box\ndelete table inet box\ntable inet box {\n${chains.join("\n")}\n}\n`;
    const path = this.internet.file(`nft-${this.number}`, text);
    this.router.run("nft", "-f", path);
  }

  /** Devices at the site. */
  get near(): Child {
    this.#near ??= this.open();
    return this.#near;
  }

  /** Devices at the site, in one more process. */
  open(): Child {
    return this.#open(this.site);
  }
}
