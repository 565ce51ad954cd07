/**
 * A folder for received files: unfinished ones in its `.grooveway`, finished ones under sanitized names.
 *
 * A finished file gets its name by link(2), which fails if the name is taken. So nothing is ever overwritten, and a
 * crash leaves the file under its old name, its new one, or both. Without hard links, an empty file reserves the name,
 * and the finished file replaces it. Folders in a name are opened one by one, never through a link.
 *
 * @module
 */
import { basename, join } from "node:path";
import { coalesced } from "../../lib/shared-run.ts";
import { collisionKey, harmlessPath, type NameRules, numbered } from "../../transfer/file-name.ts";
import { COMPONENT_BYTES } from "../../transfer/limits.ts";
import { BESIDE } from "../state-folder.ts";
import { codeOf, type FileSystem, type Folder } from "./file-system.ts";

/** The file system accepts no file of this name, even sanitized. */
export class NameRefused extends Error {
  readonly reason: "NameUnusable" | "CannotWrite";
  /** The code of the file system's error. */
  readonly code: string | undefined;

  constructor(reason: "NameUnusable" | "CannotWrite", why: string, code?: string) {
    super(why);
    this.name = "NameRefused";
    this.reason = reason;
    this.code = code;
  }
}

/** A finished file to be placed. */
export interface Placing {
  /** Its name in `work`. */
  readonly file: string;
  /** The sender's name for it. */
  readonly name: string;
  /** Records the file as finished, with its final name, before it leaves `work`, where the next run would look. */
  readonly record: (place: readonly string[]) => Promise<void>;
  /** An earlier run may have placed it already. */
  readonly recovered: boolean;
  /** Where an earlier run recorded that it would place it. */
  readonly before?: readonly string[] | undefined;
}

interface ReplaceOptions {
  readonly file: string;
  readonly at: Place;
  readonly name: string;
  readonly bytes: number;
  /** The name of an empty file that may be reserving the place. */
  readonly reserved: string | undefined;
}

/** A folder that files are placed in. */
interface Place {
  readonly folder: Folder;
  /** Names by collision key: those last read from disk, and those given since. */
  names: Map<string, Set<string>>;
  /** Names given while the folder is being read. */
  readonly given: string[];
  /** When the folder was read, and how long that took, in milliseconds. */
  read: { readonly at: number; readonly took: number };
  /** Collision keys of names that are being given right now. */
  readonly claims: Set<string>;
  /** The last number tried for each taken name. */
  readonly numbers: Map<string, number>;
  readonly sync: () => Promise<void>;
  /** Its own entry in the parent folder is on disk. */
  durable: boolean;
  /** When it was last checked that its name still leads to this folder. */
  seen: number;
  /** Number of current users. Once `letGo`, it is closed when this reaches 0. */
  users: number;
  letGo: boolean;
}

/** How long to trust what was read from a folder, in milliseconds: the user may change it meanwhile. */
const FRESH = 2000;

/** Reading a large folder again waits for this multiple of the time that reading takes. */
const READ_SHARE = 20;

/** Longest name on file systems that encrypt names, such as eCryptfs. Tried if the usual length is refused. */
const SHORT_BYTES = 143;

/** The file system has no hard links, or not for this file. */
const NO_LINKS = new Set(["EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL"]);

/** Subfolders kept open: a tree of any size must not exhaust the file descriptors. */
const OPEN_PLACES = 128;

/** The file system rejects the name itself. */
const BAD_NAME = new Set(["ENAMETOOLONG", "EINVAL", "EILSEQ", "ELOOP", "ENOTDIR", "EISDIR"]);

/** This file cannot be placed there; others may. */
const BAD_PLACE = new Set(["EACCES", "EPERM", "EXDEV", "EROFS"]);

export class OutFolder {
  /** Absolute path. */
  readonly path: string;
  /** Folder of unfinished transfers. */
  readonly work: Folder;
  readonly syncWork: () => Promise<void>;
  readonly #root: Place;
  readonly #rules: NameRules;
  readonly #now: () => number;
  /** Open subfolders by their path in the sender's terms, least recently used first. */
  readonly #places = new Map<string, Promise<Place>>();

  private constructor(path: string, root: Folder, work: Folder, rules: NameRules, now: () => number) {
    this.path = path;
    this.work = work;
    this.syncWork = coalesced(() => work.sync());
    this.#rules = rules;
    this.#now = now;
    this.#root = placeOf(root, now());
    // The user's own folder: its durability is up to its creator.
    this.#root.durable = true;
  }

  /**
   * Opens a folder for files.
   *
   * @param path absolute
   * @param make create it if missing; otherwise fails with ENOENT, also if it holds nothing unfinished
   */
  static async open(
    fileSystem: FileSystem,
    path: string,
    { make, rules, now }: { readonly make: boolean; readonly rules: NameRules; readonly now: () => number },
  ): Promise<OutFolder> {
    const root = await fileSystem.openFolder(path, make);
    try {
      if (make) {
        await root.makeFolder(BESIDE, 0o700).catch((error: unknown) => {
          if (codeOf(error) !== "EEXIST") throw error;
        });
        await root.sync();
      }
      return new OutFolder(path, root, await root.openFolder(BESIDE), rules, now);
    } catch (error) {
      await root.close();
      throw error;
    }
  }

  /**
   * Places a finished file. Resolves when its name is durable and `record` has finished. The name in `work` can then be
   * removed.
   *
   * @returns folders and name; undefined if an earlier run placed the file and it is no longer there
   * @throws NameRefused; errors of the file system if it fails
   */
  async place(placing: Placing): Promise<readonly string[] | undefined> {
    let { before } = placing;
    const record = async (place: readonly string[]): Promise<void> => {
      await placing.record(place);
      before = place;
    };
    try {
      return await this.#place({ ...placing, record }, COMPONENT_BYTES);
    } catch (error) {
      if (!(error instanceof NameRefused) || error.code !== "ENAMETOOLONG") throw error;
      return await this.#place({ ...placing, before }, SHORT_BYTES);
    }
  }

  /** Makes a name durable that an earlier run gave: that run may have been killed before its sync. */
  settle(place: readonly string[]): Promise<void> {
    return alongPlace(this.#root.folder, place, (folder) => folder.sync());
  }

  /** Removes the empty file that reserves a name which will not be used. */
  unreserve(place: readonly string[]): Promise<void> {
    return unreserve(this.#root.folder, place);
  }

  async close(): Promise<void> {
    for (const key of [...this.#places.keys()]) await this.#letGo(key);
    await this.work.close();
    await this.#root.folder.close();
  }

  async #place(placing: Placing, bytes: number): Promise<readonly string[] | undefined> {
    const components = harmlessPath(placing.name, { ...this.#rules, bytes });
    const last = components?.at(-1);
    if (components === undefined || last === undefined)
      throw new NameRefused("NameUnusable", "it has too many folders");
    const chain: Place[] = [this.#root];
    try {
      await refusable(() => this.#descend(components.slice(0, -1), bytes, chain));
      return await this.#placeIn(chain, last, bytes, placing);
    } finally {
      for (const place of chain.slice(1)) leave(place);
    }
  }

  async #placeIn(
    chain: readonly Place[],
    name: string,
    bytes: number,
    { file, record, recovered, before }: Placing,
  ): Promise<readonly string[] | undefined> {
    const at = chain.at(-1) ?? this.#root;
    const folders = chain.slice(1).map(({ folder }) => basename(folder.path));
    if (recovered) {
      const found = await this.work.entry(file);
      if (found === undefined) return undefined;
      if (found.links > 1) {
        const linked = await linkedAs(at, found.id);
        if (linked !== undefined) await durable(chain);
        await record([...folders, linked ?? name]);
        return linked === undefined ? undefined : [...folders, linked];
      }
    }
    const linked = await refusable(() => this.#link(file, at, name, bytes));
    if (linked !== undefined) {
      await Promise.all([record([...folders, linked]), durable(chain)]);
      return [...folders, linked];
    }
    if ((await this.work.entry(file)) === undefined) return undefined;
    // A rename leaves no other link to the file, so its folder must be durable first.
    await durable(chain);
    // An earlier run reserved this name and was killed before it could place the file.
    const reserved = before?.slice(0, -1).join("/") === folders.join("/") ? before.at(-1) : undefined;
    const taken = await this.#replace({ file, at, name, bytes, reserved }, (as) => record([...folders, as]));
    await durable(chain);
    return [...folders, taken];
  }

  /** Links the file under a free name, and returns it. Returns undefined without hard links, or if the file is gone. */
  async #link(file: string, at: Place, name: string, bytes: number): Promise<string | undefined> {
    for await (const free of this.#free(at, name, bytes)) {
      try {
        await this.work.link(file, at.folder, free);
        note(at, free);
        return free;
      } catch (error) {
        const code = codeOf(error) ?? "";
        if (NO_LINKS.has(code)) return undefined;
        if (code === "ENOENT" && (await this.work.entry(file)) === undefined) return undefined;
        if (code !== "EEXIST") throw error;
        note(at, free);
      }
    }
    return undefined;
  }

  /** Without hard links: reserves the name with an empty file, then replaces that. */
  async #replace(
    { file, at, name, bytes, reserved }: ReplaceOptions,
    record: (name: string) => Promise<void>,
  ): Promise<string> {
    if (reserved !== undefined) {
      const entry = await at.folder.entry(reserved);
      if (entry?.kind === "file" && entry.size === 0) {
        await record(reserved);
        await refusable(() => this.work.rename(file, at.folder, reserved));
        return reserved;
      }
    }
    for await (const free of this.#free(at, name, bytes)) {
      if ((await at.folder.entry(free)) !== undefined) {
        note(at, free);
        continue;
      }
      await record(free);
      const reserving = refusable(() => at.folder.open(free, { create: 0o600 }));
      const empty = await reserving.catch((error: unknown) => {
        if (codeOf(error) === "EEXIST") return undefined;
        throw error;
      });
      note(at, free);
      if (empty === undefined) continue;
      await empty.close();
      try {
        await refusable(() => this.work.rename(file, at.folder, free));
      } catch (error) {
        await at.folder.remove(free).catch(() => undefined);
        throw error;
      }
      return free;
    }
    return name;
  }

  /** Yields candidate names without end: the wanted one, then numbered ones. Each is claimed while it is tried. */
  async *#free(at: Place, name: string, bytes: number): AsyncGenerator<string> {
    await this.#readNames(at);
    for (let number = 0; ; number = Math.max(number + 1, number === 0 ? (at.numbers.get(name) ?? 0) : 0)) {
      const free = numbered(name, number, bytes);
      const key = collisionKey(free);
      if (number > 0) at.numbers.set(name, number);
      if (at.claims.has(key)) continue;
      at.claims.add(key);
      try {
        if (!(await collides(at, free))) yield free;
      } finally {
        at.claims.delete(key);
      }
    }
  }

  /** Appends the given folders to the chain, opened below its last one and in use. Creates missing ones. */
  async #descend(components: readonly string[], bytes: number, chain: Place[]): Promise<void> {
    let key = "";
    for (const component of components) {
      key = join(key, component);
      chain.push(await this.#below(key, chain.at(-1) ?? this.#root, component, bytes));
    }
  }

  async #below(key: string, above: Place, component: string, bytes: number): Promise<Place> {
    for (;;) {
      // Another file may be opening the same new folder.
      let opening = this.#places.get(key);
      if (opening === undefined) {
        opening = this.#enter(above, component, bytes);
        this.#places.set(key, opening);
        opening.catch(() => this.#places.delete(key));
        if (this.#places.size > OPEN_PLACES) await this.#letGo([...this.#places.keys()][0] ?? key);
      }
      const place = await opening;
      if (place.letGo) continue;
      place.users += 1;
      try {
        if (await this.#isStill(place, above)) {
          place.users += 1;
          this.#places.delete(key);
          this.#places.set(key, opening);
          return place;
        }
      } finally {
        leave(place);
      }
      await this.#letGo(key);
    }
  }

  async #isStill(place: Place, above: Place): Promise<boolean> {
    const now = this.#now();
    if (now - place.seen < FRESH) return true;
    place.seen = now;
    return (await above.folder.entry(basename(place.folder.path)))?.id === place.folder.id;
  }

  async #letGo(key: string): Promise<void> {
    const opening = this.#places.get(key);
    this.#places.delete(key);
    const place = await opening?.catch(() => undefined);
    if (place === undefined) return;
    place.users += 1;
    place.letGo = true;
    leave(place);
  }

  async #enter(above: Place, component: string, bytes: number): Promise<Place> {
    const there = await opened(above.folder, component);
    if (there !== undefined) return placeOf(there, this.#now());
    for await (const name of this.#free(above, component, bytes)) {
      try {
        await above.folder.makeFolder(name, 0o777);
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
      }
      note(above, name);
      const folder = await opened(above.folder, name);
      if (folder !== undefined) return placeOf(folder, this.#now());
    }
    throw new NameRefused("NameUnusable", "it has no folder");
  }

  async #readNames(place: Place): Promise<void> {
    const now = this.#now();
    if (now - place.read.at < Math.max(FRESH, READ_SHARE * place.read.took)) return;
    place.read = { at: now, took: place.read.took };
    place.given.length = 0;
    const names = new Map<string, Set<string>>();
    for (const name of await place.folder.names()) add(names, name);
    for (const name of place.given) add(names, name);
    place.names = names;
    place.read = { at: now, took: this.#now() - now };
  }
}

/** Calls `use` for each folder on the way to a place. Stops where one is missing: the user may have moved it. */
async function alongPlace(
  root: Folder,
  place: readonly string[],
  use: (folder: Folder, next: string, isLast: boolean) => Promise<void>,
): Promise<void> {
  let folder = root;
  const opened: Folder[] = [];
  try {
    for (const [index, component] of place.entries()) {
      const isLast = index === place.length - 1;
      await use(folder, component, isLast);
      if (isLast) break;
      folder = await folder.openFolder(component);
      opened.push(folder);
    }
  } catch (error) {
    if (!["ENOENT", "ENOTDIR", "ELOOP"].includes(codeOf(error) ?? "")) throw error;
  } finally {
    for (const one of opened) await one.close();
  }
}

/** See `OutFolder.unreserve`. For callers without an OutFolder. */
export function unreserve(root: Folder, place: readonly string[]): Promise<void> {
  return alongPlace(root, place, async (folder, name, isLast) => {
    const entry = isLast ? await folder.entry(name) : undefined;
    if (entry?.kind !== "file" || entry.size > 0 || entry.links > 1) return;
    await folder.remove(name);
    await folder.sync();
  });
}

function placeOf(folder: Folder, now: number): Place {
  return {
    folder,
    names: new Map(),
    given: [],
    read: { at: Number.NEGATIVE_INFINITY, took: 0 },
    claims: new Set(),
    numbers: new Map(),
    sync: coalesced(() => folder.sync()),
    durable: false,
    seen: now,
    users: 0,
    letGo: false,
  };
}

function leave(place: Place): void {
  place.users -= 1;
  if (place.users === 0 && place.letGo) place.folder.close().catch(() => undefined);
}

/** Opens a folder. Returns undefined if there is none. A file or a symbolic link counts as none. */
async function opened(above: Folder, name: string): Promise<Folder | undefined> {
  try {
    return await above.openFolder(name);
  } catch (error) {
    if (["ENOENT", "ELOOP", "ENOTDIR"].includes(codeOf(error) ?? "")) return undefined;
    throw error;
  }
}

/** Reports whether a different name exists that some system treats as equal. The file system detects the exact name. */
async function collides(at: Place, name: string): Promise<boolean> {
  const same = at.names.get(collisionKey(name));
  for (const other of same ?? []) {
    if (other === name) continue;
    if ((await at.folder.entry(other)) !== undefined) return true;
    same?.delete(other);
  }
  return false;
}

async function linkedAs(at: Place, id: string): Promise<string | undefined> {
  for (const name of await at.folder.names()) if ((await at.folder.entry(name))?.id === id) return name;
  return undefined;
}

/** Makes the folders of the chain, and the entries of the last one, durable. */
async function durable(chain: readonly Place[]): Promise<void> {
  const syncs = chain.map(async (place, index) => {
    const below = chain[index + 1];
    if (below?.durable === true) return;
    await place.sync();
    if (below !== undefined) below.durable = true;
  });
  await Promise.all(syncs);
}

function note(place: Place, name: string): void {
  add(place.names, name);
  place.given.push(name);
}

function add(names: Map<string, Set<string>>, name: string): void {
  const key = collisionKey(name);
  const same = names.get(key);
  if (same === undefined) names.set(key, new Set([name]));
  else same.add(name);
}

/**
 * Runs an operation; converts errors caused by the name or its place to NameRefused.
 *
 * @throws NameRefused
 */
async function refusable<T>(use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    const code = codeOf(error) ?? "";
    if (error instanceof NameRefused) throw error;
    if (BAD_NAME.has(code)) {
      throw new NameRefused("NameUnusable", `the file system rejects its name (${code})`, code);
    }
    if (BAD_PLACE.has(code)) throw new NameRefused("CannotWrite", `it cannot be put in place (${code})`, code);
    throw error;
  }
}
