/**
 * Locates the folder for state kept between runs: unfinished and finished transfers.
 *
 * The first usable one wins. It is created with mode 700 if missing:
 *
 *   --state DIR, $GROOVEWAY_STATE        if given, no other is tried
 *   $XDG_STATE_HOME/grooveway            if the variable is an absolute path
 *   ~/.local/state/grooveway             Windows: %LOCALAPPDATA%\grooveway
 *   .grooveway in the folder for files   without a usable home, as in a container; the command says so once
 *
 * @module
 */
import { access, constants } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { CommandError } from "./command-error.ts";
import { makeFolders } from "./files/file-system.ts";
import { wordsOf } from "./files/path-problem.ts";

/** Folder beside received files: holds unfinished parts, and state if there is no other place for it. */
export const BESIDE = ".grooveway";

export interface StateFolderOptions {
  /** The value of --state. */
  readonly state?: string | undefined;
  /** The folder for received files. If undefined, state is not kept when there is no usable home. */
  readonly beside?: string | undefined;
  /** Default: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface StateFolder {
  /** Absolute path of an existing, writable folder; undefined if there is none. */
  readonly path: string | undefined;
  /** A line for the user, if state is in an unexpected place. */
  readonly notice: string | undefined;
}

/**
 * Finds or creates the state folder.
 *
 * @throws CommandError CannotWrite if --state or GROOVEWAY_STATE names a folder that cannot be used
 */
export async function openStateFolder(options: StateFolderOptions = {}): Promise<StateFolder> {
  const env = options.env ?? process.env;
  const named = options.state ?? filled(env.GROOVEWAY_STATE);
  if (named !== undefined) {
    const problem = await unusable(named);
    if (problem === undefined) return { path: resolve(named), notice: undefined };
    const where = options.state === undefined ? "GROOVEWAY_STATE" : "--state";
    throw new CommandError("CannotWrite", `cannot use ${named} as the state folder: ${problem}: change ${where}`);
  }
  for (const path of homes(env)) if ((await unusable(path)) === undefined) return { path, notice: undefined };
  if (options.beside !== undefined) {
    const path = resolve(options.beside, BESIDE);
    if ((await unusable(path)) === undefined) {
      return { path, notice: `no writable home folder: state is kept in ${path}; choose another with --state DIR` };
    }
  }
  return {
    path: undefined,
    notice: "no writable home folder: an interrupted transfer cannot be continued; choose a folder with --state DIR",
  };
}

/** The folder that is used if it can be, without a look at the disk; undefined if there is no home. */
export function likelyStateFolder({ state, env = process.env }: StateFolderOptions): string | undefined {
  const named = state ?? filled(env.GROOVEWAY_STATE);
  return named === undefined ? homes(env)[0] : resolve(named);
}

/** Uses the environment, because `homedir()` throws for a user without a passwd entry. */
function homes(env: Readonly<Record<string, string | undefined>>): string[] {
  const candidates =
    process.platform === "win32"
      ? [env.LOCALAPPDATA && join(env.LOCALAPPDATA, "grooveway")]
      : [
          env.XDG_STATE_HOME && join(env.XDG_STATE_HOME, "grooveway"),
          env.HOME && join(env.HOME, ".local", "state", "grooveway"),
        ];
  return candidates.filter((path): path is string => path !== undefined && path !== "" && isAbsolute(path));
}

function filled(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

/** Returns why a folder cannot be used, or undefined if it can. */
async function unusable(path: string): Promise<string | undefined> {
  try {
    await makeFolders(path, 0o700);
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return wordsOf(error);
  }
}
