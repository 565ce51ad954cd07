/**
 * Proxy auto-configuration: fetches a PAC file, has it evaluated and reads its answer. The script learns the scheme and
 * the host of a destination, never a path.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { fileURLToPath } from "node:url";
import type { ProxyChain } from "../transport.ts";
import { type PacDestination, runPacScript } from "./pac-script.ts";
import { parseProxy } from "./proxy-url.ts";

/** How long fetching may take, and how long the script may run, in milliseconds. A connection waits for both. */
export const PAC_TIMEOUT = 1000;

/** The longest PAC file, in bytes: the limit of browsers. */
export const PAC_BYTES = 1024 * 1024;

/** Alternatives in one answer of a script; each costs a connection. */
const PAC_PROXIES = 8;

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
export async function findProxies(script: string, to: PacDestination): Promise<ProxyChain[]> {
  return parsePacAnswer(await runPacScript(script, to, PAC_TIMEOUT));
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
  if (answer === "") return [[]];
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
