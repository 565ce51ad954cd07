/**
 * Explains why a path named by an option cannot be written, in words that say what to change.
 *
 * @module
 */
import { access, constants, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { CommandError } from "../command-error.ts";

const WORDS: Readonly<Record<string, string>> = {
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
  EROFS: "the file system is read-only",
  ENOTDIR: "part of the path is a file, not a folder",
  EEXIST: "part of the path is a file, not a folder",
  EISDIR: "it is a folder",
  ENOENT: "nothing can be created there",
  ENOSPC: "the disk is full",
  EDQUOT: "this user's disk quota is used up",
  ENAMETOOLONG: "its name is too long",
  ELOOP: "its symbolic links form a loop",
};

/** SQLITE_CANTOPEN: SQLite's only error when it cannot create or open a file. */
const CANNOT_OPEN = 14;

/** Reports whether SQLite could not create or open a file. */
export function isCannotOpen(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === CANNOT_OPEN;
}

/** Explains an error of the system or of SQLite. */
export function wordsOf(error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  if (isCannotOpen(error)) return "no file can be created there";
  const words = WORDS[code];
  return words === undefined ? message : `${words} (${code})`;
}

/** Returns why files cannot be created in an existing folder, or undefined if they apparently can. */
export async function folderProblem(path: string): Promise<string | undefined> {
  try {
    if (!(await stat(path)).isDirectory()) return `${path} is a file, not a folder`;
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return wordsOf(error);
  }
}

/** Returns why an existing file cannot be written, or undefined if it can, or does not exist. */
export async function fileProblem(path: string): Promise<string | undefined> {
  try {
    await access(path, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT" ? undefined : `${path} cannot be written: ${wordsOf(error)}`;
  }
}

export const OTHER_STORE = "choose another --store FILE";

/**
 * Error for a store that cannot be used.
 *
 * @param why the problem, and what to change
 */
export function cannotUseStore(file: string, why: string): CommandError {
  return new CommandError("CannotWrite", `cannot use ${file} as the store: ${why}`);
}

/**
 * Checks the path of a relay's store before it is opened.
 *
 * @throws CommandError CannotWrite
 */
export async function checkStore(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory()) {
    throw cannotUseStore(file, `it is a folder: name a file in it, such as --store ${join(file, "relay.db")}`);
  }
  const folder = dirname(resolve(file));
  const there = await stat(folder).catch((error: NodeJS.ErrnoException) => error.code);
  if (there === "ENOENT") {
    throw cannotUseStore(file, `the folder ${folder} does not exist: create it, or ${OTHER_STORE}`);
  }
  // A lock and a log are created beside the store.
  const problem = (await folderProblem(folder)) ?? (await fileProblem(file)) ?? (await fileProblem(`${file}-lock`));
  if (problem !== undefined) throw cannotUseStore(file, `${problem}: ${OTHER_STORE}`);
}
