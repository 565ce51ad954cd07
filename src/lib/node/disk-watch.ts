/**
 * Watches the free space of a disk, so that writers can refuse new data early and with a clear error. Node only.
 *
 *   free < minimum    full: nothing new is accepted; the remaining space is for draining the store
 *   nothing is free   another program was faster: the ballast is deleted, so that waiting messages can still be read,
 *                     acknowledged and purged
 *   free again        the ballast is recreated
 *   failing           a write failed for another reason, as on a disk that the system has made read-only, and so does a
 *                     small file: nothing new is accepted until one can be written again. If that can be, only some files
 *                     are damaged, and what is in others is served
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Space to keep free by default. Delivering or purging a mailbox of 256 MiB writes a few MiB of page numbers; a
 * thousand devices fetching their messages write 100 KiB each. Only copying something large fills that much within the
 * second between two checks, and for that there is the ballast.
 */
export const MIN_FREE = 64 * 1024 * 1024;

/** On a small disk, such as a container's, keep an eighth free: no mailbox on it can need more. */
const MIN_FREE_SHARE = 8;

/**
 * Size of the ballast in bytes: 2,000 database pages. An acknowledgement writes ten pages; a virtual connection of a
 * device that fetches its messages writes thirty.
 */
export const BALLAST = 8 * 1024 * 1024;

/** With fewer bytes free, a write may fail at any moment. */
const NOTHING = 1024 * 1024;

/** Milliseconds between checks. A check costs a few microseconds. */
const INTERVAL = 1000;

/**
 * Milliseconds that the disk counts as full after a failed write, however much is free: quotas and inodes run out too.
 */
const FAILED = 10_000;

/** Name of the file by which a failing disk is tried. */
const PROBE = "probe";

/** Its size in bytes: a page of a database. An empty file takes no block, and a disk may have a name for it but no block. */
const PROBE_SIZE = 4096;

/** Hysteresis: a full disk has room again when an eighth more than the minimum is free. */
const SLACK = 8;

export interface DiskWatchOptions {
  /** A folder on the disk. */
  readonly folder: string;
  /** File for the ballast; without it there is none. */
  readonly ballast?: string | undefined;
  /** Bytes to keep free. Default {@link MIN_FREE}, or an eighth of a disk smaller than eight times that. */
  readonly minFree?: number | undefined;
  /** Called when the disk becomes full and when it has room again, with the number of bytes to keep free. */
  readonly changed?: (full: boolean, minFree: number) => void;
  /** Called when writes begin to fail for another reason, and when they succeed again. */
  readonly failing?: (isFailing: boolean) => void;
}

/** Disk and clock, replaceable for tests. */
export interface Disk {
  /** Returns free and total bytes. */
  room(folder: string): { readonly free: number; readonly size: number };
  now(): number;
  /** Whether a small file can be written there. */
  takesWrites(folder: string): boolean;
}

const REAL: Disk = {
  room(folder) {
    const { bavail, blocks, bsize } = statfsSync(folder);
    return { free: bavail * bsize, size: blocks * bsize };
  },
  now: Date.now,
  takesWrites(folder) {
    const path = join(folder, PROBE);
    try {
      writePage(path);
      rmSync(path, { force: true });
      return true;
    } catch (error) {
      return isDiskFull(error);
    }
  },
};

/** Writes a file as a database does: at a position, and so that it is on the disk and not just in memory. */
function writePage(path: string): void {
  const file = openSync(path, "w", 0o600);
  try {
    writeSync(file, new Uint8Array(PROBE_SIZE), 0, PROBE_SIZE, 0);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #disk: Disk;
  readonly #timer: NodeJS.Timeout;
  #full = false;
  #isFailing = false;
  /** When the disk was tried last, and whether a write has failed since. */
  #triedAt = Number.NEGATIVE_INFINITY;
  #isSuspect = false;
  #failedAt = Number.NEGATIVE_INFINITY;
  #making: Promise<void> | undefined;

  constructor(options: DiskWatchOptions, disk: Disk = REAL) {
    this.#options = options;
    this.#disk = disk;
    this.look();
    this.#timer = setInterval(() => this.look(), INTERVAL);
    this.#timer.unref();
  }

  /** Whether to refuse new data. */
  get full(): boolean {
    return this.#full;
  }

  /** Reports that a write failed for lack of space. */
  failed(): void {
    this.#failedAt = this.#disk.now();
    this.#giveUp();
    this.look();
  }

  /** Whether writes fail for another reason than lack of space. */
  get isFailing(): boolean {
    return this.#isFailing;
  }

  /** Reports that a write failed for another reason. Those of one damaged file may be many: the disk is tried once a second. */
  broke(): void {
    if (this.#isFailing) return;
    this.#isSuspect = true;
    if (Math.abs(this.#disk.now() - this.#triedAt) >= INTERVAL) this.#tryWrite();
  }

  look(): void {
    if (this.#isFailing || this.#isSuspect) this.#tryWrite();
    const room = this.#room();
    // The folder is gone. The next write there will report it.
    if (room === undefined) return;
    const { free, size } = room;
    const { minFree = Math.min(MIN_FREE, Math.floor(size / MIN_FREE_SHARE)) } = this.#options;
    if (free < NOTHING) this.#giveUp();
    const wanted = this.#full ? minFree + minFree / SLACK : minFree;
    const full = free < wanted || this.#disk.now() - this.#failedAt < FAILED;
    if (!full && free >= minFree + 2 * BALLAST) this.#make();
    if (full === this.#full) return;
    this.#full = full;
    this.#options.changed?.(full, minFree);
  }

  #tryWrite(): void {
    this.#triedAt = this.#disk.now();
    this.#isSuspect = false;
    const isFailing = !this.#disk.takesWrites(this.#options.folder);
    if (isFailing === this.#isFailing) return;
    this.#isFailing = isFailing;
    this.#options.failing?.(isFailing);
  }

  #room(): ReturnType<Disk["room"]> | undefined {
    try {
      return this.#disk.room(this.#options.folder);
    } catch {
      return undefined;
    }
  }

  /** Resolves when the ballast exists, if it is being created. */
  async ready(): Promise<void> {
    await this.#making;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#making;
  }

  #giveUp(): void {
    if (this.#options.ballast === undefined) return;
    try {
      rmSync(this.#options.ballast, { force: true });
    } catch {
      // The disk takes no writes at all.
    }
  }

  #make(): void {
    const { ballast } = this.#options;
    if (ballast === undefined || this.#making !== undefined) return;
    if (statSync(ballast, { throwIfNoEntry: false })?.size === BALLAST) return;
    this.#making = makeBallast(ballast).finally(() => {
      this.#making = undefined;
    });
  }
}

/** Random bytes, because a compressing file system would reserve no space for others. */
async function makeBallast(path: string): Promise<void> {
  const part = `${path}.new`;
  try {
    await writeFile(part, randomFillSync(Buffer.allocUnsafe(BALLAST)), { mode: 0o600 });
    await rename(part, path);
  } catch {
    await rm(part, { force: true }).catch(() => undefined);
  }
}

/** Reports whether an error of SQLite or the system means that the disk is full. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && /database or disk is full|SQLITE_FULL|ENOSPC|EDQUOT/.test(error.message);
}
