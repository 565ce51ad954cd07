/**
 * A DNS-over-HTTPS server (JSON form) that gives the local edge this machine's name resolution.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface LocalResolver {
  /** URL for the edge's RESOLVER setting. */
  readonly url: string;
  close(): Promise<void>;
}

const TYPES: Record<string, { readonly type: number; readonly family: 4 | 6 }> = {
  A: { type: 1, family: 4 },
  AAAA: { type: 28, family: 6 },
};

/** Starts the server on a free loopback port. */
export async function startLocalResolver(): Promise<LocalResolver> {
  const server: Server = createServer((request, response) => {
    const { address, port } = server.address() as AddressInfo;
    // Check Host, so that a web page in a local browser cannot query this server through a name that resolves to it.
    if (request.method !== "GET" || request.headers.host !== `${address}:${port}`) {
      response.writeHead(403).end();
      return;
    }
    const { searchParams } = new URL(request.url ?? "/", "http://resolver");
    void answer(searchParams.get("name") ?? "", searchParams.get("type") ?? "").then((document) => {
      response.writeHead(200, { "Content-Type": "application/dns-json" }).end(JSON.stringify(document));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/dns-query`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(name: string, type: string) {
  const asked = Object.hasOwn(TYPES, type) ? TYPES[type] : undefined;
  if (asked === undefined) return { Status: 4 };
  try {
    const found = await lookup(name, { all: true, family: asked.family });
    return { Status: 0, Answer: found.map(({ address }) => ({ name, type: asked.type, TTL: 0, data: address })) };
  } catch (error) {
    // NXDOMAIN, or SERVFAIL.
    return { Status: (error as NodeJS.ErrnoException).code === "ENOTFOUND" ? 3 : 2 };
  }
}
