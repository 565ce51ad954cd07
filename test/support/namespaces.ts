/**
 * A network of three machines in Linux namespaces: a client, a router and a server. A test sets what the router does to
 * packets.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { platform } from "node:os";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { Watch } from "./watch.ts";

/** Why such a network is not possible here; undefined if it is. */
export function whyNoNamespaces(): string | undefined {
  if (platform() !== "linux") return "only Linux has network namespaces";
  if (process.getuid?.() !== 0) return "making a network namespace takes root";
  try {
    const name = `gw-${process.pid}-try`;
    ip("netns", "add", name);
    ip("netns", "delete", name);
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made: ${(error as Error).message.trim().split("\n").at(-1)}`;
  }
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: "pipe" });
}

/** A program in a namespace, and its output lines. */
export interface Program {
  readonly process: ChildProcess;
  readonly lines: readonly string[];
  /** Resolves with the first line that matches. */
  line(pattern: RegExp): Promise<string>;
}

/** Addresses of the server: two IPv4 and one IPv6. */
export const SERVER = { first: "10.202.2.2", second: "10.202.2.3", ipv6: "fd00:202:2::2" } as const;

export class RoutedNetwork {
  readonly #client: string;
  readonly #router: string;
  readonly #server: string;
  readonly #context: TestContext;

  constructor(context: TestContext) {
    this.#context = context;
    const name = `gw-${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
    this.#client = `${name}-c`;
    this.#router = `${name}-r`;
    this.#server = `${name}-s`;
    const all = [this.#client, this.#router, this.#server];
    context.after(() => {
      for (const namespace of all) if (existsSync(`/run/netns/${namespace}`)) ip("netns", "delete", namespace);
    });
    for (const namespace of all) {
      ip("netns", "add", namespace);
      ip("-n", namespace, "link", "set", "lo", "up");
    }
    this.#link(this.#client, "10.202.1.2/24", "fd00:202:1::2/64", "left", "10.202.1.1/24", "fd00:202:1::1/64");
    this.#link(this.#server, `${SERVER.first}/24`, `${SERVER.ipv6}/64`, "right", "10.202.2.1/24", "fd00:202:2::1/64");
    ip("-n", this.#server, "address", "add", `${SERVER.second}/24`, "dev", "wire");
    for (const setting of ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]) {
      ip("netns", "exec", this.#router, "sh", "-c", `echo 1 > /proc/sys/${setting}`);
    }
    ip("-n", this.#client, "route", "add", "default", "via", "10.202.1.1");
    ip("-n", this.#client, "-6", "route", "add", "default", "via", "fd00:202:1::1");
    ip("-n", this.#server, "route", "add", "default", "via", "10.202.2.1");
    ip("-n", this.#server, "-6", "route", "add", "default", "via", "fd00:202:2::1");
  }

  #link(end: string, ipv4: string, ipv6: string, device: string, routerIPv4: string, routerIPv6: string): void {
    ip("-n", end, "link", "add", "wire", "type", "veth", "peer", "name", device, "netns", this.#router);
    for (const [namespace, name, ...addresses] of [
      [end, "wire", ipv4, ipv6],
      [this.#router, device, routerIPv4, routerIPv6],
    ] as const) {
      for (const address of addresses) {
        const atOnce = address.includes(":") ? ["nodad"] : [];
        ip("-n", namespace, "address", "add", address, "dev", name, ...atOnce);
      }
      ip("-n", namespace, "link", "set", name, "up");
    }
  }

  /** Packets to an address of the server are silently dropped until it is `found` again. */
  lose(address: string): void {
    ip("-n", this.#router, ...familyOf(address), "route", "add", "blackhole", address);
  }

  find(address: string): void {
    ip("-n", this.#router, ...familyOf(address), "route", "delete", "blackhole", address);
  }

  /** The router's links drop larger packets without an ICMP message. */
  narrow(mtu: number): void {
    for (const device of ["left", "right"]) ip("-n", this.#router, "link", "set", device, "mtu", String(mtu));
    ip("-n", this.#router, "rule", "add", "ipproto", "icmp", "priority", "1", "blackhole");
    ip("-n", this.#router, "-6", "rule", "add", "ipproto", "ipv6-icmp", "priority", "1", "blackhole");
  }

  inClient(program: URL, ...args: string[]): Program {
    return this.#run(this.#client, program, args);
  }

  inServer(program: URL, ...args: string[]): Program {
    return this.#run(this.#server, program, args);
  }

  #run(namespace: string, program: URL, args: readonly string[]): Program {
    const node = [process.execPath, "--disable-warning=ExperimentalWarning", program.pathname, ...args];
    const child = spawn("ip", ["netns", "exec", namespace, ...node], { stdio: ["ignore", "pipe", "inherit"] });
    this.#context.after(() => child.kill("SIGKILL"));
    const lines: string[] = [];
    const watch = new Watch();
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      watch.changed();
    });
    return {
      process: child,
      lines,
      line: (pattern) => watch.until(() => lines.find((line) => pattern.test(line)), String(pattern)),
    };
  }
}

function familyOf(address: string): string[] {
  return address.includes(":") ? ["-6"] : [];
}
