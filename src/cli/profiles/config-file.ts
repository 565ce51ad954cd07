/**
 * The file of profiles, config.toml: where it is, who may read it, and how it is replaced.
 *
 *   $XDG_CONFIG_HOME/grooveway    if the variable is an absolute path
 *   ~/.config/grooveway           Windows: %APPDATA%\grooveway
 *
 * It contains tokens, so it is written with mode 600, and not read when others may read it or change it.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { FileLock, LockHeld } from "../../lib/node/file-lock.ts";
import { visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { codeOf, makeFolders, nodeFileSystem, writeAll } from "../files/file-system.ts";
import { wordsOf } from "../files/path-problem.ts";
import { formatConfig, type Profiles, parseConfig } from "./config-toml.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Bytes of config.toml: room for dozens of profiles, each with a token of at most 8 KiB. */
const LONGEST_FILE = 512 * 1024;

/** How long to wait for another login or logout to write the file, in milliseconds: each takes a few. */
const LOCK_PATIENCE = 5000;

/** Permissions of group and others. */
const OTHERS = 0o077;

/**
 * Returns the path of config.toml, which need not exist; undefined without a home.
 *
 * @param env default: `process.env`, because `homedir()` throws for a user without a passwd entry
 */
export function configPath(env: Environment = process.env): string | undefined {
  const folder =
    process.platform === "win32"
      ? env.APPDATA
      : absolute(env.XDG_CONFIG_HOME) || (absolute(env.HOME) && join(env.HOME ?? "", ".config"));
  return absolute(folder) ? join(folder ?? "", "grooveway", "config.toml") : undefined;
}

function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}

/**
 * Returns the path of config.toml for a command that cannot do without.
 *
 * @throws CommandError NoConfigFolder
 */
export function neededConfigPath(env: Environment = process.env): string {
  const path = configPath(env);
  if (path !== undefined) return path;
  const [home, other] = process.platform === "win32" ? ["APPDATA", undefined] : ["HOME", "XDG_CONFIG_HOME"];
  const both = other === undefined ? `${home} is not set` : `neither ${home} nor ${other} is set`;
  throw new CommandError(
    "NoConfigFolder",
    `${both} to an absolute path, so there is no place for profiles: set ${other ?? home} to a folder of this user`,
  );
}

/**
 * Reads the profiles. A file that does not exist has none.
 *
 * @throws CommandError CannotRead; ConfigUnusable if its contents are wrong, or others may read it
 */
export function readProfiles(path: string): Profiles {
  const text = textOf(path);
  if (text === undefined) return new Map();
  const parsed = parseConfig(text);
  if (parsed.ok) return parsed.value;
  const { line, problem, cure } = parsed.problems;
  throw unusable(`${path}${line === undefined ? "" : `, line ${line}`}: ${problem}: ${cure}`);
}

function textOf(path: string): string | undefined {
  let fd: number | undefined;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer. Windows has no such flag.
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw unusable(`${path} is not a file: remove it`);
    if (process.platform !== "win32" && (stats.mode & OTHERS) !== 0) {
      const mode = (stats.mode & 0o777).toString(8);
      const cure = `run chmod 600 ${shellWord(path)}, and get new tokens if somebody may have read them`;
      throw unusable(`others may read or change ${path} (mode ${mode}), which has tokens: ${cure}`);
    }
    if (stats.size > LONGEST_FILE) throw unusable(`${path} is over ${LONGEST_FILE / 1024} KiB: remove old profiles`);
    return readFileSync(fd, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error) ?? "")) return undefined;
    if (error instanceof CommandError) throw error;
    throw new CommandError("CannotRead", `cannot read ${path} (${codeOf(error) ?? error}): make it this user's own`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Replaces the profiles. Readers see the file from before or the one from after, also if the machine fails meanwhile.
 *
 * @throws CommandError CannotWrite, StateInUse, and those of {@link readProfiles}
 */
export async function changeProfiles(path: string, change: (profiles: Profiles) => Profiles): Promise<void> {
  try {
    await makeFolders(dirname(path), 0o700);
    // Otherwise, one of two logins at the same time would be lost.
    const lock = new FileLock(join(dirname(path), "config.lock"), LOCK_PATIENCE);
    try {
      await replace(targetOf(path), formatConfig(change(readProfiles(path))));
    } finally {
      lock.release();
    }
  } catch (error) {
    if (error instanceof LockHeld) throw new CommandError("StateInUse", `${error.message}: try again when it is done`);
    if (error instanceof CommandError || codeOf(error) === undefined) throw error;
    const cure = "set XDG_CONFIG_HOME to a folder in which this user may write";
    throw new CommandError("CannotWrite", `cannot write ${path}: ${wordsOf(error)}: ${cure}`);
  }
}

/** Follows a symbolic link, which many have in place of their configuration files: it stays one. */
function targetOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return path;
    throw error;
  }
}

async function replace(path: string, text: string): Promise<void> {
  const [name, fresh] = [basename(path), `${basename(path)}.new`];
  const folder = await nodeFileSystem.openFolder(dirname(path), false);
  try {
    // Left by a process that was killed. The lock is held, so no other is writing it now.
    if ((await folder.entry(fresh)) !== undefined) await folder.remove(fresh);
    const file = await folder.open(fresh, { create: 0o600 });
    try {
      await writeAll(file, new TextEncoder().encode(text), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await folder.rename(fresh, folder, name);
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Quotes a path for a shell, if needed. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function unusable(message: string): CommandError {
  return new CommandError("ConfigUnusable", visible(message));
}
