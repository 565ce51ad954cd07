/**
 * What the edge on this machine fetches while it runs: the key set and the list of revoked tokens, read from their files
 * for each request, so that a change of a file needs no restart.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { parseKeySet } from "../../auth/key-set.ts";
import { CommandError } from "../output.ts";

export interface SettingsServer {
  /** For the setting JWKS_URL; undefined when there are no keys. */
  readonly keysURL: string | undefined;
  /** For the setting REVOKED_URL; undefined when there is no list. */
  readonly revokedURL: string | undefined;
  close(): Promise<void>;
}

/**
 * Serves the two files on loopback, on any free port.
 *
 * @param keys file of a JSON Web Key Set
 * @param revoked file of a JSON array of token ids, or with one of them on each line
 * @throws CommandError KeysUnusable, CannotRead
 */
export async function startSettingsServer(
  keys: string | undefined,
  revoked: string | undefined,
): Promise<SettingsServer> {
  // What cannot be used now is told now, and not to the first device.
  if (keys !== undefined) await keySet(keys);
  if (revoked !== undefined) await revokedIds(revoked);
  // A key set may hold secrets, and this machine may have other users: they do not know the path.
  const secret = `/${randomBytes(16).toString("hex")}`;
  const served: Record<string, () => Promise<string>> = {
    ...(keys !== undefined && { [`${secret}/keys`]: () => keySet(keys) }),
    ...(revoked !== undefined && { [`${secret}/revoked`]: () => revokedIds(revoked) }),
  };
  const server: Server = createServer((request, response) => {
    const read = Object.hasOwn(served, request.url ?? "") ? served[request.url ?? ""] : undefined;
    if (request.method !== "GET" || read === undefined) {
      response.writeHead(404).end();
      return;
    }
    read().then(
      (text) => response.writeHead(200, { "Content-Type": "application/json" }).end(text),
      (error: Error) => {
        // The edge goes on with what it has.
        console.error(`grooveway: ${error.message}`);
        response.writeHead(500).end();
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}${secret}`;
  return {
    keysURL: keys === undefined ? undefined : `${base}/keys`,
    revokedURL: revoked === undefined ? undefined : `${base}/revoked`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function keySet(path: string): Promise<string> {
  const text = await textOf(path);
  try {
    await parseKeySet(text);
  } catch (error) {
    throw new CommandError("KeysUnusable", `${path} is no key set that can be used: ${(error as Error).message}`);
  }
  return text;
}

async function revokedIds(path: string): Promise<string> {
  const text = await textOf(path);
  if (!text.trimStart().startsWith("[")) {
    const lines = text.split("\n").map((line) => line.trim());
    return JSON.stringify(lines.filter((line) => line !== "" && !line.startsWith("#")));
  }
  try {
    const ids: unknown = JSON.parse(text);
    if (Array.isArray(ids) && ids.every((id) => typeof id === "string")) return text;
  } catch {
    // Told below.
  }
  throw new CommandError("CannotRead", `${path} is no list of token ids: write one on each line, or a JSON array`);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new CommandError("CannotRead", `cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? error})`);
  }
}
