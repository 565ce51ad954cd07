/**
 * An append-only file of lines. Lines appended at about the same time share one write and one sync.
 *
 * @module
 */
import { coalesced } from "../lib/shared-run.ts";
import { appendAll, codeOf, type Folder, type OpenFile, readFully } from "./files/file-system.ts";

const encoder = new TextEncoder();

export class LineLog {
  readonly #file: OpenFile;
  #pending: string[] = [];
  /** The file may end in the middle of a line. */
  #torn: boolean;
  readonly #flush = coalesced(() => this.#write());

  /**
   * @param file opened with `append`
   * @param torn whether the file may end in the middle of a line, as after a crash
   */
  constructor(file: OpenFile, torn: boolean) {
    this.#file = file;
    this.#torn = torn;
  }

  /** Appends a line, which must end with "\n". Resolves when it is on disk. */
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

/** Reads a whole file as UTF-8. Invalid bytes are replaced, not rejected. */
export async function readText(folder: Folder, name: string): Promise<string> {
  const file = await folder.open(name);
  try {
    const bytes = new Uint8Array(await file.size());
    return new TextDecoder().decode(bytes.subarray(0, await readFully(file, bytes, 0)));
  } finally {
    await file.close();
  }
}

/** Like {@link readText}, but returns undefined if the file does not exist. */
export async function textIfThere(folder: Folder, name: string): Promise<string | undefined> {
  try {
    return await readText(folder, name);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
