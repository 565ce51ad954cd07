/** Runs the command as a user does: in its own process, with its output read and signals sent. */
import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { format } from "node:util";
import { errorLine, statusOf } from "../../src/cli/error-line.ts";
import { runCommand } from "../../src/cli/run-command.ts";

/** The command line that starts it. */
export const ENTRY = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));

/** Node's arguments to run the command. */
const COMMAND = [ENTRY];

let state: string | undefined;

/** The folder for state and profiles of the commands of this process, instead of the user's own. */
function stateOfTests(): string {
  if (state === undefined) {
    const path = mkdtempSync(join(tmpdir(), "grooveway-state-"));
    process.once("exit", () => rmSync(path, { recursive: true, force: true }));
    state = path;
  }
  return state;
}

/** This process's variables, but with folders of the tests. */
function ownVariables(): NodeJS.ProcessEnv {
  return { GROOVEWAY_STATE: stateOfTests(), ...process.env, XDG_CONFIG_HOME: stateOfTests() };
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running command. */
export interface Running {
  readonly process: ChildProcess;
  /** Resolves when standard output has a matching line; rejects if the command ends first. */
  line(pattern: RegExp): Promise<RegExpExecArray>;
  readonly finished: Promise<Finished>;
}

/** How long a command may take to print a line: the longest waits for a share to be free again, on a busy machine. */
const LINE_TIMEOUT = 180_000;

/** Environment variables; one that is undefined is not set. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** Starts `grooveway` with these arguments; it is stopped when the test ends. */
export function start(
  context: TestContext,
  args: readonly string[],
  input?: Uint8Array | string,
  env?: Variables,
): Running {
  return startProgram(context, process.execPath, [...COMMAND, ...args], input, env);
}

/** Starts a bash script in which `"$@"` is `grooveway` with these arguments, as in `exec "$@" >&-`. */
export function startShell(context: TestContext, script: string, args: readonly string[]): Running {
  return startProgram(context, "bash", ["-c", script, "bash", process.execPath, ...COMMAND, ...args]);
}

function startProgram(
  context: TestContext,
  program: string,
  args: readonly string[],
  input?: Uint8Array | string,
  env: Variables = {},
): Running {
  const child = spawn(program, args, { stdio: "pipe", env: { ...ownVariables(), ...env } });
  // Not SIGKILL, which would leave an edge's runtime behind.
  context.after(async () => {
    child.kill("SIGTERM");
    await finished;
  });
  let stdout = "";
  let stderr = "";
  const watchers = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    for (const watch of watchers) watch();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const finished = new Promise<Finished>((resolve) => {
    child.on("close", (code) => {
      resolve({ code, stdout, stderr });
      for (const watch of watchers) watch();
    });
  });
  return {
    process: child,
    finished,
    line(pattern) {
      return new Promise((resolve, reject) => {
        const fail = (how: string) => reject(new Error(`${how} without ${pattern}: ${stdout}${stderr}`));
        const late = setTimeout(() => fail("went on"), LINE_TIMEOUT);
        const watch = () => {
          const found = pattern.exec(stdout);
          if (found === null && child.exitCode === null) return;
          clearTimeout(late);
          watchers.delete(watch);
          if (found !== null) resolve(found);
          else fail("ended");
        };
        watchers.add(watch);
        watch();
      });
    },
  };
}

/** Runs a command to its end. */
export function run(
  context: TestContext,
  args: readonly string[],
  input?: Uint8Array | string,
  env?: Variables,
): Promise<Finished> {
  return start(context, args, input, env).finished;
}

/** A Node older than 22 on this machine, if any. */
export function olderNode(): string | undefined {
  return ["/usr/bin/node", "/usr/local/bin/node", "/usr/bin/nodejs"].find((node) => {
    const { stdout } = spawnSync(node, ["--version"], { encoding: "utf8" });
    const [, major = "99"] = /^v(\d+)\./.exec(stdout ?? "") ?? [];
    return Number(major) < 22;
  });
}

/** What the command that runs in this process, if any, has printed. */
const printed = new AsyncLocalStorage<{ stdout: string; stderr: string }>();
for (const [method, stream] of [
  ["log", "stdout"],
  ["error", "stderr"],
] as const) {
  const print = console[method].bind(console);
  console[method] = (...parts: unknown[]) => {
    const lines = printed.getStore();
    if (lines === undefined) print(...parts);
    else lines[stream] += `${format(...parts)}\n`;
  };
}

/**
 * Runs a command in this process, which takes a hundredth of the time. Only for commands that write no standard output
 * but by console.log, and end by themselves: `token`, `mailbox`, help, and any with invalid options.
 */
export function runHere(args: readonly string[]): Promise<Finished> {
  Object.assign(process.env, ownVariables());
  const lines = { stdout: "", stderr: "" };
  return printed.run(lines, async () => {
    try {
      const code = await runCommand(args);
      return { code, ...lines };
    } catch (error) {
      return { ...lines, code: statusOf(error), stderr: `${lines.stderr}${errorLine(error)}\n` };
    }
  });
}

/** Sets variables of this process for the commands that run in it meanwhile. */
export async function withVariables<T>(variables: Variables, commands: () => Promise<T>): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  const set = (all: Iterable<readonly [string, string | undefined]>) => {
    for (const [name, value] of all) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
  set(Object.entries(variables));
  try {
    return await commands();
  } finally {
    set(before);
  }
}

/** A folder that is removed after the test. */
export async function folder(context: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "grooveway-test-"));
  // A process still running in it may write meanwhile. A leftover folder is no failure, and must not stop later hooks.
  context.after(() => rm(path, { recursive: true, force: true, maxRetries: 5 }).catch(() => undefined));
  return path;
}

/**
 * Makes an empty folder read-only, for root as well, until the end of the test or until the returned function is called.
 * Returns undefined if that is impossible here; the test is then skipped.
 */
export function makeReadOnly(context: TestContext, path: string): (() => void) | undefined {
  const isRoot = process.getuid?.() === 0;
  try {
    if (isRoot) execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", path], { stdio: "pipe" });
    else chmodSync(path, 0o555);
  } catch {
    context.skip("SKIPPED: root may write anywhere, and cannot mount here");
    return undefined;
  }
  let isReadOnly = true;
  const undo = () => {
    if (!isReadOnly) return;
    isReadOnly = false;
    if (isRoot) execFileSync("umount", ["-l", path]);
    else chmodSync(path, 0o755);
  };
  context.after(undo);
  return undo;
}

/** A port occupied by a server of the test. */
export async function takenPort(context: TestContext): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A relay and an edge started by the command on free ports; returns the options by which devices reach them. */
export async function relayAndEdge(
  context: TestContext,
  relayOptions: readonly string[] = [],
): Promise<readonly string[]> {
  const relay = start(context, ["relay", "--port", "0", "--json", ...relayOptions]);
  const [, relayPort = ""] = await relay.line(/"port":([0-9]+)/);
  const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--relay-allow", `127.0.0.1:${relayPort}`]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  return ["--relay", `127.0.0.1:${relayPort}`, "--edge", url];
}
