/**
 * The index of incoming transfers, kept between runs of the command: where each unfinished one is, and which are over.
 *
 * In the folder `transfers` of the state folder, each run has its own log, to which it alone appends. So any number of
 * runs can use the folder at a time. A run reads all logs. It copies the logs of ended runs to its own, and removes
 * them when that is durable; a crash in between leaves duplicate lines, which are harmless. A transfer that is over
 * stays over, whatever other lines say, unless a later line reopens it.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { isRunning, type ProcessId, processId } from "../../lib/node/process-id.ts";
import { coalesced } from "../../lib/shared-run.ts";
import { objectIn } from "../../transfer/journal.ts";
import { FINISHED_TIME, FINISHED_TRANSFERS, INDEX_BYTES } from "../../transfer/limits.ts";
import { readText } from "../line-log.ts";
import { appendAll, codeOf, type FileSystem, type Folder, type OpenFile } from "./file-system.ts";

/** A transfer of which something has arrived. */
export interface Unfinished {
  readonly state: "unfinished";
  readonly key: string;
  /** Opaque identifier of the sender, to tell senders apart. */
  readonly source: string;
  /** Absolute path of the folder for files in which it began. */
  readonly folder: string;
  /** Set if it was recorded as finished there and then reopened: the file is complete, but not placed. */
  readonly place?: readonly string[] | undefined;
  readonly at: number;
}

/** A transfer that is over. */
export interface Finished {
  readonly state: "finished";
  readonly key: string;
  readonly source: string;
  readonly how: "received" | "cancelled" | "removed";
  /** Absolute path of its folder for files. */
  readonly folder: string;
  /** Folders and name of the file below it. */
  readonly place: readonly string[];
  readonly at: number;
}

export type Indexed = Unfinished | Finished;

export interface TransferIndexOptions {
  readonly fileSystem: FileSystem;
  /** The state folder. */
  readonly state: string;
  readonly now: () => number;
  /** This run, and a check whether another run is alive. Default: this process, and the system's answer. */
  readonly run?: ProcessId;
  readonly isRunning?: (run: ProcessId) => boolean;
}

/** A new log not finished within this many milliseconds belongs to a run that was killed. */
const NEW_TIME = 3600_000;

/** Minimum interval between reads of other runs' logs, in milliseconds. */
const REFRESH = 1000;

/** How far the limit may be exceeded before it is enforced, so that this is not done for each entry. */
const SLACK = FINISHED_TRANSFERS / 10;

const encoder = new TextEncoder();

export class TransferIndex {
  readonly #options: TransferIndexOptions;
  readonly #folder: Folder | undefined;
  readonly #run: ProcessId;
  readonly #finished = new Map<string, Finished>();
  readonly #unfinished = new Map<string, Unfinished>();
  /** Finished transfers of which this run knows that nothing is left. */
  readonly #cleared = new Set<string>();
  /** The log of this run, once it has written something. */
  #log: { readonly name: string; readonly file: OpenFile; bytes: number; readonly limit: number } | undefined;
  #torn = false;
  #pending: Indexed[] = [];
  readonly #flush = coalesced(() => this.#write());
  /** Logs of other runs, with the number of bytes read from each. */
  readonly #others = new Map<string, number>();
  #refreshed: number;

  private constructor(options: TransferIndexOptions, folder: Folder | undefined) {
    this.#options = options;
    this.#folder = folder;
    this.#run = options.run ?? processId(process.pid) ?? { pid: process.pid, started: "" };
    this.#refreshed = options.now();
  }

  /**
   * Reads the index.
   *
   * @param write this run will write to it; if false, nothing is created or changed
   */
  static async open(options: TransferIndexOptions, write: boolean): Promise<TransferIndex> {
    const path = join(options.state, "transfers");
    let folder: Folder | undefined;
    try {
      folder = await options.fileSystem.openFolder(path, write);
    } catch (error) {
      if (write || codeOf(error) !== "ENOENT") throw error;
    }
    const index = new TransferIndex(options, folder);
    try {
      const over = await index.#readAll();
      index.#forget();
      if (write && over.length > 0) await index.#takeOver(over);
      return index;
    } catch (error) {
      await folder?.close();
      throw error;
    }
  }

  get(key: string): Indexed | undefined {
    return this.#finished.get(key) ?? this.#unfinished.get(key);
  }

  /** Oldest first. */
  get unfinished(): readonly Unfinished[] {
    return [...this.#unfinished.values()];
  }

  /** Reports whether nothing is left of a finished transfer, as far as this run knows. */
  isCleared(key: string): boolean {
    return this.#cleared.has(key);
  }

  clear(key: string): void {
    this.#cleared.add(key);
  }

  /** Records an entry. Resolves when it is on disk; `get` returns it only then. */
  async put(entry: Indexed): Promise<void> {
    this.#pending.push(entry);
    await this.#flush();
    if (this.#finished.size > FINISHED_TRANSFERS + SLACK) this.#forget();
  }

  /** Marks a finished transfer as unfinished again: its parts still exist. */
  reopen({ how: _, ...entry }: Finished): Promise<void> {
    return this.put({ ...entry, state: "unfinished", at: this.#options.now() });
  }

  /** Reads what other runs have written; at most once a second. */
  async refresh(): Promise<void> {
    const now = this.#options.now();
    if (now - this.#refreshed < REFRESH) return;
    this.#refreshed = now;
    await this.#readAll();
  }

  async close(): Promise<void> {
    await this.#log?.file.close();
    await this.#folder?.close();
  }

  /** Reads all logs. Returns those of runs that have ended. */
  async #readAll(): Promise<string[]> {
    for (;;) {
      const over: string[] = [];
      try {
        for (const name of (await this.#folder?.names()) ?? []) {
          if (name.endsWith(".log") && name !== this.#log?.name && !(await this.#read(name))) over.push(name);
          else if (name.endsWith(".new") && (await this.#isAbandoned(name))) over.push(name);
        }
        return over;
      } catch (error) {
        // Another run has just taken it over: its lines are now in a new log.
        if (codeOf(error) !== "ENOENT") throw error;
      }
    }
  }

  /** Reads a log. Reports whether its run is still alive. */
  async #read(name: string): Promise<boolean> {
    const known = this.#others.get(name);
    if (known !== undefined && (await this.#folder?.entry(name))?.size === known) return true;
    const text = this.#folder === undefined ? "" : await readText(this.#folder, name);
    this.#others.set(name, encoder.encode(text).length);
    let run: ProcessId | undefined;
    for (const line of text.split("\n")) {
      const fields = objectIn(line);
      if (fields?.type === "run") run ??= { pid: Number(fields.pid), started: String(fields.started) };
      const entry = entryIn(fields);
      if (entry !== undefined) this.#note(entry);
    }
    return run !== undefined && (this.#options.isRunning ?? isRunning)(run);
  }

  async #isAbandoned(name: string): Promise<boolean> {
    const entry = await this.#folder?.entry(name);
    return entry !== undefined && this.#options.now() - entry.modified > NEW_TIME;
  }

  #note(entry: Indexed): void {
    const { key, at } = entry;
    const finished = this.#finished.get(key);
    const unfinished = this.#unfinished.get(key);
    if (entry.state === "finished") {
      if (unfinished?.place !== undefined && unfinished.at > at) return;
      this.#unfinished.delete(key);
      this.#finished.set(key, entry);
    } else if (entry.place !== undefined ? (finished?.at ?? 0) <= at : finished === undefined) {
      this.#finished.delete(key);
      if ((unfinished?.at ?? 0) <= at) this.#unfinished.set(key, entry);
    }
  }

  /** Forgets old entries, then the oldest of the senders with the most, so that one sender cannot evict another's. */
  #forget(): void {
    const oldest = this.#options.now() - FINISHED_TIME;
    const bySource = Map.groupBy(
      [...this.#finished.values()].sort((a, b) => a.at - b.at),
      ({ source }) => source,
    );
    const kept = shareOf(Array.from(bySource.values(), (entries) => entries.length));
    for (const entries of bySource.values()) {
      entries.forEach(({ key, at }, index) => {
        if (at >= oldest && entries.length - index <= kept) return;
        this.#finished.delete(key);
        this.#cleared.delete(key);
      });
    }
  }

  async #write(): Promise<void> {
    const entries = this.#pending;
    this.#pending = [];
    const log = this.#log;
    if (log === undefined || log.bytes > log.limit) {
      await this.#begin(entries);
    } else {
      const lines = entries.map(lineOf).join("");
      const bytes = encoder.encode(this.#torn ? `\n${lines}` : lines);
      this.#torn = true;
      await appendAll(log.file, bytes);
      await log.file.datasync();
      this.#torn = false;
      log.bytes += bytes.length;
    }
    for (const entry of entries) this.#note(entry);
  }

  /** Starts a new log with everything known and the new entries, and removes the old one. */
  async #begin(entries: readonly Indexed[]): Promise<void> {
    const folder = this.#folder;
    if (folder === undefined) throw new Error("the index was opened to be read");
    const id = randomBytes(8).toString("hex");
    const lines = [...this.#finished.values(), ...this.#unfinished.values(), ...entries].map(lineOf);
    const bytes = encoder.encode(`${JSON.stringify({ type: "run", ...this.#run })}\n${lines.join("")}`);
    const file = await folder.open(`${id}.new`, { create: 0o600, append: true });
    try {
      await appendAll(file, bytes);
      await file.datasync();
      await folder.rename(`${id}.new`, folder, `${id}.log`);
      await folder.sync();
    } catch (error) {
      await file.close();
      throw error;
    }
    const before = this.#log;
    this.#torn = false;
    this.#log = { name: `${id}.log`, file, bytes: bytes.length, limit: Math.max(INDEX_BYTES, 2 * bytes.length) };
    if (before === undefined) return;
    await before.file.close();
    await folder.remove(before.name);
  }

  async #takeOver(names: readonly string[]): Promise<void> {
    await this.#begin([]);
    for (const name of names) {
      this.#others.delete(name);
      // Another run may be doing the same.
      await this.#folder?.remove(name).catch((error: unknown) => {
        if (codeOf(error) !== "ENOENT") throw error;
      });
    }
  }
}

/** Returns how many entries each sender may have, so that the total is at most FINISHED_TRANSFERS. */
function shareOf(counts: readonly number[]): number {
  let left = FINISHED_TRANSFERS;
  const sorted = [...counts].sort((a, b) => a - b);
  for (const [index, count] of sorted.entries()) {
    const share = Math.floor(left / (sorted.length - index));
    if (count > share) return Math.max(1, share);
    left -= count;
  }
  return FINISHED_TRANSFERS;
}

function lineOf({ state, ...fields }: Indexed): string {
  return `${JSON.stringify({ type: state, ...fields })}\n`;
}

/** Parses a line. Returns undefined for one torn by a crash. */
function entryIn(fields: Readonly<Record<string, unknown>> | undefined): Indexed | undefined {
  const { type, key, source, folder, at, how, place } = fields ?? {};
  if (typeof key !== "string" || typeof source !== "string" || typeof folder !== "string" || typeof at !== "number") {
    return undefined;
  }
  const names = Array.isArray(place) ? place.filter((name): name is string => typeof name === "string") : undefined;
  if (type === "unfinished") return { state: type, key, source, folder, place: names, at };
  if (type !== "finished" || !(how === "received" || how === "cancelled" || how === "removed") || !names)
    return undefined;
  return { state: type, key, source, how, folder, place: names, at };
}
