/**
 * Proxy auto-configuration: fetches a PAC file, has it evaluated and reads its answer. The script learns the scheme and
 * the host of a destination, never a path.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { get } from "node:http";
import { fileURLToPath } from "node:url";
import { HTTP_PORT, SECURE_TUNNEL_PORT } from "../../../encapsulation/index.ts";
import { unbracketed } from "../../../lib/host-port.ts";
import { dial } from "../dial.ts";
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
 * Fetches a PAC file from a URL (`http`, `https`, `file`) or a path. Follows no redirect and uses no proxy. Certificates
 * are trusted as for an edge.
 *
 * @throws Error that says why, without the location, which may have a password
 */
export async function fetchPac(location: string, timeout: number = PAC_TIMEOUT): Promise<string> {
  const kind = schemeOf(location);
  if (kind === undefined || kind === "file") return read(location, timeout);
  if (kind !== "http" && kind !== "https") throw new Error("write its URL with http://, https:// or file://");
  const url = URL.parse(location);
  if (url === null) throw new Error("its URL cannot be read: check it");
  return request(url, timeout);
}

/** A PAC file by its host or path: the rest of a URL may be a secret. */
export function pacSource(location: string): string {
  const kind = schemeOf(location);
  if (kind === undefined || kind === "file") return `the PAC file ${location.replace(/^file:(?:\/\/)?/i, "")}`;
  const host = URL.parse(location)?.host ?? "";
  return host === "" ? "the PAC file of a URL" : `the PAC file at ${host}`;
}

/** The scheme of a URL in lower case; undefined for a path. A single letter is a drive of Windows. */
function schemeOf(location: string): string | undefined {
  return /^([a-z][a-z0-9+.-]+):/i.exec(location)?.[1]?.toLowerCase();
}

async function read(location: string, timeout: number): Promise<string> {
  try {
    const path = schemeOf(location) === "file" ? fileURLToPath(location) : location;
    const found = await stat(path);
    // Reading a device or a pipe would not end.
    if (!found.isFile()) throw new Error("it is not a file");
    if (found.size > PAC_BYTES) throw tooLong();
    const text = await readFile(path, { signal: AbortSignal.timeout(timeout) });
    return text.subarray(0, PAC_BYTES).toString("utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === undefined ? error : new Error(`it cannot be read (${code})`);
  }
}

async function request(url: URL, timeout: number): Promise<string> {
  const late = AbortSignal.timeout(timeout);
  const secure = url.protocol === "https:";
  const port = url.port === "" ? (secure ? SECURE_TUNNEL_PORT : HTTP_PORT) : Number(url.port);
  const account = accountIn(url);
  const socket = await dial({ host: unbracketed(url.hostname), port, secure, timeout });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = get({
    createConnection: () => socket,
    path: `${url.pathname}${url.search}`,
    ...(account !== ":" && { auth: account }),
    signal: late,
    headers: { Host: url.host, Accept: "application/x-ns-proxy-autoconfig, */*;q=0.5", Connection: "close" },
  });
  asked.on("response", (response) => {
    const pieces: Buffer[] = [];
    let length = 0;
    if (response.statusCode !== 200) {
      reject(new Error(`the answer is ${response.statusCode}`));
      return;
    }
    response.on("data", (piece: Buffer) => {
      length += piece.length;
      pieces.push(piece);
      if (length > PAC_BYTES) reject(tooLong());
    });
    response.on("end", () => resolve(Buffer.concat(pieces).toString("utf8")));
    response.on("error", () => reject(new Error("the answer is cut off")));
  });
  asked.on("upgrade", ({ statusCode }) => reject(new Error(`the answer is ${statusCode}`)));
  asked.on("error", ({ code }: NodeJS.ErrnoException) => {
    reject(new Error(late.aborted ? `it did not come within ${timeout} ms` : `no answer (${code ?? "closed"})`));
  });
  try {
    return await promise;
  } finally {
    asked.destroy();
  }
}

function accountIn({ username, password }: URL): string {
  try {
    return [username, password].map(decodeURIComponent).join(":");
  } catch {
    throw new Error("user and password in its URL are percent-encoded, so write % as %25");
  }
}

function tooLong(): Error {
  return new Error(`it is longer than ${PAC_BYTES} bytes`);
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
