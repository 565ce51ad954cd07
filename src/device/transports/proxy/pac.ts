/**
 * Proxy auto-configuration: fetches a PAC file and evaluates it in a sandbox (QuickJS in WebAssembly), with limits for
 * time and memory. The script learns the scheme and the host of a destination, never a path.
 *
 * The packages are loaded when the first PAC file is used.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { networkInterfaces } from "node:os";
import { fileURLToPath } from "node:url";
import { bracketed } from "../../../lib/host-port.ts";
import { within } from "../../../lib/runtime/timeout.ts";
import type { ProxyChain } from "../transport.ts";
import { parseProxy } from "./proxy-url.ts";

/** How long fetching may take, and how long the script may run, in milliseconds. A connection waits for both. */
export const PAC_TIMEOUT = 1000;

/** The longest PAC file, in bytes: the limit of browsers. */
export const PAC_BYTES = 1024 * 1024;

/** Memory of the sandbox, in bytes: the script, and what it makes of it. */
const PAC_MEMORY = 32 * 1024 * 1024;

/** Alternatives in one answer of a script; each costs a connection. */
const PAC_PROXIES = 8;

/** A destination as a script sees it. */
export interface PacDestination {
  readonly scheme: "http" | "https";
  /** Without brackets. */
  readonly host: string;
}

/**
 * Fetches a PAC file from a URL (`http`, `https`, `file`) or a path. Follows no redirect and uses no proxy.
 *
 * @throws Error that says why, in words
 */
export async function fetchPac(location: string, timeout: number = PAC_TIMEOUT): Promise<string> {
  const signal = AbortSignal.timeout(timeout);
  if (/^https?:/i.test(location)) return request(new URL(location), signal);
  const path = /^file:/i.test(location) ? fileURLToPath(location) : location;
  const found = await stat(path);
  // Reading a device or a pipe would not end.
  if (!found.isFile()) throw new Error("it is not a file");
  if (found.size > PAC_BYTES) throw new Error(`it is longer than ${PAC_BYTES} bytes`);
  return (await readFile(path, { signal })).subarray(0, PAC_BYTES).toString("utf8");
}

function request(url: URL, signal: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const headers = { Accept: "application/x-ns-proxy-autoconfig, */*;q=0.5" };
  const asked = (url.protocol === "https:" ? getHttps : getHttp)(url, { signal, headers, agent: false }, (response) => {
    const pieces: Buffer[] = [];
    let length = 0;
    if (response.statusCode !== 200) {
      asked.destroy(new Error(`the answer is ${response.statusCode}`));
      return;
    }
    response.on("data", (piece: Buffer) => {
      length += piece.length;
      pieces.push(piece);
      if (length > PAC_BYTES) asked.destroy(new Error(`it is longer than ${PAC_BYTES} bytes`));
    });
    response.on("end", () => resolve(Buffer.concat(pieces).toString("utf8")));
    response.on("error", reject);
  });
  asked.on("error", reject);
  return promise;
}

/**
 * Evaluates a PAC script for a destination.
 *
 * @returns the chains in the script's order; an empty one is a direct connection
 * @throws Error if the script fails, takes too long or names no proxy that can be used
 */
export async function findProxies(script: string, { scheme, host }: PacDestination): Promise<ProxyChain[]> {
  const [{ createPacResolver }, { QuickJS }] = await Promise.all([import("pac-resolver"), import("quickjs-wasi")]);
  const wasm = await readFile(fileURLToPath(import.meta.resolve("quickjs-wasi/quickjs.wasm")));
  const end = performance.now() + PAC_TIMEOUT;
  const vm = await QuickJS.create({
    wasm,
    memoryLimit: PAC_MEMORY,
    interruptHandler: () => performance.now() > end,
  });
  const find = createPacResolver(vm, script, { sandbox: SANDBOX });
  const found = await within(PAC_TIMEOUT, find(`${scheme}://${bracketed(host)}/`, host));
  // Its functions may still wait for DNS and then return into the sandbox, which the garbage collector frees.
  if (found === undefined) throw new Error(`it did not answer within ${PAC_TIMEOUT} ms`);
  return parsePacAnswer(found.value);
}

/** Functions of PAC that differ from those of the package. */
const SANDBOX = {
  alert: () => undefined,
  // The package connects to a public DNS server to find this out.
  myIpAddress: async () => ownAddress(),
};

function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
}

const KINDS: Readonly<Record<string, string>> = {
  PROXY: "http",
  HTTP: "http",
  HTTPS: "https",
  SOCKS: "socks5",
  SOCKS5: "socks5",
  SOCKS4: "socks4",
};

/**
 * Parses what FindProxyForURL returned: `PROXY proxy.example.com:8080; DIRECT`. Entries that cannot be read are skipped.
 *
 * @throws Error if none can be read. An empty answer is DIRECT.
 */
export function parsePacAnswer(answer: unknown): ProxyChain[] {
  if (answer === null || answer === "") return [[]];
  if (typeof answer !== "string") throw new Error("it returned no text");
  const chains = answer
    .split(";")
    .slice(0, PAC_PROXIES)
    .flatMap((entry): ProxyChain[] => {
      const [kind = "", where = ""] = entry.trim().split(/\s+/);
      if (kind.toUpperCase() === "DIRECT") return [[]];
      const name = kind.toUpperCase();
      const scheme = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
      if (scheme === undefined) return [];
      try {
        // Credentials in a script would go where the script wants.
        return [[parseProxy(`${scheme}://${where}`, "the script").proxy]];
      } catch {
        return [];
      }
    });
  if (chains.length === 0) throw new Error("it named no proxy that can be used");
  return chains;
}
