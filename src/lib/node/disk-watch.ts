/**
 * Watches how much room there is on a disk, so that what writes to it refuses in time and by name. Node only.
 *
 *   free < minimum    full: nothing new is taken; what is left is for what empties the store
 *   nothing is free   another program was faster: the ballast is given up, so that even now what waits can be read,
 *                     acknowledged and purged
 *   free again        the ballast is made again
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import { rmSync, statfsSync, statSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";

/**
 * What has to be left by default. A mailbox of 256 MiB that is delivered or purged writes a few MiB of page numbers, and a
 * thousand devices that come for what waits 100 KiB each; nobody fills so much within the second between two looks, but
 * with a copy of something large, and for that there is the ballast.
 */
export const MIN_FREE = 64 * 1024 * 1024;

/** Of a small disk, such as that of a container, an eighth has to be left: it holds no mailbox that would need more. */
const MIN_FREE_SHARE = 8;

/**
 * Octets of the ballast: 2,000 pages of a database. An acknowledgement writes ten, and a virtual connection of a device
 * that comes for its messages thirty.
 */
export const BALLAST = 8 * 1024 * 1024;

/** Below this many octets a write may fail at any moment. */
const NOTHING = 1024 * 1024;

/** A look costs a few microseconds. */
const INTERVAL = 1000;

/** So long a disk counts as full after a write has failed, whatever it says: quotas and inodes can be used up as well. */
const FAILED = 10_000;

/** A disk that was full has room again when an eighth more than the minimum is free: it would go to and fro otherwise. */
const SLACK = 8;

export interface DiskWatchOptions {
  /** A folder on the disk. */
  readonly folder: string;
  /** File for the ballast; without it there is none. */
  readonly ballast?: string | undefined;
  /** What has to be left, in octets. Default {@link MIN_FREE}, or an eighth of a disk that is smaller than eight times that. */
  readonly minFree?: number | undefined;
  /** Called when it has become full, and when there is room again, with what has to be left. */
  readonly changed?: (full: boolean, minFree: number) => void;
}

/** The disk and the time, for tests. */
export interface Disk {
  /** Octets that are free, and octets in all. */
  room(folder: string): { readonly free: number; readonly size: number };
  now(): number;
}

const REAL: Disk = {
  room(folder) {
    const { bavail, blocks, bsize } = statfsSync(folder);
    return { free: bavail * bsize, size: blocks * bsize };
  },
  now: Date.now,
};

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #disk: Disk;
  readonly #timer: NodeJS.Timeout;
  #full = false;
  #failedAt = Number.NEGATIVE_INFINITY;
  #making: Promise<void> | undefined;

  constructor(options: DiskWatchOptions, disk: Disk = REAL) {
    this.#options = options;
    this.#disk = disk;
    this.look();
    this.#timer = setInterval(() => this.look(), INTERVAL);
    this.#timer.unref();
  }

  /** Whether nothing new is to be taken. */
  get full(): boolean {
    return this.#full;
  }

  /** A write has failed for want of room. */
  failed(): void {
    this.#failedAt = this.#disk.now();
    this.#giveUp();
    this.look();
  }

  look(): void {
    const room = this.#room();
    // The folder is gone: the next write there reports it.
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

  #room(): ReturnType<Disk["room"]> | undefined {
    try {
      return this.#disk.room(this.#options.folder);
    } catch {
      return undefined;
    }
  }

  /** Resolves when the ballast, if it is just being made, is there. */
  async ready(): Promise<void> {
    await this.#making;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#making;
  }

  #giveUp(): void {
    if (this.#options.ballast !== undefined) rmSync(this.#options.ballast, { force: true });
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

/** Random octets: a file system that compresses would keep no room for others. */
async function makeBallast(path: string): Promise<void> {
  const part = `${path}.new`;
  try {
    await writeFile(part, randomFillSync(Buffer.allocUnsafe(BALLAST)), { mode: 0o600 });
    await rename(part, path);
  } catch {
    await rm(part, { force: true }).catch(() => undefined);
  }
}

/** Whether an error says that there is no room left on the disk, in the words of SQLite or of the system. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && /database or disk is full|SQLITE_FULL|ENOSPC|EDQUOT/.test(error.message);
}
