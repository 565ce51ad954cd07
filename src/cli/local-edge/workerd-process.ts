/**
 * One process of workerd: its files, its sockets and what it logs. It ends with the command: see edge-run.ts.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import { within } from "../../lib/runtime/timeout.ts";
import type { Order, RuntimeOptions } from "./worker-runtime.ts";
import {
  CERT_FILE,
  COMMAND_SOCKET,
  FRONT_SOCKET,
  formatWorkerdConfig,
  KEY_FILE,
  WORKER_FILE,
} from "./workerd-config.ts";

const require = createRequire(import.meta.url);

/** Startup takes a fifth of a second, or some on a busy machine. After this many milliseconds it will not start any more. */
const START_TIMEOUT = 60_000;

/** Longest path of a Unix socket in bytes: macOS allows 104 with the final zero, Linux 108. */
const LONGEST_SOCKET = 103;

/** What workerd writes last says why it ended: so many characters of it are kept. */
const LAST_WORDS = 500;

/** Lines that workerd writes to help its own developers, as Miniflare knows them. */
const NOISE = /\$LLVM_SYMBOLIZER is not set|took recursive isolate lock|stack:( (0|[a-f\d]{4,})){3,}|CODE_MOVED for/;

/** What workerd writes, without a level, when it crashes. */
const CRASH = /^\*\*\* /;

/** How a process ended. */
export interface Ended {
  /** Such as `ended by SIGKILL`. */
  readonly how: string;
  /** What it logged last as an error; empty if nothing. */
  readonly words: string;
}

export class WorkerdProcess {
  /** Resolves when the process is gone. */
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #options: RuntimeOptions;
  #command: { readonly socketPath: string } | { readonly port: number } | undefined;
  #words = "";

  private constructor(child: ChildProcess, options: RuntimeOptions) {
    this.#child = child;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      child.once("error", ({ message }) => resolve({ how: `cannot be run (${message})`, words: "" }));
      child.once("close", (code, signal) =>
        resolve({ how: signal === null ? `ended with status ${code}` : `ended by ${signal}`, words: this.#words }),
      );
    });
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on("line", (line) => this.#heard(line));
    }
  }

  /**
   * Starts a process. Resolves when it serves.
   *
   * @param number distinguishes it from the others of this run
   * @throws Error that says why it does not serve
   */
  static async start(options: RuntimeOptions, number: number): Promise<WorkerdProcess> {
    const { run, worker, front } = options;
    const inRun = (name: string) => join(run.folder, name);
    const objects = resolve(options.state ?? run.folder, "do");
    const socket = inRun(`command-${number}`);
    const hasUnixSocket = process.platform !== "win32" && Buffer.byteLength(socket) <= LONGEST_SOCKET;
    const config = formatWorkerdConfig({
      // What the collectors know of an earlier process has ended with it.
      worker: { ...worker, texts: { ...worker.texts, LOCAL_RUN: randomUUID() } },
      front,
      isTls: front.tls !== undefined,
      objects,
      // Others on this machine cannot enter the folder.
      command: hasUnixSocket ? `unix:${socket}` : "127.0.0.1:0",
      authorities: extraAuthorities(),
    });
    await mkdir(objects, { recursive: true });
    // An earlier try may have listened there before it failed.
    if (hasUnixSocket) await rm(socket, { force: true });
    const secret = ["config.capnp", ...(front.tls === undefined ? [] : [KEY_FILE, CERT_FILE])].map(inRun);
    try {
      for (const [name, text] of [
        // It stays, so that a full disk does not keep a crashed edge down.
        [WORKER_FILE, number === 1 ? worker.code : undefined],
        [KEY_FILE, front.tls?.key],
        [CERT_FILE, front.tls?.cert],
        ["config.capnp", config],
      ] as const) {
        if (text !== undefined) await writeFile(inRun(name), text, { mode: 0o600 });
      }
      // Objects without storage are experimental; with storage, each connection would have a database.
      const child = run.start(() =>
        spawn(workerdBinary(), ["serve", "--experimental", inRun("config.capnp"), "--control-fd=3"], {
          stdio: ["ignore", "pipe", "pipe", "pipe"],
          windowsHide: true,
          // In a group of its own: Ctrl-C is for the command, which tells the devices before it ends workerd.
          detached: process.platform !== "win32",
          env: { ...process.env, TZ: "UTC" },
        }),
      );
      const started = new WorkerdProcess(child, options);
      try {
        const port = await started.#listens();
        started.#command = hasUnixSocket ? { socketPath: socket } : { port };
        return started;
      } catch (error) {
        await started.end();
        throw error;
      }
    } finally {
      // It has read them, and they have secrets.
      for (const path of secret) await rm(path, { force: true });
    }
  }

  /** Milliseconds since the epoch of `performance.now()` at which it began to serve. */
  readonly since = performance.now();

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Sends an order to the worker. */
  async tell({ path, secret, body = "", patience }: Order): Promise<boolean> {
    const at = this.#command;
    if (at === undefined) return false;
    const answered = new Promise<boolean>((resolve) => {
      const headers = { Authorization: `Bearer ${secret}`, Host: "edge" };
      const asked = request({ ...at, path, method: "PUT", headers, signal: AbortSignal.timeout(patience) });
      asked.once("error", () => resolve(false));
      asked.once("response", (response: IncomingMessage) => {
        response.resume();
        const { statusCode = 0 } = response;
        response.once("close", () => resolve(statusCode >= 200 && statusCode < 300));
      });
      asked.end(body);
    });
    return (await within(patience, answered))?.value ?? false;
  }

  /** Resolves with any answer of the worker, also when its socket cannot be reached or the signal aborts. */
  async ask(signal: AbortSignal): Promise<void> {
    const at = this.#command;
    if (at === undefined) return;
    await new Promise<void>((resolve) => {
      // A connection of its own for each question.
      const asked = request({ ...at, path: "/health", headers: { Host: "edge" }, agent: false, signal });
      asked.once("error", () => resolve());
      asked.once("response", (response: IncomingMessage) => {
        response.resume();
        resolve();
      });
      asked.end();
    });
  }

  /** Kills it: everything acknowledged is on disk, and workerd has no other way to be ended at once. */
  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /**
   * Resolves when all sockets listen.
   *
   * @returns the port of the command's socket, if it has one
   */
  async #listens(): Promise<number> {
    const control = this.#child.stdio[3] as Readable;
    const listening = new Promise<number>((resolve) => {
      const ports = new Map<string, number>();
      createInterface({ input: control }).on("line", (line) => {
        const { socket, port = 0 } = readControl(line);
        if (socket !== undefined) ports.set(socket, port);
        if (ports.has(FRONT_SOCKET) && ports.has(COMMAND_SOCKET)) resolve(ports.get(COMMAND_SOCKET) ?? 0);
      });
    });
    const ended = this.ended.then(({ how, words }): never => {
      throw new Error(`workerd ${how}${words === "" ? "" : `: ${words}`}`);
    });
    const got = await within(START_TIMEOUT, Promise.race([listening, ended]));
    if (got === undefined) throw new Error(`workerd did not start within ${START_TIMEOUT / 1000} s: try again`);
    return got.value;
  }

  #heard(line: string): void {
    if (NOISE.test(line)) return;
    const { level, message } = readLog(line);
    if (level === "error") this.#words = message.slice(0, LAST_WORDS);
    this.#options.log(level, message);
  }
}

/** A line of workerd's log, which is JSON unless it crashes or does not start. */
function readLog(line: string): { readonly level: string; readonly message: string } {
  try {
    const { level, message } = JSON.parse(line) as { readonly level?: unknown; readonly message?: unknown };
    if (typeof level === "string" && typeof message === "string") return { level, message };
  } catch {
    // A line without a level.
  }
  return { level: CRASH.test(line) || /\berror\b|^Fatal/.test(line) ? "error" : "info", message: line };
}

function readControl(line: string): { readonly socket?: string; readonly port?: number } {
  try {
    return JSON.parse(line);
  } catch {
    // Part of a line: workerd has ended meanwhile.
    return {};
  }
}

/** The program, as its package installs it for this system. */
function workerdBinary(): string {
  const found: unknown = require("workerd");
  const path = typeof found === "string" ? found : (found as { readonly default?: unknown }).default;
  if (typeof path !== "string") throw new Error("the package workerd has no program for this system");
  return path;
}

/** What the operator trusts besides the authorities of the system, as Node itself reads it. */
function extraAuthorities(): readonly string[] {
  const own = process.platform === "win32" ? rootCertificates : [];
  const { NODE_EXTRA_CA_CERTS: path } = process.env;
  if (path === undefined || path === "") return own;
  try {
    return [...own, ...(readFileSync(path, "utf8").match(CERTIFICATE) ?? [])];
  } catch {
    // Node has warned about it.
    return own;
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;
