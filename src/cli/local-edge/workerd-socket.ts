/**
 * Front: the socket on which a local edge meets the world, in workerd itself. The front that miniflare has of its own is
 * made for development: it looks into every request, answers to paths of its own, and costs as much again as the Worker.
 *
 * miniflare loads this file by its path, as the plugin of a binding that nobody reads.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import type { Plugin, Socket } from "miniflare";
import { bracketed } from "./edge-names.ts";

/** Where a Worker listens. */
export interface Front {
  /** The Worker's name. */
  readonly worker: string;
  /** An address of this machine. */
  readonly host: string;
  readonly port: number;
  /** PEM texts: with them the Worker speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string } | undefined;
}

const NAME = "grooveway-front";
const TYPE = "unsafe:grooveway-front";

interface FrontBinding {
  readonly type: typeof TYPE;
  readonly dev: {
    readonly plugin: { readonly name: string; readonly package: string };
    readonly options: { readonly front: Front };
  };
}

/** What asks miniflare for the socket: a binding of the Worker, under any name. */
export function frontBinding(front: Front): FrontBinding {
  const plugin = { name: NAME, package: fileURLToPath(import.meta.url) };
  return { type: TYPE, dev: { plugin, options: { front } } };
}

/** Ports of which any is one, below those that systems give to outgoing connections: nobody else is likely to want them. */
const ANY_PORT = { first: 20_000, count: 12_000 };
const TRIES = 20;

/** A port of a host that is free now; 0 wants any. Rejects as listening does. */
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

/** The URL by which this machine reaches what listens there. */
export function urlOf({ host, port, tls }: Front): string {
  const reachable = { "0.0.0.0": "127.0.0.1", "::": "::1" }[host] ?? host;
  return new URL(`${tls === undefined ? "http" : "https"}://${bracketed(reachable)}:${port}`).origin;
}

const plugin: Plugin = {
  getBindings: () => [],
  getNodeBindings: () => ({}),
  getServices({ options }) {
    const bindings = Object.values(options.config.env ?? {}) as (FrontBinding | { readonly type: string })[];
    const fronts = bindings.flatMap((binding) =>
      "dev" in binding && binding.type === TYPE ? [binding.dev.options] : [],
    );
    return { services: [], extensions: [], sockets: fronts.map(({ front }) => socketOf(front)) };
  },
};

function socketOf({ worker, host, port, tls }: Front): Socket {
  const at = { name: NAME, address: `${bracketed(host)}:${port}`, service: { name: `core:user:${worker}` } };
  if (tls === undefined) return { ...at, http: {} };
  const keypair = { privateKey: tls.key, certificateChain: tls.cert };
  return { ...at, https: { options: {}, tlsOptions: { keypair } } };
}

export const plugins = { [NAME]: plugin };
