/**
 * The peers that the bench measures beside the product, pinned. They live in `.peers/` at the top of the repository,
 * outside git, installed by the first run; the product depends on none of them. An unavailable one is skipped.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Where the peers live. */
export const PEERS = fileURLToPath(new URL("../../.peers/", import.meta.url));
const FOLDER = PEERS;

const PACKAGES = {
  wstunnel: "1.4.0",
  "engine.io": "6.6.12",
  "engine.io-client": "6.6.8",
  "@durable-streams/server": "0.3.7",
  mqtt: "5.16.0",
} as const;
type PackageName = keyof typeof PACKAGES;

/** Installs missing npm peers. Returns the reason when that fails. */
export async function installPackages(): Promise<string | undefined> {
  const names = Object.keys(PACKAGES) as PackageName[];
  if (names.every((name) => installed(name) === PACKAGES[name])) return undefined;
  try {
    mkdirSync(FOLDER, { recursive: true });
    // Without its own manifest npm would find one further up, and change the product's.
    if (!existsSync(`${FOLDER}package.json`)) writeFileSync(`${FOLDER}package.json`, '{ "private": true }\n');
    const wanted = names.map((name) => `${name}@${PACKAGES[name]}`);
    await run("npm", ["install", "--prefix", FOLDER, "--save-exact", "--no-audit", "--no-fund", ...wanted], {
      cwd: FOLDER,
      timeout: 90_000,
    });
    return undefined;
  } catch (error) {
    return `npm install failed: ${oneLine(error)}`;
  }
}

function installed(name: PackageName): string | undefined {
  try {
    const manifest = readFileSync(`${FOLDER}node_modules/${name}/package.json`, "utf8");
    return (JSON.parse(manifest) as { version: string }).version;
  } catch {
    return undefined;
  }
}

/** A tunnel that carries TCP from its entrance to the far side. */
export interface TunnelPeer {
  readonly name: string;
  /** Where its client listens. */
  readonly port: number;
  close(): Promise<void>;
}

export type Peer = TunnelPeer | { readonly name: string; readonly skipped: string };

export async function startWstunnel(target: number, missing: string | undefined): Promise<Peer> {
  const name = "wstunnel 1.4.0";
  if (missing !== undefined) return { name, skipped: missing };
  const [middle, entrance] = [await freePort(), await freePort()];
  const program = `${FOLDER}node_modules/wstunnel/bin/wstt.js`;
  return startPair(name, entrance, middle, [
    [process.execPath, program, "-s", `127.0.0.1:${middle}`],
    [process.execPath, program, "-t", `${entrance}:127.0.0.1:${target}`, `ws://127.0.0.1:${middle}`],
  ]);
}

export async function startHttptunnel(target: number): Promise<Peer> {
  const name = "httptunnel 3.3";
  const programs = await httptunnelPrograms();
  if (typeof programs === "string") return { name, skipped: programs };
  const [middle, entrance] = [await freePort(), await freePort()];
  return startPair(name, entrance, middle, [
    [programs.hts, "-w", "-F", `127.0.0.1:${target}`, `127.0.0.1:${middle}`],
    [programs.htc, "-w", "-F", String(entrance), `127.0.0.1:${middle}`],
  ]);
}

/** Debian's package: the machine's own if installed, otherwise unpacked into the folder, which needs no privileges. */
async function httptunnelPrograms(): Promise<{ readonly hts: string; readonly htc: string } | string> {
  const there = (folder: string) => existsSync(`${folder}hts`) && existsSync(`${folder}htc`);
  const own = `${FOLDER}httptunnel/usr/bin/`;
  for (const folder of ["/usr/bin/", own]) if (there(folder)) return { hts: `${folder}hts`, htc: `${folder}htc` };
  try {
    mkdirSync(`${FOLDER}httptunnel`, { recursive: true });
    await run("apt-get", ["download", "httptunnel"], { cwd: FOLDER, timeout: 60_000 });
    const archive = readdirSync(FOLDER).find((file) => /^httptunnel_.*\.deb$/.test(file));
    await run("dpkg", ["-x", archive ?? "", "httptunnel"], { cwd: FOLDER });
  } catch (error) {
    return `not installed, and apt-get download failed: ${oneLine(error)}`;
  }
  return there(own) ? { hts: `${own}hts`, htc: `${own}htc` } : "the package has no hts and htc";
}

/** Starts a server and then its client. */
async function startPair(
  name: string,
  entrance: number,
  middle: number,
  [server, client]: readonly [readonly string[], readonly string[]],
): Promise<Peer> {
  const started: ChildProcess[] = [];
  const close = async () => {
    for (const child of started) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill();
      await gone;
    }
  };
  const start = ([program = "", ...args]: readonly string[]) => {
    const child = spawn(program, args, { stdio: "ignore" });
    child.on("error", () => undefined);
    started.push(child);
  };
  start(server);
  // httptunnel's server takes any connection for a tunnel: it must not be probed, only given time.
  if (name.startsWith("httptunnel")) await pause(500);
  else await listening(middle);
  start(client);
  if (name.startsWith("httptunnel")) await pause(500);
  else await listening(entrance);
  if (started.some((child) => child.exitCode !== null)) {
    await close();
    return { name, skipped: "it ended at once" };
  }
  return { name, port: entrance, close };
}

export async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (answered) return;
    await pause(50);
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n").slice(0, 2).join(" ").slice(0, 160);
}

// The part of engine.io used here. Its types are not installed with the product.

interface EngineSocket {
  on(event: "message", listener: (data: string) => void): void;
  on(event: "open", listener: () => void): void;
  on(event: "error", listener: (error: Error) => void): void;
  send(data: string): void;
  close(): void;
}

interface EngineServerModule {
  attach(server: unknown, options: object): { on(event: "connection", listener: (socket: EngineSocket) => void): void };
}

interface EngineClientModule {
  readonly Socket: new (url: string, options: object) => EngineSocket;
}

const requirePeer = createRequire(`${FOLDER}package.json`);

/** Starts engine.io's server, long-polling only, which echoes every message. Returns its port. */
export async function engineServer(): Promise<number> {
  const { attach } = requirePeer("engine.io") as EngineServerModule;
  const http = createHttpServer();
  attach(http, { transports: ["polling"] }).on("connection", (socket) => {
    socket.on("message", (data) => socket.send(data));
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const address = http.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

export async function engineClient(port: number, take: (text: string) => void): Promise<EngineSocket> {
  const { Agent } = await import("node:http");
  const { Socket } = requirePeer("engine.io-client") as EngineClientModule;
  const socket = new Socket(`http://127.0.0.1:${port}`, {
    transports: ["polling"],
    // Its best case, as for the product: TCP connections are kept alive between requests.
    agent: new Agent({ keepAlive: true }),
  });
  await new Promise<void>((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  socket.on("message", take);
  return socket;
}
