/**
 * The floors of files: a client that posts a file to the bare platform, one that reads it there, and a program that
 * only writes small files to a disk. Each is its own process, as `send` and `recv` are.
 */
import { createHash, hash } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, link, mkdir, open, readFile, rename, unlink } from "node:fs/promises";
import { Agent, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { coalesced } from "../../src/lib/shared-run.ts";
import { WHOLE_AT_ONCE } from "../../src/transfer/index.ts";
import { serve } from "../support/rpc.ts";

const PART = 1024 * 1024;

/** The sender's concurrent requests: more gain nothing on two cores. */
const AHEAD = 8;

/** Bytes of a small file, and of its hash. */
const SMALL = 1024;
const DIGEST = 32;

/** Small files in one body. */
const BATCH = 64;

const agent = new Agent({ keepAlive: true });
let reading: Promise<string> | undefined;
let receiving: Promise<number> | undefined;

serve({
  /** Posts a file part by part. Resolves with its sha256 when the last part is durable. */
  async post({ url, path }: { url: string; path: string }): Promise<string> {
    const file = await open(path);
    const hashing = createHash("sha256");
    const ahead = new Set<Promise<void>>();
    for (let n = 0; ; n += 1) {
      const part = Buffer.allocUnsafe(PART);
      const { bytesRead } = await file.read(part, 0, PART);
      if (bytesRead === 0) break;
      const body = part.subarray(0, bytesRead);
      hashing.update(body);
      const sent = answered("POST", `${url}?n=${n}`, body).then((answer) => {
        answer.resume();
        ahead.delete(sent);
      });
      ahead.add(sent);
      if (ahead.size >= AHEAD) await Promise.race(ahead);
    }
    await Promise.all(ahead);
    await file.close();
    return hashing.digest("hex");
  },

  /** Posts a file as one body. Resolves with its sha256 when all of it is durable. */
  async stream({ url, path, bytes }: { url: string; path: string; bytes: number }): Promise<string> {
    const file = await open(path);
    const hashing = createHash("sha256");
    const asked = request(url, { method: "POST", agent, headers: { "Content-Length": bytes } });
    const answered = once(asked, "response");
    for (;;) {
      const part = Buffer.allocUnsafe(PART);
      const { bytesRead } = await file.read(part, 0, PART);
      if (bytesRead === 0) break;
      const body = part.subarray(0, bytesRead);
      hashing.update(body);
      if (!asked.write(body)) await once(asked, "drain");
    }
    asked.end();
    const [answer] = (await answered) as [IncomingMessage];
    answer.resume();
    if (answer.statusCode !== 204) throw new Error(`POST ${url}: ${answer.statusCode}`);
    await file.close();
    return hashing.digest("hex");
  },

  /** Starts to read, and to write a file if a path is given. */
  async read({ url, bytes, path }: { url: string; bytes: number; path?: string }): Promise<void> {
    const answer = await answered("GET", url);
    reading = path === undefined ? hashOf(answer, bytes) : hashOfFile(answer, bytes, path, url);
    reading.catch(() => undefined);
  },

  /** The sha256 of what was read, once all of it has arrived. */
  hash(): Promise<string> {
    return reading ?? Promise.reject(new Error("nothing is read"));
  },

  /** Creates, writes, syncs and renames this many files of a KiB. Returns the milliseconds. */
  async create({ folder, count, atOnce }: { folder: string; count: number; atOnce: number }): Promise<number> {
    await mkdir(folder);
    const contents = Buffer.alloc(1024, "x");
    const began = performance.now();
    let next = 0;
    const one = async () => {
      while (next < count) {
        const name = join(folder, String(next));
        next += 1;
        const file: FileHandle = await open(`${name}.part`, "wx");
        await file.write(contents);
        await file.sync();
        await file.close();
        await rename(`${name}.part`, name);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, one));
    return performance.now() - began;
  },

  /**
   * The same as `recv` has to do it: a file also gets its time, is read back, and never replaces another; the folders
   * and two lines in a log are synced, shared by all files that wait for it.
   */
  async receive({ folder, count, atOnce }: { folder: string; count: number; atOnce: number }): Promise<number> {
    const receiver = await Receiver.in(folder);
    const contents = Buffer.alloc(SMALL, "x");
    const began = performance.now();
    let next = 0;
    const one = async () => {
      while (next < count) {
        next += 1;
        await receiver.put(String(next), contents);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, one));
    const milliseconds = performance.now() - began;
    await receiver.close();
    return milliseconds;
  },

  /** Posts this many files of a folder, each with its hash, in bodies of several. */
  async postFiles({ url, folder, count }: { url: string; folder: string; count: number }): Promise<void> {
    const ahead = new Set<Promise<void>>();
    for (let n = 0; n * BATCH < count; n += 1) {
      const names = Array.from({ length: Math.min(BATCH, count - n * BATCH) }, (_, at) => String(n * BATCH + at));
      const all = await Promise.all(names.map((name) => readFile(join(folder, name))));
      const body = Buffer.concat(all.flatMap((bytes) => [hash("sha256", bytes, "buffer"), bytes]));
      const sent = answered("POST", `${url}?n=${n}`, body).then((answer) => {
        answer.resume();
        ahead.delete(sent);
      });
      ahead.add(sent);
      if (ahead.size >= AHEAD) await Promise.race(ahead);
    }
    await Promise.all(ahead);
  },

  /** Starts to receive this many files into a folder. */
  async readFiles({ url, folder, count }: { url: string; folder: string; count: number }): Promise<void> {
    const receiver = await Receiver.in(folder);
    receiving = receiveFiles(await answered("GET", url), receiver, url, count).finally(() => receiver.close());
    receiving.catch(() => undefined);
  },

  /** Resolves when all files are received. Returns how many came unchanged. */
  received(): Promise<number> {
    return receiving ?? Promise.reject(new Error("nothing is received"));
  },
});

/** Receives small files as `recv` has to. */
class Receiver {
  readonly #folder: string;
  readonly #handles: readonly FileHandle[];
  readonly #syncs: readonly (() => Promise<void>)[];
  readonly #log: FileHandle;
  #lines = "";
  readonly #logged = coalesced(() => this.#write());

  private constructor(folder: string, handles: readonly FileHandle[], log: FileHandle) {
    this.#folder = folder;
    this.#handles = handles;
    this.#syncs = handles.map((handle) => coalesced(() => handle.sync()));
    this.#log = log;
  }

  static async in(folder: string): Promise<Receiver> {
    await mkdir(join(folder, "work"), { recursive: true });
    const handles = await Promise.all([open(folder), open(join(folder, "work"))]);
    return new Receiver(folder, handles, await open(join(folder, "log"), "ax"));
  }

  async put(name: string, contents: Buffer): Promise<void> {
    const [synced, workSynced] = this.#syncs;
    const place = join(this.#folder, "work", name);
    const write = async () => {
      const file = await open(place, "wx+");
      await file.write(contents);
      await file.utimes(1, 1);
      const back = Buffer.alloc(contents.length + 1);
      await Promise.all([file.read(back, 0, back.length, 0), file.sync(), workSynced?.()]);
      await file.close();
      if (!back.subarray(0, contents.length).equals(contents)) throw new Error(`${name} is not what was written`);
    };
    await Promise.all([write(), this.#note(`${name} begun\n`)]);
    await link(place, join(this.#folder, name));
    await Promise.all([this.#note(`${name} done\n`), synced?.()]);
    await unlink(place);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#handles, this.#log].map((handle) => handle.close()));
  }

  #note(line: string): Promise<void> {
    this.#lines += line;
    return this.#logged();
  }

  async #write(): Promise<void> {
    const lines = this.#lines;
    this.#lines = "";
    await this.#log.write(lines);
    await this.#log.datasync();
  }
}

/** Receives files from an answer, and acknowledges each body when all of its files are on disk. */
async function receiveFiles(answer: IncomingMessage, receiver: Receiver, url: string, count: number): Promise<number> {
  const size = DIGEST + SMALL;
  const whole = Buffer.allocUnsafe(count * size);
  let arrived = 0;
  let next = 0;
  let intact = 0;
  const left = Array.from({ length: Math.ceil(count / BATCH) }, (_, n) => Math.min(BATCH, count - n * BATCH));
  let removed = -1;
  const ahead = new Set<Promise<void>>();
  const acknowledged: Promise<unknown>[] = [];
  const one = async (n: number) => {
    const message = whole.subarray(n * size, (n + 1) * size);
    const contents = message.subarray(DIGEST);
    if (hash("sha256", contents, "buffer").equals(message.subarray(0, DIGEST))) intact += 1;
    await receiver.put(String(n), contents);
    const batch = Math.floor(n / BATCH);
    left[batch] = (left[batch] ?? 0) - 1;
    const before = removed;
    while (left[removed + 1] === 0) removed += 1;
    if (removed > before) acknowledged.push(answered("PUT", `${url}?n=${removed}`).then((done) => done.resume()));
  };
  for await (const chunk of answer) {
    arrived += (chunk as Buffer).copy(whole, arrived);
    for (; (next + 1) * size <= arrived; next += 1) {
      const taken: Promise<void> = one(next).finally(() => ahead.delete(taken));
      ahead.add(taken);
      if (ahead.size >= WHOLE_AT_ONCE) await Promise.race(ahead);
    }
    if (next >= count) break;
  }
  await Promise.all(ahead);
  await Promise.all(acknowledged);
  return intact;
}

function answered(method: string, url: string, body?: Uint8Array): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, agent, ...(body && { headers: { "Content-Length": body.length } }) });
    asked.on("error", reject);
    asked.on("response", (answer) => {
      if (answer.statusCode === 200 || answer.statusCode === 204) resolve(answer);
      else reject(new Error(`${method} ${url}: ${answer.statusCode}`));
    });
    asked.end(body);
  });
}

async function hashOf(answer: IncomingMessage, bytes: number): Promise<string> {
  const hashing = createHash("sha256");
  let read = 0;
  for await (const chunk of answer) {
    hashing.update(chunk);
    read += chunk.length;
    if (read >= bytes) break;
  }
  if (read !== bytes) throw new Error(`${read} of ${bytes} bytes came`);
  return hashing.digest("hex");
}

/**
 * Writes a file as `recv` has to: each part is synced and acknowledged, then read back, and the hash is that of what was
 * read back.
 */
async function hashOfFile(answer: IncomingMessage, bytes: number, path: string, url: string): Promise<string> {
  const file = await open(path, "wx+");
  const hashing = createHash("sha256");
  const back = Buffer.allocUnsafe(PART);
  let arrived = 0;
  let written = 0;
  let hashed = 0;
  let part: Uint8Array[] = [];
  const acknowledged: Promise<unknown>[] = [];
  for await (const chunk of answer) {
    part.push(chunk);
    arrived += chunk.length;
    if (arrived - written < PART && arrived < bytes) continue;
    const { bytesWritten } = await file.writev(part, written);
    written += bytesWritten;
    part = [];
    await file.datasync();
    const rows = written === bytes ? Math.ceil(written / PART) : Math.floor(written / PART);
    acknowledged.push(answered("PUT", `${url}?n=${rows - 1}`).then((removed) => removed.resume()));
    while (hashed < written) {
      const { bytesRead } = await file.read(back, 0, Math.min(PART, written - hashed), hashed);
      hashing.update(back.subarray(0, bytesRead));
      hashed += bytesRead;
    }
    if (arrived >= bytes) break;
  }
  await Promise.all(acknowledged);
  await file.close();
  if (written !== bytes) throw new Error(`${written} of ${bytes} bytes were written`);
  return hashing.digest("hex");
}
