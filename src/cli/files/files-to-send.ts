/**
 * Expands the PATHs of `grooveway send` to files, each with its name at the recipient. Folders are walked. Symbolic
 * links are neither sent nor followed. Anything that is not a regular file is reported by name.
 *
 * Paths are bytes: a name that is not valid UTF-8 can be opened only by its bytes.
 *
 * @module
 */
import * as fs from "node:fs";
import { constants, lstatSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { type Callback, call, type DiskPace } from "./disk-pace.ts";

/** A regular file to send. */
export interface FileToSend {
  readonly path: Buffer;
  /** Name at the recipient: that of the PATH, followed by the relative path below it, with slashes. */
  readonly name: string;
  /** Size in bytes when found. It may differ when the file is read; files in /proc report 0. */
  readonly size: number;
  /** Real path that the file must have, to detect a folder replaced by a link; undefined for a PATH itself. */
  readonly place: Buffer | undefined;
}

/** A result of the walk: `skipped` is expected, `failed` should have been sent. Texts are safe for a terminal. */
export type Finding =
  | { readonly type: "file"; readonly file: FileToSend }
  | { readonly type: "skipped"; readonly path: string; readonly why: string }
  | { readonly type: "failed"; readonly path: string; readonly error: CommandError };

const SLASH = Buffer.from("/");

/**
 * Yields the files under a PATH, sorted by name.
 *
 * @param name replaces the last component of the path
 */
export async function* filesAt(path: string, name?: string): AsyncGenerator<Finding> {
  const absolute = resolve(path);
  const shown = visible(path);
  const named = name ?? basename(absolute);
  let found: Stats;
  let place: Buffer;
  try {
    found = lstatSync(absolute);
    place = joined(
      Buffer.from(realpathSync(dirname(absolute), { encoding: "buffer" })),
      Buffer.from(basename(absolute)),
    );
  } catch (error) {
    yield { type: "failed", path: shown, error: cannotRead(shown, error) };
    return;
  }
  if (found.isSymbolicLink()) {
    yield { type: "failed", path: shown, error: linkRefused(shown, absolute) };
  } else if (found.isDirectory()) {
    yield* filesUnder({ path: Buffer.from(absolute), name: named, place });
  } else if (found.isFile()) {
    yield { type: "file", file: { path: Buffer.from(absolute), name: named, size: found.size, place: undefined } };
  } else {
    yield { type: "failed", path: shown, error: specialRefused(shown, found) };
  }
}

interface Folder {
  readonly path: Buffer;
  readonly name: string;
  readonly place: Buffer;
}

async function* filesUnder(top: Folder): AsyncGenerator<Finding> {
  // A stack: the next folder is last.
  const folders = [top];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    let entries: Buffer[];
    try {
      entries = await readdir(folder.path, { encoding: "buffer" });
    } catch (error) {
      const path = visible(String(folder.path));
      yield { type: "failed", path, error: cannotRead(path, error) };
      continue;
    }
    entries.sort(Buffer.compare);
    const inside: Folder[] = [];
    for (const entry of entries) {
      const path = joined(folder.path, entry);
      const shown = visible(String(path));
      const name = folder.name === "" ? String(entry) : `${folder.name}/${String(entry)}`;
      const place = joined(folder.place, entry);
      let found: Stats;
      try {
        found = lstatSync(path);
      } catch (error) {
        yield { type: "failed", path: shown, error: cannotRead(shown, error) };
        continue;
      }
      if (found.isFile()) yield { type: "file", file: { path, name, size: found.size, place } };
      else if (found.isDirectory()) inside.push({ path, name, place });
      else if (found.isSymbolicLink()) yield { type: "skipped", path: shown, why: "is a symbolic link" };
      else yield { type: "skipped", path: shown, why: `is ${kindOf(found)}` };
    }
    folders.push(...inside.reverse());
  }
}

function joined(folder: Buffer, entry: Buffer): Buffer {
  return folder.at(-1) === SLASH[0] ? Buffer.concat([folder, entry]) : Buffer.concat([folder, SLASH, entry]);
}

/** The longest read that may be done at once: copying it takes a few microseconds. */
const SMALL_READ = 64 * 1024;

/** A file open for reading. What its status and its end need is in memory while it is open. */
export class SourceFile {
  readonly fd: number;
  readonly #pace: DiskPace;

  constructor(fd: number, pace: DiskPace) {
    this.fd = fd;
    this.#pace = pace;
  }

  /** Reads up to a number of bytes at a position. Returns how many were read; 0 at the end. */
  read(into: Buffer, at: number, most: number, position: number): Promise<number> {
    const onThread = (done: Callback<number>) => fs.read(this.fd, into, at, most, position, done);
    if (most > SMALL_READ) return call(onThread);
    return this.#pace.call(() => fs.readSync(this.fd, into, at, most, position), onThread);
  }

  stat(): Stats {
    return fs.fstatSync(this.fd);
  }

  close(): void {
    fs.closeSync(this.fd);
  }
}

/** A file open for reading, and its status. */
export interface OpenFile {
  readonly file: SourceFile;
  readonly found: Stats;
}

/** O_NOFOLLOW refuses symbolic links. O_NONBLOCK prevents a hang if a pipe has replaced the file. */
const OPEN = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/**
 * Opens a file found earlier. Checks that it is still a regular file in the place that was walked.
 *
 * @throws CommandError CannotRead
 */
export async function openToSend(
  { path, place }: Pick<FileToSend, "path" | "place">,
  pace: DiskPace,
): Promise<OpenFile> {
  const shown = visible(String(path));
  let file: SourceFile;
  try {
    const fd = await pace.call(
      () => fs.openSync(path, OPEN),
      (done) => fs.open(path, OPEN, done),
    );
    file = new SourceFile(fd, pace);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ELOOP") throw linkRefused(shown, path);
    throw cannotRead(shown, error);
  }
  try {
    const found = file.stat();
    if (!found.isFile()) throw specialRefused(shown, found);
    if (place !== undefined && !(await liesAt(file, path, place))) {
      throw new CommandError("CannotRead", `${shown}, or a folder in its path, was moved while it was being sent`);
    }
    return { file, found };
  } catch (error) {
    file.close();
    throw error instanceof CommandError ? error : cannotRead(shown, error);
  }
}

/** Linux reports the path of an open file. Elsewhere the path is resolved again, which misses only a double change. */
async function liesAt({ fd }: SourceFile, path: Buffer, place: Buffer): Promise<boolean> {
  let real: Buffer;
  try {
    real = readlinkSync(`/proc/self/fd/${fd}`, { encoding: "buffer" });
  } catch {
    real = await realpath(path, { encoding: "buffer" });
  }
  return place.equals(real);
}

/**
 * Returns the error for a file that cannot be read.
 *
 * @param path escaped for a terminal
 */
export function cannotRead(path: string, error: unknown): CommandError {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return new CommandError("CannotRead", `there is no file ${path}: check the path`);
    case "EACCES":
    case "EPERM":
      return new CommandError("CannotRead", `cannot read ${path}: this user may not read it (${code})`);
    case "ENAMETOOLONG":
      return new CommandError("CannotRead", `cannot read ${path}: the path is too long for this system`);
    case "EMFILE":
    case "ENFILE":
      return new CommandError("CannotRead", `cannot read ${path}: too many files are open; raise ulimit -n (${code})`);
    default:
      return new CommandError("CannotRead", `cannot read ${path} (${code})`);
  }
}

function linkRefused(shown: string, path: string | Buffer): CommandError {
  let target = "its target";
  try {
    target = visible(readlinkSync(path));
  } catch {
    // It has been replaced since.
  }
  return new CommandError("CannotRead", `${shown} is a symbolic link, which is not followed: name ${target} instead`);
}

function specialRefused(shown: string, found: Stats): CommandError {
  const cure = "pipe its contents to grooveway send ADDRESS - --name NAME";
  return new CommandError("CannotRead", `${shown} is ${kindOf(found)}, not a file: ${cure}`);
}

function kindOf(found: Stats): string {
  if (found.isFIFO()) return "a pipe";
  if (found.isSocket()) return "a socket";
  if (found.isCharacterDevice() || found.isBlockDevice()) return "a device";
  if (found.isDirectory()) return "a folder";
  return "something else";
}
