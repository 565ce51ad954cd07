/**
 * The files of an unfinished transfer, `KEY.part` and `KEY.journal`, and their recovery after a crash.
 *
 * A part is written, and claimed by a line in the journal. Both are synced at the same time, so after a crash a claim may
 * be there without its part. A resuming run reads back everything claimed, and keeps only the ranges whose checksum
 * matches the journal. The journal is created first and removed first, so a part file without a journal is garbage.
 *
 * The hash of the file is computed from what is read back, as the file grows.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { coalesced } from "../../lib/shared-run.ts";
import { type JournalEntry, journalLine, readJournal } from "../../transfer/journal.ts";
import { PART_BYTES } from "../../transfer/limits.ts";
import type { BeginMessage, EndMessage, PartMessage } from "../../transfer/message.ts";
import { type PartDecision, Receiving, type SetAsideReason } from "../../transfer/receiving.ts";
import { LineLog, readText } from "../line-log.ts";
import { codeOf, type Folder, type OpenFile, readFully, writeAll } from "./file-system.ts";

/** The transfer's identifier and sender. */
export interface TransferOwner {
  readonly transfer: string;
  readonly from: string | undefined;
  readonly vouched: boolean;
}

export function partName(key: string): string {
  return `${key}.part`;
}

export function journalName(key: string): string {
  return `${key}.journal`;
}

/** Removes the files of a transfer, if any. */
export async function removePartial(work: Folder, key: string): Promise<void> {
  for (const name of [journalName(key), partName(key)]) await removeIfThere(work, name);
}

export async function removeIfThere(folder: Folder, name: string): Promise<void> {
  try {
    await folder.remove(name);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

/** Reads a journal without checking its claims, for display. */
export function describeJournal(text: string): { readonly owner: TransferOwner | undefined; readonly is: Receiving } {
  const is = new Receiving();
  let owner: TransferOwner | undefined;
  for (const entry of readJournal(text)) {
    switch (entry.type) {
      case "transfer":
        owner ??= { transfer: entry.transfer, from: entry.from ?? undefined, vouched: entry.vouched };
        break;
      case "begin":
        is.begun({ ...entry, transfer: owner?.transfer ?? "" });
        break;
      case "range":
        is.written(entry.offset, entry.offset + entry.length - 1);
        break;
      case "end":
        is.ended({ ...entry, transfer: owner?.transfer ?? "" });
        break;
      case "setAside":
        is.setAside(entry.reason ?? undefined);
        break;
    }
  }
  return { owner, is };
}

export class PartialFile {
  /** What has arrived. */
  readonly receiving: Receiving;
  /** The file may have been placed already: an earlier run began it, or this run has tried. */
  recovered: boolean;
  readonly #part: OpenFile;
  readonly #journal: LineLog;
  readonly #sync: () => Promise<void>;
  #hash: Hash;
  /** Number of bytes hashed. */
  #hashed: number;
  #endWritten: boolean;
  readonly #readOn = coalesced(() => this.#hashOn());
  /** One buffer for reading back: one per part would need more memory than the parts themselves. */
  readonly #buffer = new Uint8Array(PART_BYTES);

  private constructor(
    part: OpenFile,
    journal: LineLog,
    { receiving, hash, hashed, recovered }: { receiving: Receiving; hash: Hash; hashed: number; recovered: boolean },
  ) {
    this.receiving = receiving;
    this.recovered = recovered;
    this.#part = part;
    this.#journal = journal;
    this.#sync = coalesced(() => part.datasync());
    this.#hash = hash;
    this.#hashed = hashed;
    this.#endWritten = receiving.end !== undefined;
  }

  /** Opens the files of a transfer, or creates them. They are durable when this resolves. */
  static async open(
    work: Folder,
    syncWork: () => Promise<void>,
    key: string,
    owner: TransferOwner,
  ): Promise<PartialFile> {
    const names = [journalName(key), partName(key)] as const;
    const [journal, part] = await Promise.all(names.map((name) => work.entry(name)));
    if (journal !== undefined && part !== undefined) return PartialFile.#recover(work, syncWork, key, owner);
    await removePartial(work, key);
    const log = new LineLog(await work.open(names[0], { create: 0o600, append: true }), false);
    let file: OpenFile | undefined;
    try {
      file = await work.open(names[1], { create: 0o600 });
      await Promise.all([log.append(ownerLine(owner)), syncWork()]);
      const state = { receiving: new Receiving(), hash: createHash("sha256"), hashed: 0, recovered: false };
      return new PartialFile(file, log, state);
    } catch (error) {
      await file?.close();
      await log.close();
      throw error;
    }
  }

  /** Recovers from the files. A killed run may not have synced its writes, so sync before relying on them. */
  static async #recover(
    work: Folder,
    syncWork: () => Promise<void>,
    key: string,
    owner: TransferOwner,
  ): Promise<PartialFile> {
    const text = await readText(work, journalName(key));
    const part = await work.open(partName(key));
    let journal: OpenFile | undefined;
    try {
      journal = await work.open(journalName(key), { append: true });
      await Promise.all([part.datasync(), journal.datasync(), syncWork()]);
      const log = new LineLog(journal, true);
      // The journal's first line may be torn.
      if (describeJournal(text).owner === undefined) await log.append(ownerLine(owner));
      const state = await believed(part, text);
      return new PartialFile(part, log, { ...state, recovered: true });
    } catch (error) {
      await part.close();
      await journal?.close();
      throw error;
    }
  }

  /** Records the first message of the transfer. */
  async begin(begin: BeginMessage): Promise<void> {
    if (this.receiving.begin !== undefined) return;
    const { transfer: _, ...entry } = begin;
    await this.#journal.append(journalLine(entry));
    this.receiving.begun(begin);
  }

  /** Writes the missing ranges of a part. Concurrent calls are fine. */
  async part(part: PartMessage): Promise<PartDecision> {
    const decision = this.receiving.part(part);
    if (decision.do !== "write") return decision;
    const pieces = decision.ranges.map(([from, to]) => ({
      from,
      bytes: part.bytes.subarray(from - part.offset, to + 1 - part.offset),
    }));
    await Promise.all(pieces.map(({ from, bytes }) => writeAll(this.#part, bytes, from)));
    const lines = pieces.map(({ from, bytes }) =>
      journalLine({ type: "range", offset: from, length: bytes.length, crc32: crc32(bytes) }),
    );
    await Promise.all([this.#sync(), this.#journal.append(lines.join(""))]);
    for (const [from, to] of decision.ranges) this.receiving.written(from, to);
    // Ignore errors here: `verify` reads again and reports them.
    this.#readOn().catch(() => undefined);
    return decision;
  }

  /** Notes the last message of the transfer. It is written to disk only if the transfer is set aside. */
  end(end: EndMessage): void {
    this.receiving.ended(end);
  }

  /** Records why the transfer cannot continue. Returns false if that was already recorded. */
  async setAside(reason: SetAsideReason): Promise<boolean> {
    const { end } = this.receiving;
    const isNew = this.receiving.reason !== reason;
    const lines: JournalEntry[] = [];
    if (end !== undefined && !this.#endWritten) {
      const { transfer: _, ...entry } = end;
      lines.push(entry);
    }
    if (isNew) lines.push({ type: "setAside", reason });
    if (lines.length === 0) return false;
    await this.#journal.append(lines.map(journalLine).join(""));
    this.#endWritten ||= end !== undefined;
    this.receiving.setAside(reason);
    return isNew;
  }

  /**
   * Verifies the complete file against the end message. Returns undefined if it matches: then mode and time are set,
   * and it is on disk. Otherwise returns the reason.
   */
  async verify(
    end: EndMessage,
    attributes: { readonly mode: number; readonly modified: number | undefined },
  ): Promise<SetAsideReason | undefined> {
    // A crash may have left unacknowledged bytes beyond the end.
    if ((await this.#part.size()) > end.size) await this.#part.truncate(end.size);
    await this.#readOn();
    const size = await this.#part.size();
    const found = this.receiving.verified(size, this.#hash.copy().digest("hex"));
    if (found !== undefined || this.#hashed !== end.size) return found ?? "HashMismatch";
    await this.#part.setMode(attributes.mode);
    if (attributes.modified !== undefined) await this.#part.setModified(attributes.modified);
    await this.#part.sync();
    return undefined;
  }

  async close(): Promise<void> {
    await this.#readOn().catch(() => undefined);
    await this.#journal.close();
    await this.#part.close();
  }

  async #hashOn(): Promise<void> {
    while (this.#hashed < this.receiving.contiguous) {
      const room = this.#buffer.subarray(0, Math.min(PART_BYTES, this.receiving.contiguous - this.#hashed));
      const read = await readFully(this.#part, room, this.#hashed);
      if (read === 0)
        throw Object.assign(new Error("the file is shorter than what was written to it"), { code: "EIO" });
      this.#hash.update(room.subarray(0, read));
      this.#hashed += read;
    }
  }
}

function ownerLine({ transfer, from, vouched }: TransferOwner): string {
  return journalLine({ type: "transfer", transfer, from: from ?? null, vouched });
}

/** Returns the ranges that the journal claims and the file confirms, and the hash of the contiguous beginning. */
async function believed(
  part: OpenFile,
  journal: string,
): Promise<{ readonly receiving: Receiving; readonly hash: Hash; readonly hashed: number }> {
  const { is: receiving } = describeJournal(journal);
  receiving.held.clear();
  const claims = readJournal(journal)
    .filter((entry) => entry.type === "range")
    .sort((a, b) => a.offset - b.offset);
  const buffer = new Uint8Array(PART_BYTES);
  let hash = createHash("sha256");
  let hashed = 0;
  for (const { offset, length, crc32: claimed } of claims) {
    if (receiving.held.nextMissing(offset) >= offset + length) continue;
    const inOrder = offset === hashed;
    const ahead = inOrder ? hash.copy() : undefined;
    let checksum = 0;
    let done = 0;
    while (done < length) {
      const room = buffer.subarray(0, Math.min(PART_BYTES, length - done));
      const read = await readFully(part, room, offset + done);
      if (read === 0) break;
      checksum = crc32(room.subarray(0, read), checksum);
      ahead?.update(room.subarray(0, read));
      done += read;
    }
    if (done < length || checksum !== claimed) continue;
    receiving.written(offset, offset + length - 1);
    if (ahead === undefined) continue;
    hash = ahead;
    hashed = offset + length;
  }
  return { receiving, hash, hashed };
}
