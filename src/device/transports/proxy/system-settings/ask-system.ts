/**
 * Asks the operating system for its proxy settings, anew at each call: a laptop changes networks.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { GNOME_SCHEMA, parseGsettings } from "./gnome.ts";
import { parseKioslaverc } from "./kde.ts";
import { parseScutil } from "./macos.ts";
import type { SystemProxies } from "./system-proxies.ts";
import { parseRegistry, REGISTRY_KEY } from "./windows.ts";

/** How long the system's own tool may take, in milliseconds. It takes about 20. */
const TOOL_TIMEOUT = 1000;

/** The most that a tool may print, in bytes. Long lists of exceptions have a few KiB. */
const TOOL_OUTPUT = 256 * 1024;

/** Settings, and what they are called. */
export interface SystemAnswer {
  readonly proxies: SystemProxies;
  readonly source: string;
}

export interface SystemOptions {
  readonly platform: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Runs a program; resolves with what it prints. */
  readonly run: (program: string, args: readonly string[]) => Promise<string>;
  /** Resolves with the text of a file. */
  readonly read: (path: string) => Promise<string>;
}

const NODE: SystemOptions = {
  platform: process.platform,
  env: process.env,
  run: runTool,
  read: (path) => readFile(path, "utf8"),
};

/** Returns undefined where the system has no such settings, or they cannot be read. */
export async function askSystem({ platform, env, run, read }: SystemOptions = NODE): Promise<SystemAnswer | undefined> {
  try {
    if (platform === "win32") {
      // By its path: Windows would look for the program in the current folder first.
      const program = `${env.SystemRoot ?? "C:\\Windows"}\\System32\\reg.exe`;
      return answer("the settings of Windows", parseRegistry(await run(program, ["query", REGISTRY_KEY])));
    }
    if (platform === "darwin") return answer("the settings of macOS", parseScutil(await run("scutil", ["--proxy"])));
    // On a server there is no desktop, and nothing to start a program for.
    const desktops = (env.XDG_CURRENT_DESKTOP ?? "").toLowerCase().split(":");
    if (desktops.includes("kde")) {
      const folder = env.XDG_CONFIG_HOME || join(env.HOME ?? "/", ".config");
      return answer("the settings of KDE", parseKioslaverc(await read(join(folder, "kioslaverc"))));
    }
    if (desktops.some((name) => ["gnome", "unity", "x-cinnamon", "budgie", "pantheon", "mate"].includes(name))) {
      const listed = await run("gsettings", ["list-recursively", GNOME_SCHEMA]);
      return answer("the settings of GNOME", parseGsettings(listed));
    }
  } catch {
    // Without the tool or the file there are no settings.
  }
  return undefined;
}

function answer(source: string, proxies: SystemProxies): SystemAnswer {
  return { source, proxies };
}

/** Runs a program; resolves with what it prints. Rejects if it fails, or has not ended after a second. */
export function runTool(program: string, args: readonly string[]): Promise<string> {
  // A tool that hangs may not heed anything less.
  const options = { timeout: TOOL_TIMEOUT, killSignal: "SIGKILL", maxBuffer: TOOL_OUTPUT, windowsHide: true } as const;
  return new Promise((resolve, reject) => {
    execFile(program, [...args], options, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
}
