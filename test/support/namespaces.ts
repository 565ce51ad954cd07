/**
 * Machines as Linux network namespaces, and a small network made of three of them.
 *
 * Their names contain the number of the process that made them, so what a killed process left behind is removed by the
 * next one.
 */
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { platform } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Watch } from "./watch.ts";

/** `ip netns` keeps the names of namespaces here, and reads files for their /etc there. */
const NAMES = "/run/netns";
const SETTINGS = "/etc/netns";

/** How long a program may take to end by itself, in milliseconds: workerd with its objects takes a second. */
const END_TIMEOUT = 10_000;

/** How a test process is asked to end before its time. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Ends the process in the way that removes its namespaces. */
function exit(): never {
  process.exit(1);
}

/** Why namespaces are not possible here; undefined if they are. */
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

function ip(...args: string[]): string {
  return execFileSync("ip", args, { stdio: "pipe", encoding: "utf8" });
}

/** A program in a namespace, and its output lines. */
export interface Program {
  readonly process: ChildProcess;
  readonly lines: readonly string[];
  /** Resolves with the first line that matches. */
  line(pattern: RegExp): Promise<string>;
}

/** One end of a cable: the machine, the name of its device, and its addresses with prefix lengths. */
export interface CableEnd {
  readonly on: Namespace;
  readonly device: string;
  readonly addresses: readonly string[];
}

/** One machine. */
export class Namespace {
  readonly name: string;
  readonly #programs: Program[] = [];

  constructor(name: string) {
    this.name = name;
    ip("netns", "add", name);
    this.ip("link", "set", "lo", "up");
  }

  /** Runs `ip` on its devices, routes and rules. */
  ip(...args: string[]): void {
    ip("-n", this.name, ...args);
  }

  /** Sets the routes for an address or prefix of either family. */
  route(action: "add" | "delete", ...args: readonly [string, ...string[]]): void {
    this.ip(...(args.some((arg) => arg.includes(":")) ? ["-6"] : []), "route", action, ...args);
  }

  /** Passes packets on between its devices. */
  forward(): void {
    for (const setting of ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]) {
      this.run("sh", "-c", `echo 1 > /proc/sys/${setting}`);
    }
  }

  /** What programs on this machine see as a file of /etc. */
  setting(file: "hosts" | "resolv.conf" | "passwd" | "shadow", text: string): void {
    mkdirSync(join(SETTINGS, this.name), { recursive: true });
    writeFileSync(join(SETTINGS, this.name, file), text);
  }

  /** The command line that runs a command here. */
  command(...command: readonly string[]): [string, ...string[]] {
    return ["ip", "netns", "exec", this.name, ...command];
  }

  /** Runs a command to its end. */
  run(...command: readonly string[]): string {
    const [ip, ...args] = this.command(...command);
    return execFileSync(ip, args, { stdio: "pipe", encoding: "utf8" });
  }

  /** Starts a program. Its lines are those of its standard output, and of its standard error if `all`. */
  start(
    command: readonly string[],
    options: { readonly all?: boolean; readonly env?: NodeJS.ProcessEnv } = {},
  ): Program {
    const [ip, ...args] = this.command(...command);
    const stdio: StdioOptions = ["ignore", "pipe", options.all === true ? "pipe" : "inherit"];
    const child = spawn(ip, args, { stdio, env: { ...process.env, ...options.env } });
    const lines: string[] = [];
    const watch = new Watch();
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        watch.changed();
      });
    }
    child.on("exit", () => watch.changed());
    const program: Program = {
      process: child,
      lines,
      line: (pattern) =>
        watch.until(() => {
          const found = lines.find((line) => pattern.test(line));
          if (found === undefined && hasEnded(child)) {
            throw new Error(`${command.join(" ")} ended without ${pattern}: ${lines.slice(-20).join("\n")}`);
          }
          return found;
        }, String(pattern)),
    };
    this.#programs.push(program);
    return program;
  }

  /** Starts a TypeScript program. */
  node(program: URL, ...args: string[]): Program {
    return this.start([process.execPath, "--disable-warning=ExperimentalWarning", program.pathname, ...args]);
  }

  /** Waits until something here accepts connections to a TCP port. */
  async listening(port: number): Promise<void> {
    const until = performance.now() + END_TIMEOUT;
    while (this.run("ss", "-Hltn", `sport = :${port}`).trim() === "") {
      if (performance.now() > until)
        throw new Error(`nothing listens on port ${port} of ${this.name}: ${this.#said()}`);
      await sleep(50);
    }
  }

  #said(): string {
    return this.#programs.flatMap(({ lines }) => lines.slice(-5)).join("\n");
  }

  /** Ends its programs and removes it. */
  async close(): Promise<void> {
    const running = this.#programs.map(({ process }) => process).filter((child) => !hasEnded(child));
    const ended = Promise.all(running.map((child) => new Promise((resolve) => child.once("exit", resolve))));
    for (const child of running) child.kill("SIGTERM");
    await Promise.race([ended, sleep(END_TIMEOUT, undefined, { ref: false })]);
    remove(this.name);
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Machines that end together. */
export class Namespaces {
  readonly #prefix: string;
  readonly #all: Namespace[] = [];
  readonly #onExit = () => {
    for (const { name } of this.#all) remove(name);
  };

  constructor() {
    removeLeftovers();
    this.#prefix = `gw-${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
    process.once("exit", this.#onExit);
    for (const signal of SIGNALS) process.once(signal, exit);
  }

  add(label: string): Namespace {
    const namespace = new Namespace(`${this.#prefix}-${label}`);
    this.#all.push(namespace);
    return namespace;
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((namespace) => namespace.close()));
    process.off("exit", this.#onExit);
    for (const signal of SIGNALS) process.off(signal, exit);
  }
}

/** Connects two machines. */
export function cable(one: CableEnd, other: CableEnd): void {
  const peer = ["peer", "name", other.device, "netns", other.on.name];
  one.on.ip("link", "add", one.device, "type", "veth", ...peer);
  for (const { on, device, addresses } of [one, other]) {
    for (const address of addresses) {
      // Without nodad an IPv6 address is of no use for the first two seconds.
      on.ip("address", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
    }
    on.ip("link", "set", device, "up");
  }
}

/** Kills what runs in a namespace, and removes it. */
function remove(name: string): void {
  rmSync(join(SETTINGS, name), { recursive: true, force: true });
  if (!existsSync(join(NAMES, name))) return;
  for (const pid of ip("netns", "pids", name).split("\n").filter(Boolean)) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
  ip("netns", "delete", name);
}

/** Removes the namespaces of test processes that were killed. */
function removeLeftovers(): void {
  const names = [NAMES, SETTINGS].flatMap((folder) => (existsSync(folder) ? readdirSync(folder) : []));
  for (const name of new Set(names)) {
    const [, pid] = /^gw-([0-9]+)-/.exec(name) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) remove(name);
  }
}

/** Addresses of the server: two IPv4 and one IPv6. */
export const SERVER = { first: "10.202.2.2", second: "10.202.2.3", ipv6: "fd00:202:2::2" } as const;

/** A client, a router and a server. A test sets what the router does to packets. */
export class RoutedNetwork {
  readonly #client: Namespace;
  readonly #router: Namespace;
  readonly #server: Namespace;

  constructor(context: TestContext) {
    const namespaces = new Namespaces();
    context.after(() => namespaces.close());
    this.#client = namespaces.add("c");
    this.#router = namespaces.add("r");
    this.#server = namespaces.add("s");
    cable(
      { on: this.#client, device: "wire", addresses: ["10.202.1.2/24", "fd00:202:1::2/64"] },
      { on: this.#router, device: "left", addresses: ["10.202.1.1/24", "fd00:202:1::1/64"] },
    );
    cable(
      {
        on: this.#server,
        device: "wire",
        addresses: [`${SERVER.first}/24`, `${SERVER.second}/24`, `${SERVER.ipv6}/64`],
      },
      { on: this.#router, device: "right", addresses: ["10.202.2.1/24", "fd00:202:2::1/64"] },
    );
    this.#router.forward();
    for (const [namespace, net] of [
      [this.#client, 1],
      [this.#server, 2],
    ] as const) {
      namespace.route("add", "default", "via", `10.202.${net}.1`);
      namespace.route("add", "default", "via", `fd00:202:${net}::1`);
    }
  }

  /** Packets to an address of the server are silently dropped until it is `found` again. */
  lose(address: string): void {
    this.#router.route("add", "blackhole", address);
  }

  find(address: string): void {
    this.#router.route("delete", "blackhole", address);
  }

  /** The router's links drop larger packets without an ICMP message. */
  narrow(mtu: number): void {
    for (const device of ["left", "right"]) this.#router.ip("link", "set", device, "mtu", String(mtu));
    this.#router.ip("rule", "add", "ipproto", "icmp", "priority", "1", "blackhole");
    this.#router.ip("-6", "rule", "add", "ipproto", "ipv6-icmp", "priority", "1", "blackhole");
  }

  inClient(program: URL, ...args: string[]): Program {
    return this.#client.node(program, ...args);
  }

  inServer(program: URL, ...args: string[]): Program {
    return this.#server.node(program, ...args);
  }
}
