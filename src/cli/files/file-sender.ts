/**
 * Sends files as transfers (`src/transfer`): reads each file, sends it as one message or in parts, and resolves when
 * the relay has stored all of it.
 *
 *   file ─► open ─► claim in the journal ─► read ─► window ─► send ─► acknowledged ─► journal
 *
 * A file that changes while it is read is sent as read, and the hash covers what was sent. Small files are sent in
 * parallel. Of the files in parts one is read at a time, so that an interrupted run leaves only one unfinished.
 *
 * @module
 */
import { createHash, hash, randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { Condition } from "../../lib/condition.ts";
import { release } from "../../lib/octets.ts";
import { visible } from "../../lib/printable.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import {
  cancelMessage,
  encodeMessage,
  type FileAttributes,
  HEADROOM,
  messageId,
  PART_BYTES,
  resourceOf,
  Sending,
  type TransferMessage,
  transferId,
  wholeMessage,
} from "../../transfer/index.ts";
import { CommandError } from "../command-error.ts";
import { DiskPace } from "./disk-pace.ts";
import { cannotRead, type FileToSend, openToSend, type SourceFile } from "./files-to-send.ts";
import type { Claim, SendJournal } from "./send-journal.ts";

/** Unacknowledged bytes in flight: about a second at 100 Mbit/s, and a bound on memory. */
const AHEAD_BYTES = 16 * 1024 * 1024;

/** Unacknowledged messages in flight: small files for a few hundred milliseconds at disk speed. */
const AHEAD_MESSAGES = 256;

/** Files open at a time: enough to keep a disk busy, and few compared to any limit on open files. */
const OPEN_FILES = 16;

/** More concurrent calls of `send` gain nothing. */
export const FILES_AT_ONCE = AHEAD_MESSAGES + OPEN_FILES;

/** The part of a device that is needed here. */
export interface MessageSender {
  send(
    to: string,
    body: Uint8Array,
    options: { readonly id: string; readonly resource: string; readonly signal?: AbortSignal },
  ): Promise<unknown>;
}

/** The output of a program, which can be read only once. */
export interface StreamToSend {
  readonly name: string;
  readonly stream: AsyncIterable<Uint8Array>;
}

/** A file that the relay has stored. */
export interface SentFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly transfer: string;
  /** Bytes that an earlier run had sent. */
  readonly before: number;
  /** The file changed while it was read; it was sent as read. */
  readonly isChanged: boolean;
}

export interface FileSenderOptions {
  readonly device: MessageSender;
  /** The recipient's address. */
  readonly to: string;
  /** Without a journal, every file starts from the beginning. */
  readonly journal?: Pick<SendJournal, "claim" | "progress" | "done" | "forget"> | undefined;
  /** Start from the beginning, whatever the journal says. */
  readonly isFresh?: boolean;
  /** Called with the number of bytes newly stored by the relay, including those from an earlier run. */
  readonly onProgress?: (bytes: number) => void;
}

/** A file whose messages have all been sent. */
interface Queued {
  readonly file: SentFile;
  /** Resolves when the relay has stored it. */
  readonly safe: Promise<void>;
}

type Attributes = FileAttributes & { readonly size: number | null };

/** Returns a claim for a new transfer. */
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
  readonly #pace = new DiskPace();
  /** Transfers in parts that have begun and are not stored, and whether a repeated run can resume them. */
  readonly #unfinished = new Map<string, boolean>();
  readonly #withdraw = new AbortController();
  /** Messages that are queued or in flight. */
  readonly #pending = new Set<Promise<void>>();

  constructor(options: FileSenderOptions) {
    this.#options = options;
    this.#onProgress = options.onProgress ?? (() => undefined);
  }

  /**
   * Sends a file. Any number of calls may run concurrently; they queue for the window.
   *
   * @throws CommandError CannotRead, NameTooLong for this file; DeviceError if nothing more can be sent
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

  /** Transfers of which the recipient has the beginning but not the end; `canGoOn` if a repeated run resumes it. */
  get unfinished(): readonly { readonly transfer: string; readonly canGoOn: boolean }[] {
    return [...this.#unfinished].map(([transfer, canGoOn]) => ({ transfer, canGoOn }));
  }

  /** Stops reading and sending. Queued messages are withdrawn, and every `send` rejects. */
  stop(error: unknown): void {
    for (const semaphore of [this.#bytes, this.#messages, this.#files, this.#inParts]) semaphore.close(error);
    this.#withdraw.abort(error);
  }

  /** The messages in flight; undefined if none is. After {@link stop}, one that was partly sent is still finished. */
  get inFlight(): Promise<unknown> | undefined {
    return this.#pending.size === 0 ? undefined : Promise.allSettled(this.#pending);
  }

  /**
   * Tells the recipient that a transfer is abandoned. A repeated run sends the file from the beginning. Resolves when
   * the relay has stored the message.
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

  /** Cancels without waiting. It does no harm if the message is lost. */
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
    const { file: source, found } = await openToSend(file, this.#pace);
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
      const queued = await this.#queue(attributes, claim, piecesOfFile(source, found.size));
      const now = source.stat();
      const isChanged = now.mtimeMs !== found.mtimeMs || now.size !== found.size;
      return { ...queued, file: { ...queued.file, isChanged } };
    } catch (error) {
      if (isReadFailure(error)) throw cannotRead(visible(String(file.path)), error.cause);
      if (!(error instanceof OtherContents)) throw error;
      this.#cancelAside(error.transfer, "Superseded");
      return await this.#queueFile(file, true);
    } finally {
      source.close();
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
    /** Hash of the file up to each offset that is not acknowledged yet. */
    const hashes = new Map<number, string>();
    let read = 0;
    try {
      for await (const bytes of pieces) {
        sent.check();
        read += bytes.length;
        hashing.update(bytes);
        const sha256 = hashing.copy().digest("hex");
        // An earlier run sent this, if the contents are the same.
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
            releasePiece(bytes);
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

  /** Sends a message when the window has room. Returns a promise that resolves when the relay has stored it. */
  async #send(message: TransferMessage): Promise<{ readonly safe: Promise<void> }> {
    const body = encoded(message);
    const { device, to } = this.#options;
    await this.#messages.take();
    await this.#bytes.take(body.length);
    const options = { id: messageId(message), resource: resourceOf(message), signal: this.#withdraw.signal };
    const safe = device.send(to, body, options).then(() => undefined);
    this.#pending.add(safe);
    const settled = () => {
      this.#pending.delete(safe);
      this.#messages.give();
      this.#bytes.give(body.length);
    };
    safe.then(settled, settled);
    return { safe };
  }
}

/** The pending promises of one file. Only the first failure counts. */
class Outstanding {
  #count = 0;
  #failure: { readonly error: unknown } | undefined;
  readonly #changed = new Condition();

  add({ safe }: { readonly safe: Promise<void> }): void {
    this.#count += 1;
    safe
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#count -= 1;
        this.#changed.notifyAll();
      });
  }

  /** @throws the first failure, if any */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when all promises have. */
  async all(): Promise<void> {
    while (this.#count > 0 && this.#failure === undefined) {
      await this.#changed.wait();
    }
    this.check();
  }
}

/** Marks a rejection as handled: the promise may reject before it is awaited. */
function awaitedLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** @throws CommandError NameTooLong */
function encoded(message: TransferMessage): Uint8Array {
  try {
    return encodeMessage(message, HEADROOM);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new CommandError("NameTooLong", `a file cannot be sent: ${error.message}; rename it or a folder in its path`);
  }
}

/** The source could not be read to its end; see `cause`. */
class ReadFailure extends Error {}

function isReadFailure(error: unknown): error is ReadFailure {
  return error instanceof ReadFailure;
}

/** The file no longer matches what an earlier run sent of it. */
class OtherContents extends Error {
  readonly transfer: string;

  constructor(transfer: string) {
    super("the file has other contents than before");
    this.transfer = transfer;
  }
}

/**
 * Reads a file in pieces. All but the last have the size of a part. Each has {@link HEADROOM} before it in its buffer.
 *
 * @param size expected size, so that a small file gets a small buffer
 */
async function* piecesOfFile(file: SourceFile, size: number): AsyncGenerator<Buffer, undefined> {
  let position = 0;
  for (let length = Math.min(size + 1, PART_BYTES); ; length = PART_BYTES) {
    let piece = newPiece(length);
    let filled = 0;
    for (;;) {
      if (filled === PART_BYTES) break;
      if (filled === piece.length) {
        const longer = newPiece(PART_BYTES);
        piece.copy(longer);
        piece = longer;
      }
      const most = piece.length - filled;
      let isAtEnd: boolean;
      try {
        const bytesRead = await file.read(piece, filled, most, position);
        filled += bytesRead;
        position += bytesRead;
        // Only another read finds the end for certain. But a read that stops short at the size that the file had and
        // has is enough: this saves every second read of a small file.
        isAtEnd = bytesRead === 0 || (bytesRead < most && position === size && file.stat().size === size);
      } catch (cause) {
        throw new ReadFailure("a file cannot be read", { cause });
      }
      if (isAtEnd) break;
    }
    if (filled > 0) yield piece.subarray(0, filled);
    if (filled < PART_BYTES) return;
  }
}

/** Reads a stream in pieces, like {@link piecesOfFile}. */
async function* piecesOfStream(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, undefined> {
  let piece = newPiece(PART_BYTES);
  let filled = 0;
  const source = stream[Symbol.asyncIterator]();
  for (;;) {
    const next = await source
      .next()
      .catch((cause: unknown) => Promise.reject(new ReadFailure("a stream cannot be read", { cause })));
    if (next.done === true) break;
    for (let bytes = next.value; bytes.length > 0; ) {
      const taken = bytes.subarray(0, PART_BYTES - filled);
      piece.set(taken, filled);
      filled += taken.length;
      bytes = bytes.subarray(taken.length);
      if (filled < PART_BYTES) continue;
      yield piece;
      piece = newPiece(PART_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

function newPiece(length: number): Buffer {
  return Buffer.allocUnsafe(HEADROOM + length).subarray(HEADROOM);
}

/**
 * Frees the memory of a piece that has the size of a part. The garbage collector takes a quarter of the time of `send` if
 * it has to free all of them. Smaller pieces may share their memory with others.
 */
function releasePiece({ buffer }: Buffer): void {
  if (buffer.byteLength === HEADROOM + PART_BYTES) release(new Uint8Array(buffer));
}

async function* joined(first: readonly Buffer[], rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  yield* rest;
}
