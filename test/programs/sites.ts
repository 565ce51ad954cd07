/**
 * Two sites that reach nothing but an edge: services run in the office, where `grooveway expose` offers them, and the
 * programs that use them run at home, where `grooveway forward` listens.
 *
 *   program ─► forward ─ home │ edge │ office ─ expose ─► service
 */
import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { COMMAND, Internet, type Network, type Scheme, WITHOUT_PROXIES } from "../networks/internet.ts";
import type { Program } from "../support/namespaces.ts";
import { type OpenSsh, openSsh } from "../support/openssh.ts";
import { isThere, PROGRAMS } from "./needs.ts";

const MIB = 1024 * 1024;

/** Ports at home. In the office a service has the same, but for PostgreSQL, which has a unix socket. */
const PORTS = { ssh: 2222, db: 5432, web: 8080, web2: 8081, chat: 8082, digest: 7000, socks: 1080 } as const;

/** How long a script may take, in milliseconds: 200 MiB by polling, on a machine that does other things as well. */
const PATIENCE = 300_000;

export interface Way {
  readonly scheme: Scheme;
  /** Sets what lies between a site and the internet. */
  readonly build: (net: Network) => Promise<void> | void;
}

export class Sites {
  readonly #internet = new Internet();
  readonly #home = this.#internet.network();
  readonly #office = this.#internet.network();
  /** Folders of the two, which are on one disk. */
  readonly home = join(this.#internet.folder, "home");
  readonly office = join(this.#internet.folder, "office");
  readonly #ssh: OpenSsh;
  #options: readonly string[] = [];
  #expose: Program | undefined;
  #forward: Program | undefined;

  constructor() {
    for (const folder of [this.home, this.office]) mkdirSync(folder);
    this.#ssh = openSsh(this.#internet.folder, { server: PORTS.ssh, client: PORTS.ssh });
  }

  /** Starts what is installed, and connects the sites. */
  async open({ scheme, build }: Way): Promise<void> {
    await this.#internet.edge(scheme);
    await Promise.all([this.#home, this.#office].map((net) => build(net)));
    const authority = ["--ca", join(this.#internet.folder, "ca.pem")];
    this.#options = ["--edge", `${scheme}://edge.test`, ...(scheme === "https" ? authority : ["--allow-plain"])];
    await Promise.all([this.#serveSsh(), this.#serveWeb(), this.#serveDatabase(), this.#serveDigest()]);
    await this.#start(
      this.#office,
      "node",
      new URL("websocket-echo.ts", import.meta.url).pathname,
      `${PORTS.chat}`,
    ).line(/listening/);
    const loopback = (["ssh", "web", "web2", "chat", "digest"] as const).map(
      (name) => `${name}=127.0.0.1:${PORTS[name]}`,
    );
    const exposed = [...loopback, `db=unix:${this.office}/.s.PGSQL.5432`];
    const key = (await this.grooveway("id")).trim();
    const offer = ["--as", "office/desk", "--trust", `alice=${key}`, "--json", ...exposed];
    // By its name, which means another machine at home.
    this.#expose = this.#run(this.#office, "expose", ...offer, "--socks", `site.test:${PORTS.web}`);
    await this.#expose.line(/"destination"/);
    const { socks, ...services } = PORTS;
    const pairs = Object.entries(services).flatMap(([name, port]) => [`${port}`, `office/desk:${name}`]);
    const take = ["--as", "alice/pc", "--json", "--socks", `${socks}`, "office/desk", ...pairs];
    this.#forward = this.#run(this.#home, "forward", ...take);
    await this.#forward.line(/"connected"/);
  }

  /** The transports that the devices have used, home first. */
  get transports(): readonly (readonly string[])[] {
    return [this.#forward, this.#expose].map((program) =>
      (program?.lines ?? []).flatMap((line) => /"event":"connected".*"transport":"([a-z0-9]+)"/.exec(line)?.[1] ?? []),
    );
  }

  /** Runs a script of bash at home, in the folder of that name, which must succeed. Returns its standard output. */
  bash(script: string): Promise<string> {
    return this.#bash(this.#home, this.home, script);
  }

  /** The same in the office. */
  inOffice(script: string): Promise<string> {
    return this.#bash(this.#office, this.office, script);
  }

  /** Runs `grooveway` to its end at home. Returns its standard output. */
  grooveway(command: string, ...args: readonly string[]): Promise<string> {
    return this.bash([process.execPath, COMMAND, command, ...args].map((word) => `'${word}'`).join(" "));
  }

  /** The command that connects standard input and output to a service, for a shell. */
  stdio(device: string, service: string): string {
    const args = ["forward", "--stdio", ...this.#options, "--as", device, `office/desk:${service}`];
    return [process.execPath, COMMAND, ...args].join(" ");
  }

  close(): Promise<void> {
    return this.#internet.close();
  }

  async #bash(net: Network, cwd: string, script: string): Promise<string> {
    const [ip, ...args] = net.site.command(...WITHOUT_PROXIES, "bash", "-euo", "pipefail", "-c", script);
    const env = { ...process.env, ...this.#environment(net), SSH: `ssh -F ${this.#ssh.settings}` };
    const { stdout } = await promisify(execFile)(ip, args, { cwd, env, timeout: PATIENCE });
    return stdout;
  }

  #environment(net: Network): NodeJS.ProcessEnv {
    const folder = net === this.#home ? this.home : this.office;
    return {
      XDG_CONFIG_HOME: join(folder, "config"),
      GROOVEWAY_STATE: join(folder, "state"),
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_SSH_COMMAND: `ssh -F ${this.#ssh.settings}`,
    };
  }

  #run(net: Network, command: string, ...args: readonly string[]): Program {
    const program = [process.execPath, COMMAND, command, ...this.#options, ...args];
    return net.site.start([...WITHOUT_PROXIES, ...program], { env: this.#environment(net) });
  }

  #start(net: Network, ...command: readonly string[]): Program {
    return net.site.start(command, { all: true });
  }

  async #serveSsh(): Promise<void> {
    if (!isThere(PROGRAMS.sshd)) return;
    await this.#start(this.#office, ...this.#ssh.server).line(/Server listening/);
  }

  /** HTTP/1.1 and, on a port of its own, HTTP/2 without TLS. */
  async #serveWeb(): Promise<void> {
    const { program } = PROGRAMS.nginx;
    if (!isThere(PROGRAMS.nginx)) return;
    const root = join(this.office, "web");
    mkdirSync(root);
    writeFileSync(join(root, "blob"), randomBytes(8 * MIB));
    writeFileSync(join(root, "page"), randomBytes(16 * 1024));
    const path = this.#internet.file(
      "nginx-office.conf",
      `daemon off; user root; pid ${this.office}/nginx.pid; error_log stderr; events {}
       http {
         access_log off; keepalive_requests 100000;
         client_body_temp_path ${this.office}/nginx-body; proxy_temp_path ${this.office}/nginx-proxy;
         server { listen ${PORTS.web}; listen 127.0.0.1:${PORTS.web2} http2; root ${root}; }
       }`,
    );
    this.#start(this.#office, program, "-c", path, "-e", "stderr");
    await this.#office.site.listening(PORTS.web2);
  }

  async #serveDatabase(): Promise<void> {
    const { program } = PROGRAMS.postgres;
    if (!isThere(PROGRAMS.postgres)) return;
    const data = join(this.office, "db");
    mkdirSync(data);
    execFileSync("chown", ["postgres:", data, this.office]);
    // It does not run as root.
    const asPostgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "env", "-C", data];
    const initdb = join(dirname(program), "initdb");
    this.#office.site.run(...asPostgres, initdb, "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync");
    await this.#start(
      this.#office,
      ...asPostgres,
      program,
      "-D",
      data,
      "-k",
      this.office,
      "-c",
      "listen_addresses=",
    ).line(/ready to accept connections/);
  }

  /** Answers with the digest of what it was sent, once it was sent the end. */
  async #serveDigest(): Promise<void> {
    if (!isThere(PROGRAMS.socat)) return;
    const listen = `TCP-LISTEN:${PORTS.digest},bind=127.0.0.1,reuseaddr,fork`;
    // It gives the digest half a second otherwise.
    this.#start(this.#office, PROGRAMS.socat.program, "-t", "60", listen, "EXEC:sha256sum");
    await this.#office.site.listening(PORTS.digest);
  }
}
