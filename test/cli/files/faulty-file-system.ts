/**
 * An in-memory file system that tracks what is on its disk: after a power cut, anything written or created since the
 * last sync may be there, or not, or in part. It fails and crashes at any call, and concurrent calls take effect in any
 * order.
 */
import type { Entry, FileSystem, Folder, OpenFile, OpenOptions } from "../../../src/cli/files/file-system.ts";

/** Random numbers from 0 to 1; the same seed gives the same sequence. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A change of a file that is not yet on the disk. */
type Change = { readonly at: number; readonly bytes: Uint8Array } | { readonly size: number };

class File {
  readonly id: string;
  bytes = new Uint8Array(0);
  durable = new Uint8Array(0);
  unsynced: Change[] = [];
  mode: number;
  modified: number;

  constructor(id: string, mode: number, modified: number) {
    this.id = id;
    this.mode = mode;
    this.modified = modified;
  }

  change(change: Change): void {
    this.bytes = changed(this.bytes, change);
    this.unsynced.push(change);
  }

  sync(): void {
    this.durable = this.bytes.slice();
    this.unsynced = [];
  }

  /** Of changes not yet on the disk, any may survive. */
  cut(random: () => number): void {
    let bytes = this.durable;
    for (const change of this.unsynced) {
      if (random() < 0.5) continue;
      const part =
        "bytes" in change ? { ...change, bytes: change.bytes.slice(0, random() * change.bytes.length + 1) } : change;
      bytes = changed(bytes, part);
    }
    this.bytes = bytes.slice();
    this.sync();
  }
}

class Directory {
  readonly id: string;
  names = new Map<string, File | Directory>();
  durable = new Map<string, File | Directory>();

  constructor(id: string) {
    this.id = id;
  }
}

/** A change of one or two folders, which reaches the disk as a whole or not at all. */
interface Operation {
  readonly effects: readonly {
    readonly folder: Directory;
    readonly name: string;
    readonly is: File | Directory | undefined;
  }[];
}

function changed(bytes: Uint8Array, change: Change): Uint8Array<ArrayBuffer> {
  if ("size" in change) {
    const cut = new Uint8Array(change.size);
    cut.set(bytes.subarray(0, change.size));
    return cut;
  }
  const grown = new Uint8Array(Math.max(bytes.length, change.at + change.bytes.length));
  grown.set(bytes);
  grown.set(change.bytes, change.at);
  return grown;
}

export interface Fault {
  /** The number of the call at which it starts. */
  readonly call: number;
  /** How many calls it lasts. */
  readonly calls: number;
  /** `short`: fewer bytes are written than requested; otherwise an error code. */
  readonly code: string;
}

export class FaultyFileSystem {
  readonly #random: () => number;
  readonly #root = new Directory("0");
  #pending: Operation[] = [];
  #ids = 0;
  #calls = 0;
  #crashAt = Number.POSITIVE_INFINITY;
  /** Files and folders opened before a crash belong to a process that no longer exists. */
  #epoch = 0;
  #crashed = Promise.withResolvers<void>();
  faults: readonly Fault[] = [];
  /** Whether hard links are supported. */
  readonly links: boolean;
  now = 1_700_000_000_000;

  constructor({ seed, links = true }: { readonly seed: number; readonly links?: boolean }) {
    this.#random = randomOf(seed);
    this.links = links;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Resolves when it has crashed; calls made before are never answered. */
  get crashed(): Promise<void> {
    return this.#crashed.promise;
  }

  crashAfter(calls: number): void {
    this.#crashAt = this.#calls + calls;
  }

  /** Kills the process that uses it; with a power cut, changes that are not on the disk may be lost. */
  restart(powerCut: boolean): void {
    this.#epoch += 1;
    this.#crashAt = Number.POSITIVE_INFINITY;
    this.#crashed = Promise.withResolvers();
    if (!powerCut) return;
    for (const operation of this.#pending) if (this.#random() < 0.5) persist(operation);
    this.#pending = [];
    const cut = (folder: Directory) => {
      folder.names = new Map(folder.durable);
      for (const is of folder.names.values()) {
        if (is instanceof File) is.cut(this.#random);
        else cut(is);
      }
    };
    cut(this.#root);
  }

  /** Contents by path below a folder. */
  tree(path: string): Map<string, string> {
    const found = new Map<string, string>();
    const walk = (folder: Directory, above: string) => {
      for (const [name, is] of folder.names) {
        if (is instanceof Directory) walk(is, `${above}${name}/`);
        else found.set(`${above}${name}`, Buffer.from(is.bytes).toString("latin1"));
      }
    };
    walk(this.#directory(path, false), "");
    return found;
  }

  /** Creates a file of the user on the disk. */
  put(path: string, contents: string): void {
    const at = path.lastIndexOf("/");
    const folder = this.#directory(path.slice(0, at), true);
    const file = new File(this.#id(), 0o644, this.now);
    file.change({ at: 0, bytes: Buffer.from(contents, "latin1") });
    file.sync();
    persist({ effects: [{ folder, name: path.slice(at + 1), is: file }] });
    folder.names.set(path.slice(at + 1), file);
  }

  /** The file system as seen by a new process. */
  process(): FileSystem {
    const view = { disk: this, epoch: this.#epoch };
    return {
      openFolder: (path, make) =>
        this.call(view, "open", () => new MemoryFolder(view, this.#directory(path, make), path)),
    };
  }

  #directory(path: string, make: boolean): Directory {
    let folder = this.#root;
    for (const name of path.split("/").filter((one) => one !== "")) {
      let next = folder.names.get(name);
      if (next === undefined && make) {
        next = new Directory(this.#id());
        folder.names.set(name, next);
        persist({ effects: [{ folder, name, is: next }] });
      }
      if (next === undefined) throw fail("ENOENT");
      if (next instanceof File) throw fail("ENOTDIR");
      folder = next;
    }
    return folder;
  }

  #id(): string {
    this.#ids += 1;
    return String(this.#ids);
  }

  /** Runs a call at some time before its answer, or not at all. */
  async call<T>({ epoch }: Process, kind: string, effect: (partly: number) => T): Promise<T> {
    await this.#ticks();
    if (epoch !== this.#epoch) return never();
    this.#calls += 1;
    if (this.#calls >= this.#crashAt) {
      // It may have taken effect in full or in part.
      if (this.#calls === this.#crashAt && this.#random() < 0.5) {
        try {
          effect(this.#random());
        } catch {
          // Its result is never reported.
        }
      }
      this.#crashed.resolve();
      return never();
    }
    const fault = this.faults.find(({ call, calls }) => this.#calls >= call && this.#calls < call + calls);
    let value: T;
    if (fault === undefined || kind === "close") value = effect(1);
    else if (fault.code === "short") value = effect(kind === "write" ? this.#random() : 1);
    else {
      if (kind === "write" && this.#random() < 0.5) effect(this.#random());
      throw fail(fault.code);
    }
    await this.#ticks();
    return epoch === this.#epoch ? value : never();
  }

  async #ticks(): Promise<void> {
    for (let left = Math.floor(this.#random() * 4); left > 0; left -= 1) await undefined;
  }

  make(folder: Directory, name: string, is: File | Directory): void {
    this.change({ effects: [{ folder, name, is }] });
  }

  change(operation: Operation): void {
    for (const { folder, name, is } of operation.effects) {
      if (is === undefined) folder.names.delete(name);
      else folder.names.set(name, is);
    }
    this.#pending.push(operation);
  }

  syncFolder(folder: Directory): void {
    // When a change is on the disk, so are all earlier ones of the same names.
    const names = new Set<string>();
    const due = new Set<Operation>();
    for (const operation of this.#pending.toReversed()) {
      const touched = operation.effects.map((effect) => `${effect.folder.id}/${effect.name}`);
      if (!operation.effects.some((effect) => effect.folder === folder) && !touched.some((name) => names.has(name))) {
        continue;
      }
      due.add(operation);
      for (const name of touched) names.add(name);
    }
    for (const operation of this.#pending) if (due.has(operation)) persist(operation);
    this.#pending = this.#pending.filter((operation) => !due.has(operation));
  }

  newFile(mode: number): File {
    return new File(this.#id(), mode, this.now);
  }

  newDirectory(): Directory {
    return new Directory(this.#id());
  }

  linksOf(file: File): number {
    let links = 0;
    const walk = (folder: Directory) => {
      for (const is of folder.names.values()) {
        if (is instanceof Directory) walk(is);
        else if (is === file) links += 1;
      }
    };
    walk(this.#root);
    return links;
  }
}

/** A process that uses the file system until the next crash. */
interface Process {
  readonly disk: FaultyFileSystem;
  readonly epoch: number;
}

function persist({ effects }: Operation): void {
  for (const { folder, name, is } of effects) {
    if (is === undefined) folder.durable.delete(name);
    else folder.durable.set(name, is);
  }
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}

function fail(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

class MemoryFile implements OpenFile {
  readonly #process: Process;
  readonly #disk: FaultyFileSystem;
  readonly #file: File;
  #closed = false;

  constructor(process: Process, file: File) {
    this.#process = process;
    this.#disk = process.disk;
    this.#file = file;
  }

  #call<T>(kind: string, effect: (partly: number) => T): Promise<T> {
    if (this.#closed) return Promise.reject(fail("EBADF"));
    return this.#disk.call(this.#process, kind, effect);
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    const given = bytes.slice();
    return this.#call("write", (partly) => this.#put(given, position, partly));
  }

  append(bytes: Uint8Array): Promise<number> {
    const given = bytes.slice();
    return this.#call("write", (partly) => this.#put(given, this.#file.bytes.length, partly));
  }

  #put(bytes: Uint8Array, at: number, partly: number): number {
    const written = bytes.subarray(0, Math.ceil(partly * bytes.length));
    this.#file.change({ at, bytes: written });
    this.#file.modified = this.#disk.now;
    return written.length;
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return this.#call("read", () => {
      const found = this.#file.bytes.subarray(position, position + into.length);
      into.set(found);
      return found.length;
    });
  }

  size(): Promise<number> {
    return this.#call("stat", () => this.#file.bytes.length);
  }

  truncate(size: number): Promise<void> {
    return this.#call("truncate", () => this.#file.change({ size }));
  }

  datasync(): Promise<void> {
    return this.#call("sync", () => this.#file.sync());
  }

  sync(): Promise<void> {
    return this.datasync();
  }

  setMode(mode: number): Promise<void> {
    return this.#call("chmod", () => {
      this.#file.mode = mode;
    });
  }

  setModified(milliseconds: number): Promise<void> {
    return this.#call("utimes", () => {
      this.#file.modified = milliseconds;
    });
  }

  close(): Promise<void> {
    const closing = this.#call("close", () => undefined);
    this.#closed = true;
    return closing;
  }
}

class MemoryFolder implements Folder {
  readonly path: string;
  readonly id: string;
  readonly #process: Process;
  readonly #disk: FaultyFileSystem;
  readonly #folder: Directory;
  #closed = false;

  constructor(process: Process, folder: Directory, path: string) {
    this.#process = process;
    this.#disk = process.disk;
    this.#folder = folder;
    this.path = path;
    this.id = folder.id;
  }

  #call<T>(kind: string, effect: () => T): Promise<T> {
    if (this.#closed) return Promise.reject(fail("EBADF"));
    return this.#disk.call(this.#process, kind, effect);
  }

  #at(name: string): File | Directory {
    const is = this.#folder.names.get(name);
    if (is === undefined) throw fail("ENOENT");
    return is;
  }

  entry(name: string): Promise<Entry | undefined> {
    return this.#call("stat", () => {
      const is = this.#folder.names.get(name);
      if (is === undefined) return undefined;
      if (is instanceof Directory) return { kind: "folder", size: 0, id: is.id, links: 1, modified: 0 };
      const { id, bytes, modified } = is;
      return { kind: "file", size: bytes.length, id, links: this.#disk.linksOf(is), modified };
    });
  }

  names(): Promise<string[]> {
    return this.#call("readdir", () => [...this.#folder.names.keys()]);
  }

  open(name: string, { create }: OpenOptions = {}): Promise<OpenFile> {
    return this.#call("open", () => {
      if (create === undefined) {
        const is = this.#at(name);
        if (is instanceof Directory) throw fail("EISDIR");
        return new MemoryFile(this.#process, is);
      }
      if (this.#folder.names.has(name)) throw fail("EEXIST");
      const file = this.#disk.newFile(create);
      this.#disk.make(this.#folder, name, file);
      return new MemoryFile(this.#process, file);
    });
  }

  openFolder(name: string): Promise<Folder> {
    return this.#call("open", () => {
      const is = this.#at(name);
      if (is instanceof File) throw fail("ENOTDIR");
      return new MemoryFolder(this.#process, is, `${this.path}/${name}`);
    });
  }

  makeFolder(name: string): Promise<void> {
    return this.#call("mkdir", () => {
      if (this.#folder.names.has(name)) throw fail("EEXIST");
      this.#disk.make(this.#folder, name, this.#disk.newDirectory());
    });
  }

  link(name: string, to: Folder, as: string): Promise<void> {
    return this.#call("link", () => {
      if (!this.#disk.links) throw fail("EPERM");
      const is = this.#at(name);
      const target = (to as MemoryFolder).#folder;
      if (target.names.has(as)) throw fail("EEXIST");
      this.#disk.make(target, as, is);
    });
  }

  rename(name: string, to: Folder, as: string): Promise<void> {
    return this.#call("rename", () => {
      const is = this.#at(name);
      const target = (to as MemoryFolder).#folder;
      this.#disk.change({
        effects: [
          { folder: this.#folder, name, is: undefined },
          { folder: target, name: as, is },
        ],
      });
    });
  }

  remove(name: string): Promise<void> {
    return this.#call("unlink", () => {
      this.#at(name);
      this.#disk.change({ effects: [{ folder: this.#folder, name, is: undefined }] });
    });
  }

  sync(): Promise<void> {
    return this.#call("sync", () => this.#disk.syncFolder(this.#folder));
  }

  close(): Promise<void> {
    const closing = this.#call("close", () => undefined);
    this.#closed = true;
    return closing;
  }
}
