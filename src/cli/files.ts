/**
 * Files as messages. A file goes as one message or several, in order, on a resource that names it:
 *
 *   resource  file?name=report.pdf&transfer=k3v9...
 *   part      where the message's body stands in the file; the whole length is known at the latest in the last one
 *
 * @module
 */
import { createHash, type Hash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Device, Message } from "../device/index.ts";
import { guidFrom } from "../encapsulation/index.ts";
import { CommandError } from "./output.ts";

/** Octets of a file that go in one message: small enough to begin at once and to repeat little, large enough to be fast. */
const PART = 1024 * 1024;

/** Messages on their way at a time: the round trip is filled, and a lost connection repeats no more than this. */
const AHEAD = 8;

const UNSAFE = /[/\\\0]/;

/** A file that was sent or received. */
export interface Transferred {
  readonly name: string;
  readonly octets: number;
  readonly sha256: string;
}

/**
 * Sends octets as a file.
 *
 * @param total octets that `source` will give; undefined when nobody knows, as with standard input
 * @param progress told the octets that the relay has safe
 */
export async function sendFile(
  device: Device,
  to: string,
  name: string,
  source: AsyncIterable<Uint8Array>,
  total: number | undefined,
  progress: (octets: number) => void,
): Promise<Transferred> {
  const transfer = guidFrom(randomBytes(24));
  const resource = `file?${new URLSearchParams({ name, transfer })}`;
  const hash = createHash("sha256");
  const ahead: Promise<void>[] = [];
  let offset = 0;
  let safe = 0;
  for await (const { octets, last } of parts(source)) {
    const begin = offset;
    offset += octets.length;
    hash.update(octets);
    const whole = last ? offset : total;
    const part = { offset: BigInt(begin), total: whole === undefined ? undefined : BigInt(whole) };
    const sent = device.send(to, octets, { resource, part }).then(() => {
      safe += octets.length;
      progress(safe);
    });
    // The first failure is thrown where it is awaited; the others must not go unhandled meanwhile.
    sent.catch(() => undefined);
    ahead.push(sent);
    if (ahead.length >= AHEAD) await ahead.shift();
  }
  await Promise.all(ahead);
  return { name, octets: offset, sha256: hash.digest("hex") };
}

/** Cuts a source into parts, and knows which is the last: an empty file has one, empty. */
async function* parts(source: AsyncIterable<Uint8Array>): AsyncGenerator<{ octets: Uint8Array; last: boolean }> {
  let held: Uint8Array[] = [];
  let length = 0;
  for await (const octets of source) {
    held.push(octets);
    length += octets.length;
    while (length > PART) {
      const whole = Buffer.concat(held);
      yield { octets: whole.subarray(0, PART), last: false };
      held = [whole.subarray(PART)];
      length -= PART;
    }
  }
  yield { octets: Buffer.concat(held), last: true };
}

/** A file that is arriving. */
interface Arriving {
  readonly name: string;
  readonly handle: FileHandle;
  readonly path: string;
  readonly hash: Hash;
  next: bigint;
}

/** Puts files together in a folder: under the sender's name, or with a number behind it when that is taken. */
export class FileReceiver {
  readonly #folder: string;
  readonly #arriving = new Map<string, Arriving>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Takes a message. Resolves with the file when this was its last part, when the file is on the disk under its name.
   *
   * @throws CommandError NotAFile, PartMissing
   */
  async take(
    message: Message,
  ): Promise<(Transferred & { readonly path: string; readonly from: string | undefined }) | undefined> {
    const { name, transfer } = described(message);
    const offset = message.part?.offset ?? 0n;
    let file = this.#arriving.get(transfer);
    if (file === undefined) {
      await mkdir(this.#folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
        throw new CommandError(
          "CannotWrite",
          `cannot use ${this.#folder} as a folder (${error.code}): choose another --out`,
        );
      });
      const path = join(this.#folder, `.${name}.${transfer}.part`);
      // A program that was killed in the middle goes on where it was: parts come in order, and those before are here.
      const handle = await open(path, offset === 0n ? "w+" : "r+").catch(() => undefined);
      if (handle === undefined) throw missing(name, message.from, offset);
      file = { name, path, handle, hash: createHash("sha256"), next: 0n };
      this.#arriving.set(transfer, file);
      if (offset > 0n) await catchUp(file, offset, message.from);
    }
    if (offset > file.next) throw missing(name, message.from, offset);
    if (offset === file.next) {
      await file.handle.write(message.body, 0, message.body.length, Number(offset));
      file.hash.update(message.body);
      file.next += BigInt(message.body.length);
    }
    if (message.part?.total !== undefined && file.next < message.part.total) return undefined;
    if (message.part !== undefined && message.part.total === undefined) return undefined;
    this.#arriving.delete(transfer);
    await file.handle.sync();
    await file.handle.close();
    const path = await settle(this.#folder, name, file.path);
    return { name, path, octets: Number(file.next), sha256: file.hash.digest("hex"), from: message.from };
  }

  /** Leaves unfinished parts where they are, to go on with later. */
  async close(): Promise<void> {
    for (const { handle } of this.#arriving.values()) await handle.close();
    this.#arriving.clear();
  }
}

/** Whether a message is a file, or part of one. */
export function isFile(message: Message): boolean {
  return message.resource === "file" || message.resource.startsWith("file?");
}

function described(message: Message): { readonly name: string; readonly transfer: string } {
  const parameters = new URLSearchParams(message.resource.slice("file?".length));
  const transfer = parameters.get("transfer") ?? message.id;
  // A name comes from somebody else: it must stay in the folder.
  const name = basename((parameters.get("name") ?? "").replace(/\\/g, "/")) || "unnamed";
  const harmless = name === "." || name === ".." || UNSAFE.test(name) ? "unnamed" : name.slice(0, 200);
  return { name: harmless, transfer: /^[a-z0-9]{1,64}$/.test(transfer) ? transfer : sha(transfer).slice(0, 32) };
}

function sha(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Reads what is there of a file, so that its hash is that of the whole. */
async function catchUp(file: Arriving, offset: bigint, from: string | undefined): Promise<void> {
  const buffer = new Uint8Array(PART);
  while (file.next < offset) {
    const left = Number(offset - file.next);
    const { bytesRead } = await file.handle.read(buffer, 0, Math.min(PART, left), Number(file.next));
    if (bytesRead === 0) throw missing(file.name, from, offset);
    file.hash.update(buffer.subarray(0, bytesRead));
    file.next += BigInt(bytesRead);
  }
}

/** Gives the finished file its name; an existing file is never overwritten. */
async function settle(folder: string, name: string, part: string): Promise<string> {
  const dot = name.lastIndexOf(".");
  const stem = dot > 0 ? name.slice(0, dot) : name;
  const ending = dot > 0 ? name.slice(dot) : "";
  for (let n = 0; ; n += 1) {
    const path = join(folder, n === 0 ? name : `${stem} (${n})${ending}`);
    // Opening for exclusive creation reserves the name; renaming then replaces the empty file.
    const reserved = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return undefined;
      throw error;
    });
    if (reserved === undefined) continue;
    await reserved.close();
    await rename(part, path);
    return path;
  }
}

function missing(name: string, from: string | undefined, offset: bigint): CommandError {
  return new CommandError(
    "PartMissing",
    `the first ${offset} octets of ${name} from ${from ?? "somebody"} were fetched before, into another folder: use the same --out`,
  );
}
