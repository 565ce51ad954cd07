/**
 * Where a local edge listens.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { formatHostPort } from "../../lib/host-port.ts";
import type { Front } from "./worker-runtime.ts";

/** Range for random ports, below the ephemeral ports of common systems, so that a clash is unlikely. */
const ANY_PORT = { first: 20_000, count: 12_000 };
const TRIES = 20;

/** Returns a port that is free now on this host; 0 asks for any. Rejects with the error of listen(). */
export async function freePort(host: string, wanted: number): Promise<number> {
  if (wanted !== 0) return probe(host, wanted);
  for (let tries = 0; tries < TRIES; tries += 1) {
    const port = await probe(host, randomInt(ANY_PORT.first, ANY_PORT.first + ANY_PORT.count)).catch(() => undefined);
    if (port !== undefined) return port;
  }
  return probe(host, 0);
}

async function probe(host: string, wanted: number): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(wanted, host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** Returns the URL by which this machine reaches the Worker. */
export function urlOf({ host, port, tls }: Front): string {
  const reachable = { "0.0.0.0": "127.0.0.1", "::": "::1" }[host] ?? host;
  return new URL(`${tls === undefined ? "http" : "https"}://${formatHostPort({ host: reachable, port })}`).origin;
}
