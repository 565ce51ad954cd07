/**
 * Receives files into a folder: the I/O of incoming transfers.
 *
 *   DIR/.grooveway/KEY.part, KEY.journal   a transfer that comes in parts
 *   DIR/.grooveway/KEY.whole               a file that came in one message, briefly
 *   STATE/transfers/*.log                  where unfinished transfers are, and which are over
 *
 * KEY is a hash of the sender and its transfer identifier. A message is acknowledged when its content is on disk;
 * messages are synced independently, and their syncs overlap. A file is finished in this order:
 *
 *   1. contents, mode and time are on disk, read back, and match what was sent
 *   2. the file is linked into DIR; the link and the line in the index are on disk
 *   3. the name in .grooveway is removed, and the last message acknowledged
 *
 * So after a crash, a transfer is over if the index says so and nothing of it is in .grooveway. A file there with a
 * second link was placed before the crash; one without is placed again.
 *
 * @module
 */
import { hash } from "node:crypto";
import { join, resolve } from "node:path";
import { printable } from "../../lib/printable.ts";
import { Turns } from "../../lib/read-write-lock.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import {
  type BeginMessage,
  type CancelMessage,
  decodeMessage,
  type EndMessage,
  NotATransfer,
  OPEN_TRANSFERS,
  type PartMessage,
  SET_ASIDE,
  type SetAsideReason,
  type TransferMessage,
  UNFINISHED_OF_SENDER,
  WHOLE_AT_ONCE,
  type WholeMessage,
} from "../../transfer/index.ts";
import { CommandError } from "../command-error.ts";
import { textIfThere } from "../line-log.ts";
import { BESIDE } from "../state-folder.ts";
import { codeOf, type FileSystem, nodeFileSystem, type OpenFile, readFully, writeAll } from "./file-system.ts";
import { NameRefused, OutFolder } from "./out-folder.ts";
import {
  describeJournal,
  journalName,
  PartialFile,
  partName,
  removeIfThere,
  removePartial,
  type TransferOwner,
} from "./partial-file.ts";
import { wordsOf } from "./path-problem.ts";
import { type Finished, TransferIndex, type TransferIndexOptions } from "./transfer-index.ts";

/** The fields of a received message that are needed here. The device library's `Message` has them. */
export interface IncomingMessage {
  readonly id: string;
  readonly from: string | undefined;
  readonly vouched: boolean;
  /** `isTransferResource` is true for it. */
  readonly resource: string;
  readonly body: Uint8Array;
  /** Acknowledges the message. Called when its content is durable; not called if `take` rejects. */
  done(): void;
}

/** The sender of a file, as stated by the message. */
export interface FileSource {
  readonly from: string | undefined;
  readonly vouched: boolean;
}

/** A complete file under its final name. */
export interface ReceivedFile extends FileSource {
  readonly transfer: string;
  /** The sender's name for the file: untrusted text. */
  readonly name: string;
  /** Absolute path, below the folder in which the transfer began. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  /** The transfer began in a run with another --out, and the file is there. */
  readonly elsewhere: boolean;
}

/** The outcome of a message that was acknowledged. */
export type Outcome =
  /** Stored; more is to come. `held` of `size` bytes are there. */
  | {
      readonly kind: "kept";
      readonly transfer: string;
      readonly name: string | undefined;
      readonly held: number;
      readonly size: number | undefined;
    }
  /** A file is complete. */
  | { readonly kind: "received"; readonly file: ReceivedFile }
  /** Dropped: a duplicate, or its transfer is over or can never be completed. Not worth reporting. */
  | { readonly kind: "repeated"; readonly transfer: string }
  /** The transfer was set aside just now: worth reporting. Its later messages are `kept`. */
  | {
      readonly kind: "setAside";
      readonly source: FileSource;
      readonly transfer: string | undefined;
      readonly name: string | undefined;
      readonly reason: SetAsideReason;
      /** A sentence that explains the reason, escaped for a terminal. */
      readonly detail: string;
    };

export interface FileReceiverOptions {
  /** The folder for files; created if missing. */
  readonly out: string;
  /** `openStateFolder().path`; if undefined, state is kept in `out`. */
  readonly state: string | undefined;
  /** Keep leading dots in names. */
  readonly allowDotfiles?: boolean;
  /** Default: the disk. */
  readonly fileSystem?: FileSystem;
  /** Default: `Date.now`. */
  readonly now?: () => number;
  /** Permission bits to clear on new files; default: the umask of this process. */
  readonly umask?: number;
  /** See `TransferIndexOptions`. */
  readonly run?: TransferIndexOptions["run"];
  readonly isRunning?: TransferIndexOptions["isRunning"];
}

/** A transfer in use: its turns, and its files while they are open. */
interface Slot {
  readonly key: string;
  readonly turns: Turns;
  file: Promise<Opened> | undefined;
}

type Opened =
  | {
      readonly kind: "open";
      readonly partial: PartialFile;
      readonly out: OutFolder;
    }
  | Over
  /** This sender has too many unfinished transfers. */
  | { readonly kind: "refused" };

/** The transfer is over: later messages are dropped. `settled` if a killed run placed its file without reporting it. */
interface Over {
  readonly kind: "over";
  readonly settled: Finished | undefined;
}

/** State of a transfer according to the index, checked against the files. */
type Found = Over | { readonly kind: "unfinished"; readonly out: OutFolder | undefined } | { readonly kind: "unknown" };

/** Permission bits of a file if the sender gives none. */
const USUAL_MODE = 0o666;

/** Never set setuid, setgid or sticky. */
const PERMISSIONS = 0o777;

const FULL = new Set(["ENOSPC", "EDQUOT"]);

/** The file exceeds the file system's size limit. Other files may still fit. */
const TOO_LONG = "EFBIG";

export function wholeName(key: string): string {
  return `${key}.whole`;
}

/** Returns the local key of a transfer. Two senders never share a key. */
function keyOf({ from, vouched }: FileSource, transfer: string): string {
  return hash("sha256", JSON.stringify([from ?? null, vouched, transfer])).slice(0, 32);
}

/** Receives files into a folder. Any number of messages may be taken concurrently. */
export class FileReceiver {
  readonly #options: FileReceiverOptions;
  readonly #fileSystem: FileSystem;
  readonly #now: () => number;
  readonly #umask: number;
  readonly #index: TransferIndex;
  /** Absolute path of the folder for files. */
  readonly #path: string;
  /** Open folders for files, by path: unfinished transfers of earlier runs may be in others. */
  readonly #folders = new Map<string, Promise<OutFolder>>();
  /** Transfers in use or with open files, least recently used first. */
  readonly #slots = new Map<string, Slot>();
  readonly #wholes = new Semaphore(WHOLE_AT_ONCE);

  private constructor(options: FileReceiverOptions, index: TransferIndex, path: string) {
    this.#options = options;
    this.#fileSystem = options.fileSystem ?? nodeFileSystem;
    this.#now = options.now ?? Date.now;
    this.#umask = options.umask ?? process.umask();
    this.#index = index;
    this.#path = path;
  }

  /**
   * Opens the folder for files and the index.
   *
   * @throws CommandError CannotWrite if one of them cannot be used
   */
  static async open(options: FileReceiverOptions): Promise<FileReceiver> {
    const path = resolve(options.out);
    const { fileSystem = nodeFileSystem, now = Date.now, run, isRunning } = options;
    const rules = { allowDotfiles: options.allowDotfiles ?? false };
    let out: OutFolder;
    try {
      out = await OutFolder.open(fileSystem, path, { make: true, rules, now });
    } catch (error) {
      throw new CommandError(
        "CannotWrite",
        `cannot use ${path} as the folder for files: ${wordsOf(error)}: choose another folder with --out DIR`,
      );
    }
    const state = options.state ?? join(path, BESIDE);
    try {
      const index = await TransferIndex.open(
        { fileSystem, state, now, ...(run && { run }), ...(isRunning && { isRunning }) },
        true,
      );
      const receiver = new FileReceiver(options, index, path);
      receiver.#folders.set(path, Promise.resolve(out));
      await receiver.#sweep(out);
      return receiver;
    } catch (error) {
      await out.close();
      throw new CommandError(
        "CannotWrite",
        `cannot use ${state} as the state folder: ${wordsOf(error)}: choose another folder with --state DIR`,
      );
    }
  }

  /** Absolute path of the folder for files. */
  get path(): string {
    return this.#path;
  }

  /**
   * Processes a message, and acknowledges it when its content is on disk. Never rejects because of what the sender did.
   *
   * @throws CommandError CannotWrite if the disk fails or is full: the message stays unacknowledged, and may be
   * taken again
   */
  async take(message: IncomingMessage): Promise<Outcome> {
    const source: FileSource = { from: message.from, vouched: message.vouched };
    let read: TransferMessage;
    try {
      read = decodeMessage(message.body);
    } catch (error) {
      if (!(error instanceof NotATransfer)) throw error;
      message.done();
      return {
        kind: "setAside",
        source,
        transfer: undefined,
        name: undefined,
        reason: error.code,
        detail: error.message,
      };
    }
    const slot = this.#slotOf(keyOf(source, read.transfer));
    try {
      const outcome = await this.#taken(slot, source, read);
      message.done();
      return outcome;
    } catch (error) {
      this.#closeLater(slot);
      throw this.#cannotWrite(error);
    } finally {
      this.#tidy(slot);
    }
  }

  /**
   * Retries transfers with complete contents that could not be put in place: the user may have removed the obstacle.
   *
   * @throws CommandError CannotWrite
   */
  async retry(): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    for (const { key, folder } of this.#index.unfinished) {
      const slot = this.#slotOf(key);
      try {
        const outcome = await slot.turns.alone(() => this.#retry(slot, folder));
        if (outcome?.kind === "received") outcomes.push(outcome);
      } catch (error) {
        this.#closeLater(slot);
        throw this.#cannotWrite(error);
      } finally {
        this.#tidy(slot);
      }
    }
    return outcomes;
  }

  /** Waits for pending writes. Unfinished transfers stay and can be resumed. */
  async close(): Promise<void> {
    for (const slot of [...this.#slots.values()]) await slot.turns.alone(() => this.#closeFile(slot));
    this.#slots.clear();
    const folders = await Promise.allSettled(this.#folders.values());
    for (const folder of folders) if (folder.status === "fulfilled") await folder.value.close();
    await this.#index.close();
  }

  #slotOf(key: string): Slot {
    const slot = this.#slots.get(key) ?? { key, turns: new Turns(), file: undefined };
    this.#slots.delete(key);
    this.#slots.set(key, slot);
    return slot;
  }

  #taken(slot: Slot, source: FileSource, message: TransferMessage): Promise<Outcome> {
    switch (message.type) {
      case "whole":
        return this.#inTurn(() => slot.turns.alone(() => this.#whole(slot, source, message)));
      case "begin":
        return slot.turns.alone(() => this.#begin(slot, source, message));
      case "part":
        return this.#part(slot, source, message);
      case "end":
        return slot.turns.alone(() => this.#end(slot, source, message));
      case "cancel":
        return slot.turns.alone(() => this.#cancel(slot, source, message));
    }
  }

  async #begin(slot: Slot, source: FileSource, begin: BeginMessage): Promise<Outcome> {
    const opened = await this.#opened(slot, { ...source, transfer: begin.transfer });
    if (opened.kind === "refused") return setAside(source, begin, "TooManyUnfinished");
    if (opened.kind === "over") return { kind: "repeated", transfer: begin.transfer };
    await opened.partial.begin(begin);
    return this.#settle(slot, opened, source);
  }

  async #part(slot: Slot, source: FileSource, part: PartMessage): Promise<Outcome> {
    const { transfer } = part;
    const written = await slot.turns.together(async () => {
      const opened = await this.#opened(slot, { ...source, transfer });
      if (opened.kind !== "open") return undefined;
      try {
        return { opened, decision: await opened.partial.part(part) };
      } catch (error) {
        if (codeOf(error) !== TOO_LONG) throw error;
        return { opened, decision: { do: "setAside", reason: "CannotWrite" } as const };
      }
    });
    if (written === undefined) return { kind: "repeated", transfer };
    const { decision, opened } = written;
    if (decision.do === "setAside") {
      const { reason } = decision;
      return slot.turns.alone(() => this.#setAside(opened.partial, source, transfer, reason));
    }
    const { receiving } = opened.partial;
    if (receiving.end === undefined || receiving.contiguous < receiving.end.size) {
      return decision.do === "ignore" ? { kind: "repeated", transfer } : kept(transfer, opened.partial);
    }
    // The end came before this part. The file is complete now.
    return slot.turns.alone(async () => {
      const again = await this.#opened(slot, { ...source, transfer });
      return again.kind === "open" ? this.#settle(slot, again, source) : { kind: "repeated", transfer };
    });
  }

  async #end(slot: Slot, source: FileSource, end: EndMessage): Promise<Outcome> {
    const opened = await this.#opened(slot, { ...source, transfer: end.transfer });
    if (opened.kind === "refused") return { kind: "repeated", transfer: end.transfer };
    if (opened.kind === "over") return this.#over(opened, source, end);
    opened.partial.end(end);
    return this.#settle(slot, opened, source);
  }

  /** Once all earlier messages are written: completes the transfer, sets it aside, or waits for more. */
  async #settle(slot: Slot, opened: Opened & { kind: "open" }, source: FileSource): Promise<Outcome> {
    const { partial, out } = opened;
    const { begin, end } = partial.receiving;
    const transfer = begin?.transfer ?? end?.transfer ?? "";
    const next = partial.receiving.progress();
    if (next.do === "wait") return kept(transfer, partial);
    if (next.do === "setAside") return this.#setAside(partial, source, transfer, next.reason);
    const { name = "", mode = USUAL_MODE, modified } = begin ?? {};
    const wrong = await partial.verify(next.end, { mode: mode & PERMISSIONS & ~this.#umask, modified });
    if (wrong !== undefined) return this.#setAside(partial, source, transfer, wrong);
    const { recovered } = partial;
    partial.recovered = true;
    let place: readonly string[] | undefined;
    try {
      place = await out.place({
        file: partName(slot.key),
        name,
        recovered,
        before: this.#index.get(slot.key)?.place,
        record: (at) => this.#record(slot.key, source, out.path, "received", at),
      });
    } catch (error) {
      if (!(error instanceof NameRefused)) throw error;
      await this.#reopen(slot.key);
      return this.#setAside(partial, source, transfer, error.reason, error.message);
    }
    // The user has removed the transfer, and does not want the rest.
    if (this.#index.get(slot.key)?.state !== "finished") {
      await this.#record(slot.key, source, out.path, "removed", []);
    }
    await removePartial(out.work, slot.key);
    this.#index.clear(slot.key);
    await this.#closeFile(slot);
    if (place === undefined) return { kind: "repeated", transfer };
    return this.#received(source, { ...next.end, name }, out.path, place);
  }

  async #whole(slot: Slot, source: FileSource, whole: WholeMessage): Promise<Outcome> {
    const { transfer, name, size, sha256, bytes } = whole;
    if (hash("sha256", bytes) !== sha256) return this.#inParts(slot, source, whole);
    const found = await this.#find(slot.key);
    if (found.kind === "over") return this.#over(found, source, whole);
    await this.#closeFile(slot);
    const known = found.kind === "unfinished" ? found : undefined;
    const out = known?.out ?? (await this.#out());
    // The transfer now comes in one message. Drop the parts; syncing the new file makes that durable.
    if (known !== undefined) await removePartial(out.work, slot.key);
    const file = wholeName(slot.key);
    const mode = (whole.mode ?? USUAL_MODE) & PERMISSIONS & ~this.#umask;
    const recorded = this.#index.get(slot.key)?.place !== undefined;
    const [written] = await Promise.all([
      writeWhole(out, file, mode, whole, recorded),
      // Record it first, so that another run finds it whatever its --out is.
      known?.out === undefined ? this.#begun(slot.key, source, out) : undefined,
    ]);
    let place: readonly string[] | undefined;
    try {
      place = await out.place({
        file,
        name,
        recovered: !written,
        before: this.#index.get(slot.key)?.place,
        record: (at) => this.#record(slot.key, source, out.path, "received", at),
      });
    } catch (error) {
      if (!(error instanceof NameRefused)) throw error;
      await this.#reopen(slot.key);
      return this.#inParts(slot, source, whole);
    }
    await removeIfThere(out.work, file);
    this.#index.clear(slot.key);
    if (place === undefined) return { kind: "repeated", transfer };
    return this.#received(source, { transfer, name, size, sha256 }, out.path, place);
  }

  /** Stores a file from a single message like one in parts, because it cannot be completed. */
  async #inParts(slot: Slot, source: FileSource, whole: WholeMessage): Promise<Outcome> {
    const { transfer, size, sha256, bytes } = whole;
    const opened = await this.#opened(slot, { ...source, transfer });
    if (opened.kind === "refused") return setAside(source, whole, "TooManyUnfinished");
    if (opened.kind === "over") return { kind: "repeated", transfer };
    await opened.partial.begin(beginOf(whole));
    if (size > 0) await opened.partial.part({ type: "part", transfer, offset: 0, bytes });
    opened.partial.end({ type: "end", transfer, size, sha256 });
    return this.#settle(slot, opened, source);
  }

  async #cancel(slot: Slot, source: FileSource, cancel: CancelMessage): Promise<Outcome> {
    const { transfer } = cancel;
    const found = await this.#find(slot.key);
    if (found.kind === "over") return { kind: "repeated", transfer };
    await this.#closeFile(slot);
    const out = (found.kind === "unfinished" ? found.out : undefined) ?? (await this.#out());
    const journal = await textIfThere(out.work, journalName(slot.key));
    const reserved = this.#index.get(slot.key)?.place;
    if (reserved !== undefined) await out.unreserve(reserved);
    await this.#record(slot.key, source, out.path, "cancelled", []);
    await removePartial(out.work, slot.key);
    await removeIfThere(out.work, wholeName(slot.key));
    this.#index.clear(slot.key);
    if (journal === undefined) return { kind: "repeated", transfer };
    const name = describeJournal(journal).is.begin?.name;
    return setAside(source, { transfer, name }, "Cancelled", `the sender says ${printable(cancel.reason)}`);
  }

  async #retry(slot: Slot, folder: string): Promise<Outcome | undefined> {
    const out = await this.#folderAt(folder);
    const journal = out && (await textIfThere(out.work, journalName(slot.key)));
    if (journal === undefined) return undefined;
    const { owner, is } = describeJournal(journal);
    if (owner === undefined || (is.reason !== "CannotWrite" && is.reason !== "NameUnusable")) return undefined;
    if (is.progress().do !== "verify") return undefined;
    const opened = await this.#opened(slot, owner);
    return opened.kind === "open" ? this.#settle(slot, opened, owner) : undefined;
  }

  /** Opens the files of a transfer, once; creates them if it is new. */
  #opened(slot: Slot, owner: TransferOwner): Promise<Opened> {
    slot.file ??= this.#open(slot.key, owner);
    return slot.file;
  }

  async #open(key: string, owner: TransferOwner): Promise<Opened> {
    const found = await this.#find(key);
    if (found.kind === "over") return found;
    const out = (found.kind === "unfinished" ? found.out : undefined) ?? (await this.#out());
    const source = sourceOf(owner);
    if (found.kind === "unknown") {
      const others = this.#index.unfinished.filter((other) => other.source === source);
      if (others.length >= UNFINISHED_OF_SENDER) return { kind: "refused" };
    }
    // Record it before creating files, so that any run can find them.
    if (found.kind === "unknown" || found.out === undefined) await this.#begun(key, owner, out);
    // The transfer now comes in parts. Drop the whole file; syncing the new files makes that durable.
    if (found.kind === "unfinished") await removeIfThere(out.work, wholeName(key));
    const partial = await PartialFile.open(out.work, out.syncWork, key, owner);
    return { kind: "open", partial, out };
  }

  async #find(key: string): Promise<Found> {
    if (this.#index.get(key) === undefined) await this.#index.refresh();
    const entry = this.#index.get(key);
    if (entry === undefined) return { kind: "unknown" };
    if (entry.state === "finished" && this.#index.isCleared(key)) return { kind: "over", settled: undefined };
    const out = await this.#folderAt(entry.folder);
    if (entry.state === "unfinished") return { kind: "unfinished", out };
    const names = [wholeName(key), partName(key)];
    const left = await Promise.all(names.map((name) => out?.work.entry(name)));
    if (entry.how === "received" && left.some((file) => file !== undefined && file.links < 2)) {
      // The earlier run was killed after recording the file as finished, but before placing it.
      await this.#index.reopen(entry);
      return { kind: "unfinished", out };
    }
    // The earlier run may have been killed before the link was durable.
    if (entry.how === "received") await out?.settle(entry.place);
    for (const name of [journalName(key), ...names]) if (out !== undefined) await removeIfThere(out.work, name);
    this.#index.clear(key);
    const isNews = entry.how === "received" && left.some((file) => file !== undefined);
    return { kind: "over", settled: isNews ? entry : undefined };
  }

  /** Takes back the record that a file is finished: it could not be placed. */
  async #reopen(key: string): Promise<void> {
    const entry = this.#index.get(key);
    if (entry?.state === "finished") await this.#index.reopen(entry);
  }

  #over({ settled }: Over, source: FileSource, of: WholeMessage | EndMessage): Outcome {
    const { transfer, size, sha256 } = of;
    if (settled === undefined) return { kind: "repeated", transfer };
    const name = of.type === "whole" ? of.name : (settled.place.at(-1) ?? "");
    return this.#received(source, { transfer, name, size, sha256 }, settled.folder, settled.place);
  }

  #received(
    source: FileSource,
    { transfer, name, size, sha256 }: Pick<WholeMessage, "transfer" | "name" | "size" | "sha256">,
    folder: string,
    place: readonly string[],
  ): Outcome {
    const path = join(folder, ...place);
    const { from, vouched } = source;
    const elsewhere = folder !== this.#path;
    return { kind: "received", file: { from, vouched, transfer, name, path, bytes: size, sha256, elsewhere } };
  }

  async #setAside(
    partial: PartialFile,
    source: FileSource,
    transfer: string,
    reason: SetAsideReason,
    detail?: string,
  ): Promise<Outcome> {
    if (!(await partial.setAside(reason))) return kept(transfer, partial);
    return setAside(source, { transfer, name: partial.receiving.begin?.name }, reason, detail);
  }

  #begun(key: string, source: FileSource, { path: folder }: OutFolder): Promise<void> {
    return this.#index.put({ state: "unfinished", key, source: sourceOf(source), folder, at: this.#now() });
  }

  #record(
    key: string,
    source: FileSource,
    folder: string,
    how: Finished["how"],
    place: readonly string[],
  ): Promise<void> {
    return this.#index.put({ state: "finished", key, source: sourceOf(source), how, folder, place, at: this.#now() });
  }

  async #out(): Promise<OutFolder> {
    const out = await this.#folders.get(this.#path);
    if (out === undefined) throw new Error("the receiver is closed");
    return out;
  }

  /** Opens the folder for files of an earlier run. Returns undefined if it no longer exists. */
  async #folderAt(path: string): Promise<OutFolder | undefined> {
    let opening = this.#folders.get(path);
    if (opening === undefined) {
      const rules = { allowDotfiles: this.#options.allowDotfiles ?? false };
      opening = OutFolder.open(this.#fileSystem, path, { make: false, rules, now: this.#now });
      this.#folders.set(path, opening);
    }
    try {
      return await opening;
    } catch (error) {
      this.#folders.delete(path);
      if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return undefined;
      throw error;
    }
  }

  /** Removes left-overs of finished transfers: an earlier run was killed before it could. */
  async #sweep(out: OutFolder): Promise<void> {
    const names = new Set(await out.work.names());
    for (const name of names) {
      const [key = "", ending] = name.split(".");
      const entry = this.#index.get(key);
      if (entry?.state === "finished" && entry.folder === out.path) await this.#find(key);
      else if (entry?.state === "finished") await removeIfThere(out.work, name);
      // A part without a journal is garbage: the journal is created first and removed first.
      else if (ending === "part" && !names.has(journalName(key))) await removeIfThere(out.work, name);
    }
  }

  /** Closes the files of a transfer after an error, so that the state on disk is read again. */
  #closeLater(slot: Slot): void {
    slot.turns
      .alone(() => this.#closeFile(slot))
      .catch(() => undefined)
      .finally(() => this.#tidy(slot));
  }

  async #closeFile(slot: Slot): Promise<void> {
    const file = slot.file;
    slot.file = undefined;
    const opened = await file?.catch(() => undefined);
    if (opened?.kind === "open") await opened.partial.close();
  }

  /** Forgets transfers that are idle, and closes files beyond the limit. */
  #tidy(slot: Slot): void {
    if (slot.turns.count === 0 && slot.file === undefined && this.#slots.get(slot.key) === slot) {
      this.#slots.delete(slot.key);
    }
    if (this.#slots.size <= OPEN_TRANSFERS) return;
    for (const other of this.#slots.values()) {
      if (other.turns.count > 0 || other.file === undefined) continue;
      this.#closeLater(other);
      return;
    }
  }

  /** Runs at most WHOLE_AT_ONCE at a time. */
  async #inTurn<T>(use: () => Promise<T>): Promise<T> {
    await this.#wholes.take();
    try {
      return await use();
    } finally {
      this.#wholes.give();
    }
  }

  #cannotWrite(error: unknown): unknown {
    const code = codeOf(error);
    if (code === undefined || code.startsWith("ERR_") || error instanceof CommandError) return error;
    const cure = FULL.has(code) ? "free some space, or choose another --out" : "check that it is writable";
    return new CommandError("CannotWrite", `cannot write to ${this.#path} or the state folder (${code}): ${cure}`);
  }
}

function beginOf({ transfer, name, modified, mode, size }: WholeMessage): BeginMessage {
  return { type: "begin", transfer, name, modified, mode, size };
}

/**
 * Writes a file and reads it back. Returns false if an earlier run already did so: the file has its final name, or was
 * recorded as finished.
 */
async function writeWhole(
  out: OutFolder,
  name: string,
  mode: number,
  whole: WholeMessage,
  recorded: boolean,
): Promise<boolean> {
  const { bytes, modified } = whole;
  let file: OpenFile;
  try {
    file = await out.work.open(name, { create: mode });
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    if (recorded || ((await out.work.entry(name))?.links ?? 0) > 1) {
      await out.syncWork();
      return false;
    }
    await removeIfThere(out.work, name);
    file = await out.work.open(name, { create: mode });
  }
  try {
    await writeAll(file, bytes, 0);
    if (modified !== undefined) await file.setModified(modified);
    const [same] = await Promise.all([isSame(file, bytes), file.sync(), out.syncWork()]);
    if (!same) throw Object.assign(new Error("the file system gives back what was not written"), { code: "EIO" });
    return true;
  } catch (error) {
    await removeIfThere(out.work, name).catch(() => undefined);
    throw error;
  } finally {
    await file.close();
  }
}

async function isSame(file: OpenFile, bytes: Uint8Array): Promise<boolean> {
  // One byte of extra room reveals a longer file, and one call nearly always suffices.
  const read = Buffer.alloc(bytes.length + 1);
  let length = await file.read(read, 0);
  if (length < bytes.length) length += await readFully(file, read.subarray(length), length);
  return length === bytes.length && read.subarray(0, length).equals(bytes);
}

function kept(transfer: string, { receiving }: PartialFile): Outcome {
  return { kind: "kept", transfer, name: receiving.begin?.name, held: receiving.held.count, size: receiving.size };
}

function setAside(
  source: FileSource,
  { transfer, name }: { readonly transfer: string; readonly name?: string | undefined },
  reason: SetAsideReason,
  detail: string = SET_ASIDE[reason],
): Outcome {
  return { kind: "setAside", source, transfer, name, reason, detail };
}

/** Returns an identifier of the sender, to tell senders apart. */
function sourceOf({ from, vouched }: FileSource): string {
  return hash("sha256", JSON.stringify([from ?? null, vouched])).slice(0, 16);
}
