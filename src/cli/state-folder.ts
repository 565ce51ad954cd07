/**
 * Where the command keeps what it must remember between runs: transfers that are unfinished and those that are finished.
 *
 * The first of these that can be used, made with mode 700 when it is not there:
 *
 *   --state DIR, $GROOVEWAY_STATE        when given, only this one
 *   $XDG_STATE_HOME/grooveway            when the variable is an absolute path
 *   ~/.local/state/grooveway             Windows: %LOCALAPPDATA%\grooveway
 *   .grooveway in the folder for files   without a usable home, as in a container; the user is told once
 *
 * @module
 */
import { access, constants } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { makeFolders } from "./files/file-system.ts";
import { CommandError } from "./output.ts";

/** The folder of this name beside received files: unfinished parts, and state when there is no other place for it. */
export const BESIDE = ".grooveway";

export interface StateFolderOptions {
  /** The value of --state. */
  readonly state?: string | undefined;
  /** The folder that received files go to; without one, state that has no home is not kept. */
  readonly beside?: string | undefined;
  /** `process.env` by default. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface StateFolder {
  /** Absolute, exists and can be written to; undefined when there is no place for state. */
  readonly path: string | undefined;
  /** A line for the user, when state is not where one would look for it. */
  readonly notice: string | undefined;
}

/**
 * Finds the state folder, and makes it.
 *
 * @throws CommandError CannotWrite when --state or GROOVEWAY_STATE names a folder that cannot be used
 */
export async function openStateFolder(options: StateFolderOptions = {}): Promise<StateFolder> {
  const env = options.env ?? process.env;
  const named = options.state ?? filled(env.GROOVEWAY_STATE);
  if (named !== undefined) {
    const problem = await unusable(named);
    if (problem === undefined) return { path: resolve(named), notice: undefined };
    const where = options.state === undefined ? "GROOVEWAY_STATE" : "--state";
    throw new CommandError("CannotWrite", `cannot use ${named} as the state folder (${problem}): change ${where}`);
  }
  for (const path of homes(env)) if ((await unusable(path)) === undefined) return { path, notice: undefined };
  if (options.beside !== undefined) {
    const path = resolve(options.beside, BESIDE);
    if ((await unusable(path)) === undefined) {
      return { path, notice: `no home folder can be written to: state is kept in ${path}; --state DIR changes that` };
    }
  }
  return {
    path: undefined,
    notice: "no home folder can be written to: an interrupted transfer will not go on; --state DIR changes that",
  };
}

/** Node's own `homedir()` throws for a user without an entry in the list of users; the variables are what counts. */
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

/** Why a folder cannot be used; undefined when it can. */
async function unusable(path: string): Promise<string | undefined> {
  try {
    await makeFolders(path, 0o700);
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
