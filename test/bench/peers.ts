/**
 * The peers that the bench measures beside the product, pinned. They live in `.peers/` at the top of the repository,
 * outside git, installed by the first run; the product depends on none of them. An unavailable one is skipped.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, type AgentOptions, type ClientRequestArgs, createServer as createHttpServer, request } from "node:http";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { type Duplex, PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Write } from "./blocks.ts";

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
  "piping-server": "1.12.9",
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
  /** Its processes. */
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  close(): Promise<void>;
}

export type Peer = TunnelPeer | { readonly name: string; readonly skipped: string };

export async function startWstunnel(target: number, missing: string | undefined): Promise<Peer> {
  const name = "wstunnel 1.4.0";
  if (missing !== undefined) return { name, skipped: missing };
  const [middle, entrance] = [await freePort(), await freePort()];
  const program = `${FOLDER}node_modules/wstunnel/bin/wstt.js`;
  const tunnel = `${entrance}:127.0.0.1:${target}`;
  return startPrograms(name, entrance, [
    { name: "server", command: [process.execPath, program, "-s", `127.0.0.1:${middle}`], port: middle },
    { name: "client", command: [process.execPath, program, "-t", tunnel, `ws://127.0.0.1:${middle}`], port: entrance },
  ]);
}

export async function startHttptunnel(target: number): Promise<Peer> {
  const name = "httptunnel 3.3";
  const programs = await httptunnelPrograms();
  if (typeof programs === "string") return { name, skipped: programs };
  const [middle, entrance] = [await freePort(), await freePort()];
  // The server takes any connection for a tunnel: it must not be probed, only given time.
  return startPrograms(name, entrance, [
    { name: "server", command: [programs.hts, "-w", "-F", `127.0.0.1:${target}`, `127.0.0.1:${middle}`] },
    { name: "client", command: [programs.htc, "-w", "-F", String(entrance), `127.0.0.1:${middle}`] },
  ]);
}

let httptunnel: ReturnType<typeof findHttptunnel> | undefined;

/** Debian's package, looked for once: several are started at a time, and none may run what is being unpacked. */
export function httptunnelPrograms(): ReturnType<typeof findHttptunnel> {
  httptunnel ??= findHttptunnel();
  return httptunnel;
}

/** The machine's own if installed, otherwise unpacked into the folder, which needs no privileges. */
async function findHttptunnel(): Promise<{ readonly hts: string; readonly htc: string } | string> {
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

/** Starts piping-server. Its clients are in the two sides: it has no entrance for TCP. */
export async function startPiping(missing: string | undefined): Promise<Peer> {
  const name = "piping-server 1.12.9";
  if (missing !== undefined) return { name, skipped: missing };
  const port = await freePort();
  const program = `${FOLDER}node_modules/piping-server/dist/src/index.js`;
  const command = [process.execPath, program, "--host", "127.0.0.1", "--http-port", String(port)];
  return startPrograms(name, port, [{ name: "server", command, port }]);
}

/** A program of a peer. */
export interface PeerProgram {
  readonly name: string;
  readonly command: readonly string[];
  /** Where it listens once it is ready. Without one it is given time. */
  readonly port?: number;
}

/** Starts programs one after the other. */
export async function startPrograms(name: string, entrance: number, programs: readonly PeerProgram[]): Promise<Peer> {
  const started: ChildProcess[] = [];
  const close = async () => {
    for (const child of started) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill();
      await gone;
    }
  };
  for (const { command, port } of programs) {
    const [program = "", ...args] = command;
    const child = spawn(program, args, { stdio: "ignore" });
    child.on("error", () => undefined);
    started.push(child);
    if (port === undefined) await pause(500);
    else await listening(port);
  }
  if (started.some(({ exitCode, pid }) => exitCode !== null || pid === undefined)) {
    await close();
    return { name, skipped: "it ended at once" };
  }
  const processes = programs.map((program, at) => ({ name: program.name, pid: started[at]?.pid ?? 0 }));
  return { name, port: entrance, processes, close };
}

export async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
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

export type EngineTransport = "polling" | "websocket";

type EngineData = string | Uint8Array | ArrayBuffer;

export interface EngineSocket {
  readonly readyState: string;
  /** Messages that wait for the transport. */
  readonly writeBuffer: readonly unknown[];
  /** Of a client by WebSocket: its socket, which counts what it has not sent. */
  readonly transport?: { readonly ws?: { readonly bufferedAmount: number } };
  on(event: "message", listener: (data: EngineData) => void): void;
  on(event: "error", listener: (error: Error) => void): void;
  on(event: "open" | "drain" | "close", listener: () => void): void;
  off(event: "drain" | "close", listener: () => void): void;
  send(data: EngineData): void;
  close(): void;
}

interface EngineServerModule {
  attach(server: unknown, options: object): { on(event: "connection", listener: (socket: EngineSocket) => void): void };
}

interface EngineClientModule {
  readonly Socket: new (url: string, options: object) => EngineSocket;
}

const requirePeer = createRequire(`${FOLDER}package.json`);

/** Starts engine.io's server. Returns its port. */
export async function engineServer(
  host: string,
  transports: readonly EngineTransport[],
  connected: (socket: EngineSocket) => void,
): Promise<number> {
  const { attach } = requirePeer("engine.io") as EngineServerModule;
  const http = createHttpServer();
  attach(http, { transports }).on("connection", connected);
  await new Promise<void>((resolve) => http.listen(0, host, resolve));
  const address = http.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Connects, through the proxy that HTTP_PROXY names if it is set. */
export async function engineClient(
  url: string,
  transport: EngineTransport,
  take: (octets: Uint8Array) => void,
): Promise<EngineSocket> {
  const { Socket } = requirePeer("engine.io-client") as EngineClientModule;
  const socket = new Socket(url, { transports: [transport], agent: engineAgent(transport) });
  await new Promise<void>((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  socket.on("message", (data) => take(octetsOf(data)));
  return socket;
}

/** The best case of engine.io, as for the product: TCP connections are kept alive between requests. */
function engineAgent(transport: EngineTransport): Agent {
  const { HTTP_PROXY } = process.env;
  const kept = { keepAlive: true };
  if (HTTP_PROXY === undefined) return new Agent(kept);
  if (transport === "websocket") return new TunnelAgent(new URL(HTTP_PROXY));
  // Requests name the whole URL. Node's types do not know this option yet.
  const forwarded: AgentOptions & { readonly proxyEnv: NodeJS.ProcessEnv } = { ...kept, proxyEnv: { HTTP_PROXY } };
  return new Agent(forwarded);
}

/** Connects by CONNECT, which a WebSocket needs. */
class TunnelAgent extends Agent {
  readonly #proxy: URL;

  constructor(proxy: URL) {
    super();
    this.#proxy = proxy;
  }

  override createConnection(
    { host, port }: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const path = `${host}:${port ?? 80}`;
    const asked = request({ host: this.#proxy.hostname, port: this.#proxy.port, method: "CONNECT", path });
    const fail = (error: Error) => callback?.(error, new PassThrough());
    asked.on("error", fail);
    asked.on("connect", ({ statusCode }, socket) => {
      if (statusCode === 200) callback?.(null, socket);
      else fail(new Error(`the proxy answers ${statusCode} to CONNECT`));
    });
    asked.end();
  }
}

export function octetsOf(data: EngineData): Uint8Array {
  if (typeof data === "string") return Buffer.from(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
}

/** Blocks that wait in engine.io, before the writer waits. */
const ENGINE_AHEAD = 64;

/** Bytes that wait in the WebSocket of a client, before the writer waits: engine.io itself never does. */
const WEBSOCKET_AHEAD = 4 * 1024 * 1024;

/** A writer on a socket of engine.io. */
export function writerToEngine(socket: EngineSocket): Write {
  const isFull = () => (socket.transport?.ws?.bufferedAmount ?? 0) > WEBSOCKET_AHEAD;
  return (block) => {
    socket.send(block);
    if (isFull()) {
      return (async () => {
        while (isFull() && socket.readyState === "open") await pause(1);
      })();
    }
    if (socket.writeBuffer.length < ENGINE_AHEAD || socket.readyState !== "open") return undefined;
    return new Promise((resolve) => {
      const go = () => {
        socket.off("drain", go);
        socket.off("close", go);
        resolve();
      };
      socket.on("drain", go);
      socket.on("close", go);
    });
  };
}
