/**
 * The floors of files: a client that posts a file to the bare platform, one that reads it there, and a program that
 * only writes small files to a disk. Each is its own process, as `send` and `recv` are.
 */
import { createHash } from "node:crypto";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { Agent, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { serve } from "../support/rpc.ts";

const PART = 1024 * 1024;

/** The sender's concurrent requests: more gain nothing on two cores. */
const AHEAD = 8;

const agent = new Agent({ keepAlive: true });
let reading: Promise<string> | undefined;

serve({
  /** Posts a file part by part. Resolves with its sha256 when the last part is durable. */
  async post({ url, path }: { url: string; path: string }): Promise<string> {
    const file = await open(path);
    const hash = createHash("sha256");
    const ahead = new Set<Promise<void>>();
    for (let n = 0; ; n += 1) {
      const part = Buffer.allocUnsafe(PART);
      const { bytesRead } = await file.read(part, 0, PART);
      if (bytesRead === 0) break;
      const body = part.subarray(0, bytesRead);
      hash.update(body);
      const sent = answered("POST", `${url}?n=${n}`, body).then((answer) => {
        answer.resume();
        ahead.delete(sent);
      });
      ahead.add(sent);
      if (ahead.size >= AHEAD) await Promise.race(ahead);
    }
    await Promise.all(ahead);
    await file.close();
    return hash.digest("hex");
  },

  /** Starts to read, and to write a file if a path is given. */
  async read({ url, bytes, path }: { url: string; bytes: number; path?: string }): Promise<void> {
    const answer = await answered("GET", url);
    reading = path === undefined ? hashOf(answer, bytes) : hashOfFile(answer, bytes, path);
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
});

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
  const hash = createHash("sha256");
  let read = 0;
  for await (const chunk of answer) {
    hash.update(chunk);
    read += chunk.length;
    if (read >= bytes) break;
  }
  if (read !== bytes) throw new Error(`${read} of ${bytes} bytes came`);
  return hash.digest("hex");
}

/** Writes a file as `recv` has to: each part is synced, then read back, and the hash is that of what was read back. */
async function hashOfFile(answer: IncomingMessage, bytes: number, path: string): Promise<string> {
  const file = await open(path, "wx+");
  const hash = createHash("sha256");
  const back = Buffer.allocUnsafe(PART);
  let arrived = 0;
  let written = 0;
  let hashed = 0;
  let part: Uint8Array[] = [];
  for await (const chunk of answer) {
    part.push(chunk);
    arrived += chunk.length;
    if (arrived - written < PART && arrived < bytes) continue;
    const { bytesWritten } = await file.writev(part, written);
    written += bytesWritten;
    part = [];
    await file.datasync();
    while (hashed < written) {
      const { bytesRead } = await file.read(back, 0, Math.min(PART, written - hashed), hashed);
      hash.update(back.subarray(0, bytesRead));
      hashed += bytesRead;
    }
    if (arrived >= bytes) break;
  }
  await file.close();
  if (written !== bytes) throw new Error(`${written} of ${bytes} bytes were written`);
  return hash.digest("hex");
}
