/**
 * Incomplete transfers, for `recv --list` and `recv --remove`. Works without a device, and beside a run that is
 * receiving.
 *
 * @module
 */
import { join, resolve } from "node:path";
import type { SetAsideReason } from "../../transfer/receiving.ts";
import { CommandError } from "../command-error.ts";
import { textIfThere } from "../line-log.ts";
import { BESIDE } from "../state-folder.ts";
import { type FileSource, wholeName } from "./file-receiver.ts";
import { codeOf, type FileSystem, type Folder, nodeFileSystem } from "./file-system.ts";
import { unreserve } from "./out-folder.ts";
import { describeJournal, journalName, partName, removeIfThere, removePartial } from "./partial-file.ts";
import { TransferIndex, type TransferIndexOptions } from "./transfer-index.ts";

/** An incomplete transfer. */
export interface LeftOver extends FileSource {
  /** The key for `--remove`: 32 hexadecimal digits. */
  readonly key: string;
  /** Undefined if the record of it was lost. */
  readonly transfer: string | undefined;
  /** Undefined if its beginning has not arrived. Untrusted text. */
  readonly name: string | undefined;
  /** Absolute path of the folder that the file will be placed in. */
  readonly folder: string;
  /** Bytes received. */
  readonly held: number;
  /** Undefined if the sender has not said. */
  readonly size: number | undefined;
  /** Why it was set aside; undefined if more is expected. */
  readonly reason: SetAsideReason | undefined;
  /** When data last arrived, in milliseconds since 1970. */
  readonly changed: number;
}

export interface LeftOversOptions {
  /** `openStateFolder().path`; if undefined, state is kept in `out`. */
  readonly state: string | undefined;
  /** The folder for files. It need not exist. */
  readonly out: string;
  readonly fileSystem?: FileSystem;
  readonly now?: () => number;
  readonly run?: TransferIndexOptions["run"];
  readonly isRunning?: TransferIndexOptions["isRunning"];
}

/**
 * Lists incomplete transfers in the state folder and in `out`, least recently changed first.
 *
 * @throws CommandError CannotRead
 */
export async function listLeftOvers(options: LeftOversOptions): Promise<LeftOver[]> {
  try {
    return await withIndex(options, false, (index) => listed(index, options));
  } catch (error) {
    throw failure("CannotRead", error);
  }
}

/**
 * Removes incomplete transfers. Whatever still arrives for them is dropped. The space is free when this resolves, or,
 * if another run is receiving one of them, when that transfer ends.
 *
 * @returns number of transfers removed
 * @throws CommandError CannotWrite
 */
export async function removeLeftOvers(options: LeftOversOptions, which: (one: LeftOver) => boolean): Promise<number> {
  try {
    return await withIndex(options, true, async (index) => {
      const chosen = (await listed(index, options)).filter(which);
      for (const { key, folder, from, vouched } of chosen) {
        const { source = JSON.stringify([from, vouched]), place: reserved } = index.get(key) ?? {};
        const at = (options.now ?? Date.now)();
        await index.put({ state: "finished", key, source, how: "removed", folder, place: [], at });
        await within(options, folder, async (work, root) => {
          if (reserved !== undefined) await unreserve(root, reserved);
          await removePartial(work, key);
          await removeIfThere(work, wholeName(key));
        });
      }
      return chosen.length;
    });
  } catch (error) {
    throw failure("CannotWrite", error);
  }
}

async function withIndex<T>(
  { fileSystem = nodeFileSystem, state, out, now = Date.now, run, isRunning }: LeftOversOptions,
  write: boolean,
  use: (index: TransferIndex) => Promise<T>,
): Promise<T> {
  const index = await TransferIndex.open(
    {
      fileSystem,
      state: state ?? join(resolve(out), BESIDE),
      now,
      ...(run && { run }),
      ...(isRunning && { isRunning }),
    },
    write,
  );
  try {
    return await use(index);
  } finally {
    await index.close();
  }
}

async function listed(index: TransferIndex, options: LeftOversOptions): Promise<LeftOver[]> {
  const keys = new Map(index.unfinished.map(({ key, folder }) => [key, folder]));
  const out = resolve(options.out);
  await within(options, out, async (work) => {
    for (const name of await work.names()) {
      const [key = ""] = name.split(".");
      if (!/^[0-9a-f]{32}$/.test(key) || keys.has(key)) continue;
      const entry = index.get(key);
      // A killed run may have recorded a file as finished before placing it.
      const open = entry === undefined || (entry.state === "finished" && entry.how === "received");
      if (open && ((await work.entry(name))?.links ?? 0) < 2) keys.set(key, out);
    }
  });
  const found: LeftOver[] = [];
  for (const [key, folder] of keys) {
    const one = await within(options, folder, (work) => leftOver(work, key, folder));
    if (one !== undefined) found.push(one);
  }
  return found.sort((a, b) => a.changed - b.changed);
}

/** Describes a transfer from its files. Returns undefined if there are none. */
async function leftOver(work: Folder, key: string, folder: string): Promise<LeftOver | undefined> {
  const text = await textIfThere(work, journalName(key));
  const names = [journalName(key), partName(key), wholeName(key)];
  const [journal, part, whole] = await Promise.all(names.map((name) => work.entry(name)));
  const { owner, is } = describeJournal(text ?? "");
  const changes = [journal, part, whole].flatMap((entry) => entry?.modified ?? []);
  if (changes.length === 0) return undefined;
  return {
    key,
    transfer: owner?.transfer,
    from: owner?.from,
    vouched: owner?.vouched ?? false,
    name: is.begin?.name,
    folder,
    held: part === undefined ? (whole?.size ?? 0) : is.held.count,
    size: is.size,
    reason: is.reason,
    changed: Math.max(...changes),
  };
}

/** Opens the folder of unfinished transfers in a folder for files. Returns undefined if it does not exist. */
async function within<T>(
  { fileSystem = nodeFileSystem }: LeftOversOptions,
  path: string,
  use: (work: Folder, root: Folder) => Promise<T>,
): Promise<T | undefined> {
  let folder: Folder | undefined;
  let work: Folder | undefined;
  try {
    folder = await fileSystem.openFolder(path, false);
    work = await folder.openFolder(BESIDE);
  } catch (error) {
    if (!["ENOENT", "ENOTDIR"].includes(codeOf(error) ?? "")) throw error;
  }
  try {
    return work === undefined || folder === undefined ? undefined : await use(work, folder);
  } finally {
    await work?.close();
    await folder?.close();
  }
}

function failure(code: "CannotRead" | "CannotWrite", error: unknown): unknown {
  const why = codeOf(error);
  if (why === undefined || why.startsWith("ERR_") || error instanceof CommandError) return error;
  const what = code === "CannotRead" ? "read" : "change";
  return new CommandError(code, `cannot ${what} what is left of transfers (${why}): see that the folder can be used`);
}
