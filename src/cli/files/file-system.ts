/**
 * The file system interface for receiving files: folder handles that survive renames, and files with positioned reads,
 * writes and syncs.
 *
 * A name chosen by a sender must not lead out of the folder for files, even if another process replaces a folder by a
 * symbolic link meanwhile. So a folder is opened once, without following links, and its entries are reached through the
 * handle: `/proc/self/fd/N/name` is openat(2) for Node. Without /proc, the folder is reached by path, and compared with
 * the handle before and after each call.
 *
 * Tests use their own implementation, which can fail or crash at any call.
 *
 * @module
 */
import * as fs from "node:fs";
import { dirname, join, parse, resolve } from "node:path";
import { type Callback, call, DiskPace } from "./disk-pace.ts";

/** A directory entry. */
export interface Entry {
  readonly kind: "file" | "folder" | "link" | "other";
  readonly size: number;
  /** Equal for two names if and only if they name the same file. */
  readonly id: string;
  /** Number of hard links. */
  readonly links: number;
  /** Milliseconds since 1970. */
  readonly modified: number;
}

/** An open file. Fails with Node's errors, which have a `code`. */
export interface OpenFile {
  /** Returns the number of bytes written, which may be fewer than given. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** Writes at the end of a file opened with `append`. May write fewer bytes than given. */
  append(bytes: Uint8Array): Promise<number>;
  /** Returns the number of bytes read, which may be fewer than `into` holds; 0 at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  truncate(size: number): Promise<void>;
  /** Syncs contents and size to disk. */
  datasync(): Promise<void>;
  /** Syncs mode and times as well. */
  sync(): Promise<void>;
  setMode(mode: number): Promise<void>;
  setModified(milliseconds: number): Promise<void>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /** Create the file with this mode less the umask. Fails with EEXIST if the name is taken. */
  readonly create?: number;
  /** All writes go to the end of the file. */
  readonly append?: boolean;
}

/** An open folder. Names are single path components. */
export interface Folder {
  /** Path at the time it was opened, for display. */
  readonly path: string;
  /** Same as `Entry.id`. */
  readonly id: string;
  /** Returns undefined if the name does not exist. Does not follow links. */
  entry(name: string): Promise<Entry | undefined>;
  names(): Promise<string[]>;
  /** Opens a file for reading and writing. Fails with ELOOP on a symbolic link. */
  open(name: string, options?: OpenOptions): Promise<OpenFile>;
  /** Fails with ELOOP or ENOTDIR on a symbolic link or a file. */
  openFolder(name: string): Promise<Folder>;
  makeFolder(name: string, mode: number): Promise<void>;
  /** Adds a hard link. Fails with EEXIST if the new name is taken. */
  link(name: string, to: Folder, as: string): Promise<void>;
  /** Replaces an existing file. */
  rename(name: string, to: Folder, as: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes created, linked, renamed and removed entries durable. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface FileSystem {
  /**
   * Opens a folder by a path from the user; follows links.
   *
   * @param make create the folder and its parents if missing
   */
  openFolder(path: string, make: boolean): Promise<Folder>;
}

/** Writes all bytes, looping over partial writes. */
export async function writeAll(file: OpenFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += await some(file.write(bytes.subarray(done), position + done));
}

/** Appends all bytes, looping over partial writes. */
export async function appendAll(file: OpenFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += await some(file.append(bytes.subarray(done)));
}

/** Rejects a write of zero bytes, which would loop forever. */
async function some(writing: Promise<number>): Promise<number> {
  const written = await writing;
  if (written > 0) return written;
  throw Object.assign(new Error("the file system writes nothing"), { code: "EIO" });
}

/** Reads until `into` is full or the file ends. Returns the number of bytes read. */
export async function readFully(file: OpenFile, into: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const read = await file.read(into.subarray(done), position + done);
    if (read === 0) break;
    done += read;
  }
  return done;
}

/** Returns the code of a system error, such as `ENOSPC`; undefined for other errors. */
export function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** Windows has neither flag. There, opening a link as a file or folder fails anyway. */
const NOFOLLOW = fs.constants.O_NOFOLLOW ?? 0;
const DIRECTORY = fs.constants.O_DIRECTORY ?? 0;

/** Errors from systems that cannot sync folders. There, names are durable without. */
const NO_FOLDER_SYNC = new Set(["EINVAL", "EPERM", "EISDIR", "ENOTSUP", "EBADF", "EACCES"]);

function run(start: (callback: fs.NoParamCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null || error === undefined ? resolve() : reject(error)));
  });
}

/** Calls a function of node:fs that does not wait for the disk. A thread for it would cost several times as much. */
function at<T>(use: () => T): Promise<T> {
  try {
    return Promise.resolve(use());
  } catch (error) {
    return Promise.reject(error);
  }
}

function open(path: string, flags: number, mode?: number): Promise<number> {
  return call((done) => fs.open(path, flags, mode, done));
}

function openAtPace(pace: DiskPace, path: string, flags: number, mode?: number): Promise<number> {
  return pace.call(
    () => fs.openSync(path, flags, mode),
    (done) => fs.open(path, flags, mode, done),
  );
}

function entryOf(stats: fs.BigIntStats): Entry {
  return {
    kind: stats.isFile() ? "file" : stats.isDirectory() ? "folder" : stats.isSymbolicLink() ? "link" : "other",
    size: Number(stats.size),
    id: `${stats.dev}:${stats.ino}`,
    links: Number(stats.nlink),
    modified: Number(stats.mtimeMs),
  };
}

/**
 * Reads of at most this many bytes are done at once: nearly all of them read back what was just written, which is in
 * memory. Writes of as much go to memory too, if the disk keeps up. Longer ones would hold up everything else.
 */
const SMALL = 16 * 1024;

/** A descriptor that no file has: using it gives EBADF. */
const CLOSED = 0x7fffffff;

class NodeFile implements OpenFile {
  #fd: number;
  readonly #pace: DiskPace;

  constructor(fd: number, pace: DiskPace) {
    this.#fd = fd;
    this.#pace = pace;
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    const onThread = (done: Callback<number>) => fs.write(this.#fd, bytes, 0, bytes.length, position, done);
    if (bytes.length > SMALL) return call(onThread);
    return this.#pace.call(() => fs.writeSync(this.#fd, bytes, 0, bytes.length, position), onThread);
  }

  append(bytes: Uint8Array): Promise<number> {
    return call((done) => fs.write(this.#fd, bytes, 0, bytes.length, null, done));
  }

  read(into: Uint8Array, position: number): Promise<number> {
    if (into.length <= SMALL) return at(() => fs.readSync(this.#fd, into, 0, into.length, position));
    return call((done) => fs.read(this.#fd, into, 0, into.length, position, done));
  }

  async size(): Promise<number> {
    return (await call<fs.Stats>((done) => fs.fstat(this.#fd, done))).size;
  }

  truncate(size: number): Promise<void> {
    return run((done) => fs.ftruncate(this.#fd, size, done));
  }

  datasync(): Promise<void> {
    return run((done) => fs.fdatasync(this.#fd, done));
  }

  sync(): Promise<void> {
    return run((done) => fs.fsync(this.#fd, done));
  }

  setMode(mode: number): Promise<void> {
    return run((done) => fs.fchmod(this.#fd, mode, done));
  }

  setModified(milliseconds: number): Promise<void> {
    const seconds = milliseconds / 1000;
    return this.#pace.run(
      () => fs.futimesSync(this.#fd, seconds, seconds),
      (done) => fs.futimes(this.#fd, seconds, seconds, done),
    );
  }

  close(): Promise<void> {
    const fd = this.#fd;
    // The system may reuse the descriptor for another file.
    this.#fd = CLOSED;
    return at(() => fs.closeSync(fd));
  }
}

class NodeFolder implements Folder {
  readonly path: string;
  readonly id: string;
  #fd: number;
  /** Path prefix of its entries: through the handle if /proc exists, otherwise by path. */
  #way: string;
  readonly #pace: DiskPace;

  private constructor(path: string, id: string, fd: number, way: string, pace: DiskPace) {
    this.path = path;
    this.id = id;
    this.#fd = fd;
    this.#way = way;
    this.#pace = pace;
  }

  /** @param pace of the folder above; by default the folder is on a disk of its own */
  static async open(way: string, path: string, flags: number, pace = new DiskPace()): Promise<NodeFolder> {
    const fd = await open(way, fs.constants.O_RDONLY | DIRECTORY | flags);
    try {
      const { id, kind } = entryOf(await call<fs.BigIntStats>((done) => fs.fstat(fd, { bigint: true }, done)));
      if (kind !== "folder") throw Object.assign(new Error(`${path} is not a folder`), { code: "ENOTDIR" });
      const through = `/proc/self/fd/${fd}`;
      if ((await statId(through)) === id) return new NodeFolder(path, id, fd, through, pace);
      return new NodeFolder(path, id, fd, path, pace);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** Calls `use` with the path of an entry. Without /proc, checks before and after that the folder was not replaced. */
  async #on<T>(name: string, use: (path: string) => Promise<T>): Promise<T> {
    const path = join(this.#way, checkedName(name));
    if (this.#way !== this.path) return use(path);
    await this.#check();
    const value = await use(path);
    await this.#check();
    return value;
  }

  async #check(): Promise<void> {
    const found = await call<fs.BigIntStats>((done) => fs.lstat(this.#way, { bigint: true }, done));
    if (entryOf(found).id === this.id) return;
    throw Object.assign(new Error(`${this.path} was replaced by something else`), { code: "ELOOP" });
  }

  async entry(name: string): Promise<Entry | undefined> {
    try {
      return await this.#on(name, async (path) =>
        entryOf(
          await this.#pace.call<fs.BigIntStats>(
            () => fs.lstatSync(path, { bigint: true }),
            (done) => fs.lstat(path, { bigint: true }, done),
          ),
        ),
      );
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  names(): Promise<string[]> {
    // With a trailing slash: readdir takes /proc/self/fd/N itself for a link.
    return this.#on(".", (path) => call<string[]>((done) => fs.readdir(`${path}/`, done)));
  }

  open(name: string, { create, append = false }: OpenOptions = {}): Promise<OpenFile> {
    const { O_RDWR, O_CREAT, O_EXCL, O_APPEND } = fs.constants;
    const flags = O_RDWR | NOFOLLOW | (create === undefined ? 0 : O_CREAT | O_EXCL) | (append ? O_APPEND : 0);
    return this.#on(name, async (path) => new NodeFile(await openAtPace(this.#pace, path, flags, create), this.#pace));
  }

  openFolder(name: string): Promise<Folder> {
    return this.#on(name, (path) => NodeFolder.open(path, join(this.path, name), NOFOLLOW, this.#pace));
  }

  makeFolder(name: string, mode: number): Promise<void> {
    return this.#on(name, (path) => run((done) => fs.mkdir(path, mode, done)));
  }

  link(name: string, to: Folder, as: string): Promise<void> {
    return this.#both(name, to, as, (from, path) =>
      this.#pace.run(
        () => fs.linkSync(from, path),
        (done) => fs.link(from, path, done),
      ),
    );
  }

  rename(name: string, to: Folder, as: string): Promise<void> {
    return this.#both(name, to, as, (from, path) => run((done) => fs.rename(from, path, done)));
  }

  #both(name: string, to: Folder, as: string, use: (from: string, path: string) => Promise<void>): Promise<void> {
    if (!(to instanceof NodeFolder)) throw new TypeError("a file goes from a folder of the disk to another one");
    return this.#on(name, (from) => to.#on(as, (path) => use(from, path)));
  }

  remove(name: string): Promise<void> {
    return this.#on(name, (path) =>
      this.#pace.run(
        () => fs.unlinkSync(path),
        (done) => fs.unlink(path, done),
      ),
    );
  }

  async sync(): Promise<void> {
    try {
      await run((done) => fs.fsync(this.#fd, done));
    } catch (error) {
      if (!NO_FOLDER_SYNC.has(codeOf(error) ?? "")) throw error;
    }
  }

  close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = CLOSED;
    this.#way = `/proc/self/fd/${CLOSED}`;
    return run((done) => fs.close(fd, done));
  }
}

/** Rejects names with separators. Callers sanitize names first; this is the last line of defence. */
function checkedName(name: string): string {
  if (name !== "." && (name === "" || name === ".." || /[/\0]/.test(name) || (SEPARATOR && name.includes("\\")))) {
    throw new RangeError("a name of one component is needed");
  }
  return name;
}

const SEPARATOR = process.platform === "win32";

async function statId(path: string): Promise<string | undefined> {
  try {
    return entryOf(await call<fs.BigIntStats>((done) => fs.stat(path, { bigint: true }, done))).id;
  } catch {
    return undefined;
  }
}

/**
 * Creates a folder and its parents, each durable before the next. (mkdir with `recursive` loops forever in /proc, where
 * folders can be seen but not created.)
 */
export async function makeFolders(path: string, mode = 0o777): Promise<void> {
  const absolute = resolve(path);
  const above = dirname(absolute);
  const make = async (): Promise<string | undefined> => {
    try {
      await run((done) => fs.mkdir(absolute, mode, done));
      return undefined;
    } catch (error) {
      if (await isFolder(absolute)) return "EEXIST";
      if (codeOf(error) === "EEXIST") throw Object.assign(new Error(`${path} is not a folder`), { code: "ENOTDIR" });
      if (codeOf(error) !== "ENOENT" || above === parse(absolute).root) throw error;
      return "ENOENT";
    }
  };
  let problem = await make();
  if (problem === "ENOENT") {
    await makeFolders(above, mode);
    problem = await make();
    if (problem === "ENOENT") throw Object.assign(new Error(`${path} cannot be created`), { code: "ENOENT" });
  }
  if (problem === "EEXIST") return;
  const parent = await NodeFolder.open(above, above, 0).catch(() => undefined);
  await parent?.sync();
  await parent?.close();
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await call<fs.Stats>((done) => fs.stat(path, done))).isDirectory();
  } catch {
    return false;
  }
}

/** The disk, through Node. */
export const nodeFileSystem: FileSystem = {
  async openFolder(path, make) {
    const absolute = resolve(path);
    if (make) await makeFolders(absolute);
    return NodeFolder.open(absolute, absolute, 0);
  },
};
