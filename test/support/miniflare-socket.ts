/**
 * The public socket of a Worker under Miniflare, opened by workerd itself, as that of the product's edge. Miniflare's own
 * front inspects every request, answers to paths of its own, and costs as much again as the Worker.
 *
 * Miniflare loads this file by path, as the plugin of a binding that the Worker never reads.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import type { Plugin, Socket } from "miniflare";
import type { Front as PlainFront } from "../../src/cli/local-edge/worker-runtime.ts";
import { formatHostPort } from "../../src/lib/host-port.ts";

/** Where a Worker listens, by its name. */
export interface Front extends PlainFront {
  readonly worker: string;
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
