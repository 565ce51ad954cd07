/**
 * Keeps in the state folder which way worked in which network, so that the next run tries it first.
 *
 * @module
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NetworkMemory, type WayMemory } from "../device/index.ts";
import { openStateFolder, type StateFolderOptions } from "./state-folder.ts";

/** File name in the state folder. */
const FILE = "ways.json";

/** A longer file is not ours: 64 networks and ways of 1024 characters each, escaped, take less. */
const FILE_OCTETS = 1024 * 1024;

/** Opens the memory; undefined without a usable state folder. Whatever needs the folder reports that. */
export async function openWayMemory(options: StateFolderOptions): Promise<WayMemory | undefined> {
  const { path } = await openStateFolder(options).catch(() => ({ path: undefined }));
  return path === undefined ? undefined : new FileMemory(join(path, FILE));
}

/** It is only a hint: a file that cannot be read or written is ignored. */
class FileMemory implements WayMemory {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  recall(network: string): string | undefined {
    return this.#read().recall(network);
  }

  remember(network: string, way: string): void {
    const memory = this.#read();
    if (memory.recall(network) === way) return;
    memory.remember(network, way);
    this.#write(memory);
  }

  recallIdle(network: string): number | undefined {
    return this.#read().recallIdle(network);
  }

  rememberIdle(network: string, milliseconds: number): void {
    const memory = this.#read();
    memory.rememberIdle(network, milliseconds);
    this.#write(memory);
  }

  /** The memory was read just before, since other commands write the file too. */
  #write(memory: NetworkMemory): void {
    const draft = `${this.#file}.${process.pid}`;
    try {
      writeFileSync(draft, memory.format(), { mode: 0o600 });
      renameSync(draft, this.#file);
    } catch {
      rmSync(draft, { force: true });
    }
  }

  #read(): NetworkMemory {
    try {
      const text = readFileSync(this.#file, "utf8");
      return NetworkMemory.parse(text.length > FILE_OCTETS ? "" : text);
    } catch {
      return new NetworkMemory();
    }
  }
}
