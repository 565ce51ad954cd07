/**
 * A file of lines that is only appended to. Lines that are appended at about the same time share a write and a sync.
 *
 * @module
 */
import { coalesced } from "../lib/coalesced.ts";
import { appendAll, codeOf, type Folder, type OpenFile, readFully } from "./files/file-system.ts";

const encoder = new TextEncoder();

export class LineLog {
  readonly #file: OpenFile;
  #pending: string[] = [];
  /** What was there before may end in the middle of a line. */
  #torn: boolean;
  readonly #flush = coalesced(() => this.#write());

  /**
   * @param file opened with `append`
   * @param torn whether it may end in the middle of a line, as after a crash
   */
  constructor(file: OpenFile, torn: boolean) {
    this.#file = file;
    this.#torn = torn;
  }

  /** Resolves when the line, which ends with a line end, is on the disk. */
  append(line: string): Promise<void> {
    this.#pending.push(line);
    return this.#flush();
  }

  async #write(): Promise<void> {
    const lines = this.#pending.join("");
    this.#pending = [];
    const text = this.#torn ? `\n${lines}` : lines;
    this.#torn = true;
    await appendAll(this.#file, encoder.encode(text));
    await this.#file.datasync();
    this.#torn = false;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** All of a file, as UTF-8; bytes that are none are no reason to fail. */
export async function readText(folder: Folder, name: string): Promise<string> {
  const file = await folder.open(name);
  try {
    const bytes = new Uint8Array(await file.size());
    return new TextDecoder().decode(bytes.subarray(0, await readFully(file, bytes, 0)));
  } finally {
    await file.close();
  }
}

/** The same; undefined when there is no such file. */
export async function textIfThere(folder: Folder, name: string): Promise<string | undefined> {
  try {
    return await readText(folder, name);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
