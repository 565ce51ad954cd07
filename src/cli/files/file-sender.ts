/**
 * Sends files as transfers (`src/transfer`): reads each to its end, sends it as one message or in parts, and resolves when
 * the relay has all of it safe.
 *
 *   file ─► open ─► claim in the journal ─► read ─► window ─► send ─► acknowledged ─► journal
 *
 * What is read is what is sent: a file that changes meanwhile goes as it was read, and the hash is of that. Small files go
 * side by side; of those in parts one is read at a time, so that an interrupted run leaves one unfinished.
 *
 * @module
 */
import { createHash, hash, randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { visible } from "../../lib/printable.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import {
  cancelMessage,
  encodeMessage,
  type FileAttributes,
  messageId,
  PART_BYTES,
  resourceOf,
  Sending,
  type TransferMessage,
  transferId,
  wholeMessage,
} from "../../transfer/index.ts";
import { CommandError } from "../output.ts";
import { cannotRead, type FileToSend, openToSend } from "./files-to-send.ts";
import type { Claim, SendJournal } from "./send-journal.ts";

/** Bytes that are sent and not acknowledged: a second of a 100 Mbit/s line, and a small process. */
const AHEAD_BYTES = 16 * 1024 * 1024;

/** Messages of the same: small files of some hundred milliseconds at the rate that a disk takes them. */
const AHEAD_MESSAGES = 256;

/** Files that are open at a time: enough to keep a disk busy, few against any limit of open files. */
const OPEN_FILES = 16;

/** More calls of `send` at a time bring nothing. */
export const FILES_AT_ONCE = AHEAD_MESSAGES + OPEN_FILES;

/** What files need of a device. */
export interface MessageSender {
  send(
    to: string,
    body: Uint8Array,
    options: { readonly id: string; readonly resource: string; readonly signal?: AbortSignal },
  ): Promise<unknown>;
}

/** Bytes that come from a program, and are read once. */
export interface StreamToSend {
  readonly name: string;
  readonly stream: AsyncIterable<Uint8Array>;
}

/** A file that the relay has safe. */
export interface SentFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly transfer: string;
  /** How many of the bytes an earlier run had sent. */
  readonly before: number;
  /** The file was changed while it was read: what was read was sent. */
  readonly isChanged: boolean;
}

export interface FileSenderOptions {
  readonly device: MessageSender;
  /** The recipient. */
  readonly to: string;
  /** Without it every file begins anew. */
  readonly journal?: Pick<SendJournal, "claim" | "progress" | "done" | "forget"> | undefined;
  /** Begin anew, whatever the journal says. */
  readonly isFresh?: boolean;
  /** Told of bytes that the relay has safe now, and of those of an earlier run. */
  readonly onProgress?: (bytes: number) => void;
}

/** A file all of whose messages are on their way. */
interface Queued {
  readonly file: SentFile;
  /** Resolves when the relay has it safe. */
  readonly safe: Promise<void>;
}

type Attributes = FileAttributes & { readonly size: number | null };

/** A transfer that nobody has begun. */
function newClaim(): Claim {
  const transfer = transferId(randomBytes(16));
  return { transfer, acknowledged: 0, sha256: undefined, isDone: false, isJournaled: false, superseded: [] };
}

export class FileSender {
  readonly #options: FileSenderOptions;
  readonly #onProgress: (bytes: number) => void;
  readonly #bytes = new Semaphore(AHEAD_BYTES);
  readonly #messages = new Semaphore(AHEAD_MESSAGES);
  readonly #files = new Semaphore(OPEN_FILES);
  readonly #inParts = new Semaphore(1);
  /** Transfers in parts that are begun and not safe, and whether a repeated run can go on with them. */
  readonly #unfinished = new Map<string, boolean>();
  readonly #withdraw = new AbortController();

  constructor(options: FileSenderOptions) {
    this.#options = options;
    this.#onProgress = options.onProgress ?? (() => undefined);
  }

  /**
   * Sends a file. Any number may be sent at a time: they wait for each other.
   *
   * @throws CommandError CannotRead, NameTooLong for this file; DeviceError when nothing more can be sent
   */
  async send(source: FileToSend | StreamToSend): Promise<SentFile> {
    await this.#files.take();
    let queued: Queued;
    try {
      queued = await ("stream" in source ? this.#queueStream(source) : this.#queueFile(source, false));
    } finally {
      this.#files.give();
    }
    await queued.safe;
    const { transfer, sha256 } = queued.file;
    this.#unfinished.delete(transfer);
    this.#options.journal?.done(transfer, sha256);
    return queued.file;
  }

  /** Transfers that the recipient has the beginning of, and not the end; `canGoOn` when a repeated run goes on with it. */
  get unfinished(): readonly { readonly transfer: string; readonly canGoOn: boolean }[] {
    return [...this.#unfinished].map(([transfer, canGoOn]) => ({ transfer, canGoOn }));
  }

  /** Reads and sends nothing more. What waits to be sent is withdrawn, and every `send` rejects. */
  stop(error: unknown): void {
    for (const semaphore of [this.#bytes, this.#messages, this.#files, this.#inParts]) semaphore.close(error);
    this.#withdraw.abort(error);
  }

  /**
   * Tells the recipient that a transfer will not be gone on with. A repeated run begins the file anew. Resolves when the
   * relay has that safe.
   *
   * @param reason a word
   */
  async cancel(transfer: string, reason: string): Promise<void> {
    this.#unfinished.delete(transfer);
    this.#options.journal?.forget(transfer);
    const message = cancelMessage(transfer, reason);
    const { device, to } = this.#options;
    await device.send(to, encodeMessage(message), { id: messageId(message), resource: resourceOf(message) });
  }

  /** The file goes on without waiting for it, and it changes nothing when it does not arrive. */
  #cancelAside(transfer: string, reason: string): void {
    this.cancel(transfer, reason).catch(() => undefined);
  }

  async #queueStream({ name, stream }: StreamToSend): Promise<Queued> {
    const pieces = piecesOfStream(stream);
    try {
      return await this.#queue({ name, size: null }, newClaim(), pieces);
    } catch (error) {
      throw isReadFailure(error) ? cannotRead(visible(name), error.cause) : error;
    }
  }

  async #queueFile(file: FileToSend, isFresh: boolean): Promise<Queued> {
    const { handle, found } = await openToSend(file);
    try {
      const claim = await this.#claim(file, found, isFresh);
      for (const transfer of claim.superseded) this.#cancelAside(transfer, "Superseded");
      if (claim.isDone) return this.#sentBefore(file.name, found.size, claim);
      const attributes = {
        name: file.name,
        modified: Math.trunc(found.mtimeMs),
        mode: found.mode & 0o7777,
        size: found.size,
      };
      const queued = await this.#queue(attributes, claim, piecesOfFile(handle, found.size));
      const now = await handle.stat();
      const isChanged = now.mtimeMs !== found.mtimeMs || now.size !== found.size;
      return { ...queued, file: { ...queued.file, isChanged } };
    } catch (error) {
      if (isReadFailure(error)) throw cannotRead(visible(String(file.path)), error.cause);
      if (!(error instanceof OtherContents)) throw error;
      this.#cancelAside(error.transfer, "Superseded");
      return await this.#queueFile(file, true);
    } finally {
      await handle.close();
    }
  }

  async #claim({ path, name }: FileToSend, found: Stats, isFresh: boolean): Promise<Claim> {
    const { journal, isFresh: isAllFresh = false } = this.#options;
    const claim = newClaim();
    if (journal === undefined) return claim;
    const identity = { path, name, size: found.size, modified: found.mtimeMs, inode: found.ino };
    return journal.claim(identity, claim.transfer, isFresh || isAllFresh);
  }

  #sentBefore(name: string, size: number, { transfer, sha256 = "" }: Claim): Queued {
    this.#onProgress(size);
    const file = { name, bytes: size, sha256, transfer, before: size, isChanged: false };
    return { file, safe: Promise.resolve() };
  }

  /** @throws ReadFailure, OtherContents, CommandError NameTooLong, DeviceError */
  async #queue(attributes: Attributes, claim: Claim, pieces: AsyncGenerator<Buffer, undefined>): Promise<Queued> {
    const first = (await pieces.next()).value ?? Buffer.alloc(0);
    const second = first.length < PART_BYTES ? undefined : (await pieces.next()).value;
    if (second === undefined) return this.#queueWhole(attributes, claim, first);
    await this.#inParts.take();
    try {
      return await this.#queueParts(attributes, claim, joined([first, second], pieces));
    } finally {
      this.#inParts.give();
    }
  }

  async #queueWhole(attributes: Attributes, { transfer }: Claim, bytes: Buffer): Promise<Queued> {
    const sha256 = hash("sha256", bytes, "hex");
    const { size: _, ...rest } = attributes;
    const { safe } = await this.#send(wholeMessage({ ...rest, transfer }, bytes, sha256));
    const file = { name: attributes.name, bytes: bytes.length, sha256, transfer, before: 0, isChanged: false };
    return { file, safe: awaitedLater(safe.then(() => this.#onProgress(bytes.length))) };
  }

  async #queueParts(attributes: Attributes, claim: Claim, pieces: AsyncIterable<Buffer>): Promise<Queued> {
    const { transfer, acknowledged: before } = claim;
    const { journal } = this.#options;
    const sending = new Sending({ ...attributes, transfer, from: before });
    const hashing = createHash("sha256");
    const sent = new Outstanding();
    /** Hashes of all before each offset that is not acknowledged yet. */
    const hashes = new Map<number, string>();
    let read = 0;
    try {
      for await (const bytes of pieces) {
        sent.check();
        read += bytes.length;
        hashing.update(bytes);
        const sha256 = hashing.copy().digest("hex");
        // An earlier run has sent it, if it is the same.
        if (read < before) continue;
        if (before > 0 && read === before && sha256 !== claim.sha256) throw new OtherContents(transfer);
        if (!this.#unfinished.has(transfer)) {
          this.#unfinished.set(transfer, claim.isJournaled);
          this.#onProgress(before);
          sent.add(await this.#send(sending.begin()));
        }
        if (read <= before) continue;
        const { length } = bytes;
        const part = sending.part(bytes);
        hashes.set(read, sha256);
        const { safe } = await this.#send(part);
        sent.add({
          safe: safe.then(() => {
            sending.acknowledge(part);
            const { acknowledged } = sending;
            const known = hashes.get(acknowledged);
            if (known !== undefined) journal?.progress(transfer, acknowledged, known);
            for (const offset of hashes.keys()) if (offset <= acknowledged) hashes.delete(offset);
            this.#onProgress(length);
          }),
        });
      }
      if (read < before) throw new OtherContents(transfer);
    } catch (error) {
      if (isReadFailure(error) && this.#unfinished.has(transfer)) this.#cancelAside(transfer, "CannotRead");
      throw error;
    }
    const sha256 = hashing.digest("hex");
    sent.add(await this.#send(sending.end(sha256)));
    const file = { name: attributes.name, bytes: sending.next, sha256, transfer, before, isChanged: false };
    return { file, safe: awaitedLater(sent.all()) };
  }

  /** Sends a message when there is room for it in the window. What this resolves with tells when the relay has it safe. */
  async #send(message: TransferMessage): Promise<{ readonly safe: Promise<void> }> {
    const body = encoded(message);
    const { device, to } = this.#options;
    await this.#messages.take();
    await this.#bytes.take(body.length);
    const options = { id: messageId(message), resource: resourceOf(message), signal: this.#withdraw.signal };
    const safe = device.send(to, body, options).then(() => undefined);
    const settled = () => {
      this.#messages.give();
      this.#bytes.give(body.length);
    };
    safe.then(settled, settled);
    return { safe };
  }
}

/** Promises of one file, of which only the first failure counts. */
class Outstanding {
  #count = 0;
  #failure: { readonly error: unknown } | undefined;
  #changed: () => void = () => undefined;

  add({ safe }: { readonly safe: Promise<void> }): void {
    this.#count += 1;
    safe
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#count -= 1;
        this.#changed();
      });
  }

  /** @throws the failure, when there was one */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when all have. */
  async all(): Promise<void> {
    while (this.#count > 0 && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    this.check();
  }
}

/** A promise that may reject before anybody awaits it. */
function awaitedLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** @throws CommandError NameTooLong */
function encoded(message: TransferMessage): Uint8Array {
  try {
    return encodeMessage(message);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new CommandError(
      "NameTooLong",
      `a file cannot be sent: ${error.message}; rename it, or a folder that it is in`,
    );
  }
}

/** A source that cannot be read to its end; the cause says why. */
class ReadFailure extends Error {}

function isReadFailure(error: unknown): error is ReadFailure {
  return error instanceof ReadFailure;
}

/** What an earlier run has sent of a file is not what stands in it now. */
class OtherContents extends Error {
  readonly transfer: string;

  constructor(transfer: string) {
    super("the file has other contents than before");
    this.transfer = transfer;
  }
}

/**
 * A file from its beginning to its end, in pieces of which all but the last have the size of a part.
 *
 * @param size that it seems to have: memory for a small one is not taken for a large one
 */
async function* piecesOfFile(handle: FileHandle, size: number): AsyncGenerator<Buffer, undefined> {
  let position = 0;
  for (let length = Math.min(size + 1, PART_BYTES); ; length = PART_BYTES) {
    let buffer = Buffer.allocUnsafe(length);
    let filled = 0;
    for (;;) {
      if (filled === PART_BYTES) break;
      if (filled === buffer.length) buffer = Buffer.concat([buffer], PART_BYTES);
      const { bytesRead } = await handle
        .read(buffer, filled, buffer.length - filled, position)
        .catch((cause: unknown) => Promise.reject(new ReadFailure("a file cannot be read", { cause })));
      if (bytesRead === 0) break;
      filled += bytesRead;
      position += bytesRead;
    }
    if (filled > 0) yield buffer.subarray(0, filled);
    if (filled < PART_BYTES) return;
  }
}

/** The same of a stream. */
async function* piecesOfStream(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, undefined> {
  let buffer = Buffer.allocUnsafe(PART_BYTES);
  let filled = 0;
  const source = stream[Symbol.asyncIterator]();
  for (;;) {
    const next = await source
      .next()
      .catch((cause: unknown) => Promise.reject(new ReadFailure("a stream cannot be read", { cause })));
    if (next.done === true) break;
    for (let bytes = next.value; bytes.length > 0; ) {
      const taken = bytes.subarray(0, PART_BYTES - filled);
      buffer.set(taken, filled);
      filled += taken.length;
      bytes = bytes.subarray(taken.length);
      if (filled < PART_BYTES) continue;
      yield buffer;
      buffer = Buffer.allocUnsafe(PART_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}

async function* joined(first: readonly Buffer[], rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  yield* rest;
}
