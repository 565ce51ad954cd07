/** Starts the peers of mailboxes: stores that accept messages and keep them for a reader. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../support/rpc.ts";
import { debianProgram, type Program } from "./debian.ts";
import { freePort, listening, PEERS } from "./peers.ts";

export type Store =
  | { readonly name: string; readonly port: number; close(): Promise<void> }
  | { readonly name: string; readonly skipped: string };

/** @param folder for its data */
export async function startRedis(folder: string): Promise<Store> {
  const name = "redis 7.0 streams";
  // redis-server is a name for a program in redis-tools.
  const packages = ["redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1"];
  const program = await debianProgram(join(PEERS, "redis"), packages, "usr/bin/redis-server");
  if (typeof program === "string") return { name, skipped: program };
  const port = await freePort();
  return startProgram(name, port, program, [
    ...["--port", String(port), "--bind", "127.0.0.1", "--dir", folder],
    ...["--appendonly", "yes", "--appendfsync", "always", "--save", ""],
  ]);
}

/** @param folder for its data */
export async function startMosquitto(folder: string): Promise<Store> {
  const name = "mosquitto 2.0";
  const packages = ["mosquitto", "libcjson1", "libdlt2", "libwrap0"];
  const program = await debianProgram(join(PEERS, "mosquitto"), packages, "usr/sbin/mosquitto");
  if (typeof program === "string") return { name, skipped: program };
  const port = await freePort();
  const settings = [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "persistence true",
    `persistence_location ${folder}/`,
    "autosave_interval 1",
    // By default it drops messages beyond 1000 per session, and sends only 20 at a time.
    "max_queued_messages 0",
    "max_inflight_messages 0",
    "set_tcp_nodelay true",
    "log_type none",
    ...(process.getuid?.() === 0 ? ["user root"] : []),
  ];
  writeFileSync(join(folder, "mosquitto.conf"), `${settings.join("\n")}\n`);
  return startProgram(name, port, program, ["-c", join(folder, "mosquitto.conf")]);
}

/** @param folder for its data; without it everything is in memory */
export async function startDurableStreams(missing: string | undefined, folder?: string): Promise<Store> {
  const name = `durable-streams 0.3.7, ${folder === undefined ? "memory" : "file"}`;
  if (missing !== undefined) return { name, skipped: missing };
  if (folder !== undefined) mkdirSync(folder, { recursive: true });
  const child = new Child(new URL("stream-server.ts", import.meta.url));
  try {
    const url = await child.call<string>("listen", { folder });
    return { name, port: Number(new URL(url).port), close: () => child.end() };
  } catch (error) {
    await child.end();
    return { name, skipped: (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "" };
  }
}

async function startProgram(name: string, port: number, program: Program, args: readonly string[]): Promise<Store> {
  const child: ChildProcess = spawn(program.path, args, { stdio: "ignore", env: program.env });
  child.on("error", () => undefined);
  const kill = () => void child.kill();
  process.once("exit", kill);
  const close = async () => {
    process.off("exit", kill);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill();
    await gone;
  };
  await listening(port);
  if (child.pid === undefined || child.exitCode !== null) return { name, skipped: "it ended at once" };
  return { name, port, close };
}
