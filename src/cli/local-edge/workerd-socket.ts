/**
 * The public socket of a local edge, opened by workerd itself. Miniflare's own front is made for development: it
 * inspects every request, answers to paths of its own, and costs as much again as the Worker.
 *
 * Miniflare loads this file by path, as the plugin of a binding that the Worker never reads.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import type { Plugin, Socket } from "miniflare";
import { formatHostPort } from "../../lib/host-port.ts";

/** Where a Worker listens. */
export interface Front {
  /** The Worker's name. */
  readonly worker: string;
  /** An address of this machine. */
  readonly host: string;
  readonly port: number;
  /** PEM texts. If given, the Worker speaks HTTPS. */
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

/** Returns the binding that makes Miniflare open the socket. Its name in the Worker does not matter. */
export function frontBinding(front: Front): FrontBinding {
  const plugin = { name: NAME, package: fileURLToPath(import.meta.url) };
  return { type: TYPE, dev: { plugin, options: { front } } };
}

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
  const at = { name: NAME, address: formatHostPort({ host, port }), service: { name: `core:user:${worker}` } };
  if (tls === undefined) return { ...at, http: {} };
  const keypair = { privateKey: tls.key, certificateChain: tls.cert };
  return { ...at, https: { options: {}, tlsOptions: { keypair } } };
}

export const plugins = { [NAME]: plugin };
