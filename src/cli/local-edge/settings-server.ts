/**
 * Serves the key set and the list of revoked tokens to a local edge or relay. The files are read for each request, so
 * that a changed file takes effect without a restart.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { parseKeySet } from "../../auth/key-set.ts";
import { CommandError } from "../command-error.ts";
import { unreadable } from "../parse-arguments.ts";

export interface SettingsServer {
  /** URL for the JWKS_URL setting; undefined without keys. */
  readonly keysURL: string | undefined;
  /** URL for the REVOKED_URL setting; undefined without a list. */
  readonly revokedURL: string | undefined;
  close(): Promise<void>;
}

/**
 * Serves the two files on a free loopback port.
 *
 * @param keys file with a JSON Web Key Set
 * @param revoked file with a JSON array of token ids, or one id per line
 * @throws CommandError KeysUnusable, CannotRead
 */
export async function startSettingsServer(
  keys: string | undefined,
  revoked: string | undefined,
): Promise<SettingsServer> {
  // Report unusable files now, not when the first device connects.
  if (keys !== undefined) await keySet(keys);
  if (revoked !== undefined) await revokedIds(revoked);
  // A key set may contain secrets. Other users of this machine cannot guess the path.
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
        // The edge keeps the version that it has.
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
    throw new CommandError("KeysUnusable", `${path} is not a usable key set: ${(error as Error).message}`);
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
    // Reported below.
  }
  throw new CommandError("CannotRead", `${path} is not a list of token ids: write one per line, or a JSON array`);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw unreadable(path, error);
  }
}
