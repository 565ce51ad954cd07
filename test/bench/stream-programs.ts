/** `grooveway forward` and `grooveway expose` as a person runs them, each in its own process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TransportName } from "../../src/device/index.ts";
import type { Running } from "./edges.ts";
import type { TunnelPeer } from "./peers.ts";
import { within } from "./transfers.ts";

const COMMAND = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));
const BARE = fileURLToPath(new URL("bare-tunnel.ts", import.meta.url));

/** How long a command may take to say that it is ready, in milliseconds. */
const PATIENCE = 30_000;

export interface TunnelOptions {
  readonly name: string;
  readonly edge: string;
  readonly transport: TransportName;
  /** Options of both commands, such as `--plain`. */
  readonly options: readonly string[];
  /** Port of the far side. */
  readonly target: number;
  /** Folders for the keys of the two. */
  readonly folders: { readonly forward: string; readonly expose: string };
  /** Workerd of the edge. */
  readonly edgePid: number;
}

/** A tunnel by two devices: from a port of `forward` to the far side, which `expose` offers. */
export async function startTunnel(tunnel: TunnelOptions): Promise<TunnelPeer> {
  const { name, edge, transport, options, target, folders, edgePid } = tunnel;
  const id = await start(["id"], /^(\S+)$/, folders.forward);
  await id.close();
  const label = name.replace(/[^a-z]+/g, "-");
  const common = ["--edge", edge, "--transport", transport, ...options];
  const exposing = [`bench=127.0.0.1:${target}`, "--trust", `near/${label}=${id.found[1]}`, "--as", `far/${label}`];
  const expose = await start(["expose", ...common, ...exposing], /bench is /, folders.expose);
  try {
    const forwarding = ["--as", `near/${label}`, "0", `far/${label}:bench`];
    const forward = await start(["forward", ...common, ...forwarding], /127\.0\.0\.1:(\d+) is /, folders.forward);
    const processes = [
      { name: "forward", pid: forward.pid },
      { name: "workerd", pid: edgePid },
      { name: "expose", pid: expose.pid },
    ];
    const close = async () => {
      await forward.close();
      await expose.close();
    };
    return { name, port: Number(forward.found[1]), processes, close };
  } catch (error) {
    await expose.close();
    throw error;
  }
}

/** A tunnel by one device: from a port of `forward` to the far side, which the edge dials. */
export async function startOriginTunnel({
  name,
  edge,
  transport,
  target,
  folder,
  edgePid,
}: Omit<TunnelOptions, "options" | "folders"> & { readonly folder: string }): Promise<TunnelPeer> {
  const way = ["--edge", edge, "--transport", transport, "--as", `near/to-${transport}`];
  const args = ["forward", ...way, "--to", `127.0.0.1:${target}`, "0"];
  const forward = await start(args, /127\.0\.0\.1:(\d+) is /, folder);
  const processes = [
    { name: "forward", pid: forward.pid },
    { name: "workerd", pid: edgePid },
  ];
  return { name, port: Number(forward.found[1]), processes, close: () => forward.close() };
}

/** What `startTunnel` starts, with programs that do nothing else: near side, sealing, two objects, far side. */
export async function startBareTunnel(name: string, worker: Running, target: number): Promise<TunnelPeer> {
  const ways = [String(worker.port), String(target)];
  const far = await startProgram("the bare far end", [BARE, "far", ...ways], /far is ready/);
  const near = await startProgram("the bare near end", [BARE, "near", ...ways], /127\.0\.0\.1:(\d+) is /);
  const processes = [
    { name: "near end", pid: near.pid },
    { name: "workerd", pid: worker.pid },
    { name: "far end", pid: far.pid },
  ];
  const close = async () => {
    await near.close();
    await far.close();
  };
  return { name, port: Number(near.found[1]), processes, close };
}

/**
 * What `startOriginTunnel` starts, likewise: near side, an object, far side.
 *
 * @param role `plain` with one object, `apart` with one for the device and one that dials
 */
export async function startBareOriginTunnel(
  name: string,
  role: "plain" | "apart",
  worker: Running,
  target: number,
): Promise<TunnelPeer> {
  const args = [BARE, role, String(worker.port), String(target)];
  const near = await startProgram("the bare near end", args, /127\.0\.0\.1:(\d+) is /);
  const processes = [
    { name: "near end", pid: near.pid },
    { name: "workerd", pid: worker.pid },
  ];
  return { name, port: Number(near.found[1]), processes, close: () => near.close() };
}

/** A command that runs. */
interface Started {
  readonly pid: number;
  /** What the pattern has found in a line of its output. */
  readonly found: RegExpExecArray;
  close(): Promise<void>;
}

/** Starts a command, and waits until it prints a line like this. */
function start(args: readonly string[], pattern: RegExp, folder: string): Promise<Started> {
  const env = { GROOVEWAY_STATE: folder, XDG_CONFIG_HOME: folder };
  return startProgram(`grooveway ${args[0]}`, [COMMAND, ...args], pattern, env);
}

async function startProgram(
  name: string,
  args: readonly string[],
  pattern: RegExp,
  env: Readonly<Record<string, string>> = {},
): Promise<Started> {
  const profiles = process.env.BENCH_CPU_PROF;
  const node = profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profiles}`];
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...node, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const gone = once(child, "exit");
  const close = async () => {
    child.kill();
    await gone;
  };
  const line = new Promise<RegExpExecArray>((resolve) => {
    createInterface({ input: child.stdout }).on("line", (text) => {
      const match = pattern.exec(text);
      if (match !== null) resolve(match);
    });
  });
  const early = gone.then(() => Promise.reject(new Error("it has ended")));
  const found = await within(PATIENCE, Promise.race([line, early])).catch(async (error: Error) => {
    await close();
    throw new Error(`${name}: ${error.message} ${said}`.trim());
  });
  early.catch(() => undefined);
  return { pid: child.pid ?? 0, found, close };
}
