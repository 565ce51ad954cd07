/**
 * Runs a worker under Miniflare, which opens its objects to tests: they are called and evicted by name. The product runs
 * workerd by itself.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import type { Miniflare } from "miniflare";
import type { RuntimeOptions, WorkerRuntime } from "../../src/cli/local-edge/worker-runtime.ts";
import { V8_FLAGS } from "../../src/cli/local-edge/workerd-config.ts";
import { within } from "../../src/lib/runtime/timeout.ts";
import { frontBinding } from "./miniflare-socket.ts";

const require = createRequire(import.meta.url);

/** `import` would scan its bundle of 6 MB for exports, which takes longer than running it. */
export function loadMiniflare(): typeof import("miniflare") {
  // Miniflare has no option for it.
  process.env.MINIFLARE_WORKERD_V8_FLAGS ??= V8_FLAGS.join(" ");
  return require("miniflare");
}

/** Objects of a worker, as Miniflare's configuration of a worker has them. */
export function objectsOf({
  name,
  objects,
}: {
  readonly name: string;
  readonly objects: Readonly<Record<string, string>>;
}) {
  const bindings = Object.entries(objects).map(
    ([binding, exportName]) => [binding, { type: "durable-object", worker: name, exportName } as const] as const,
  );
  const classes = Object.values(objects).map(
    (exportName) => [exportName, { type: "durable-object", storage: "sqlite" } as const] as const,
  );
  return { env: Object.fromEntries(bindings), exports: Object.fromEntries(classes) };
}

/** A {@link StartRuntime} that also returns Miniflare. */
export async function startMiniflare(
  options: RuntimeOptions,
): Promise<WorkerRuntime & { readonly miniflare: Miniflare }> {
  const { worker, front, run, state, log } = options;
  const objects = objectsOf(worker);
  const texts = Object.entries({ ...worker.texts, LOCAL_RUN: randomUUID() }).map(
    ([name, value]) => [name, { type: "text", value } as const] as const,
  );
  const { Miniflare, NoOpLog } = loadMiniflare();
  const miniflare = run.start(
    () =>
      new Miniflare({
        host: "127.0.0.1",
        port: 0,
        cf: false,
        enableDevRegistry: false,
        telemetry: { enabled: false },
        ...(state !== undefined && { resourcePersistencePath: state }),
        handleStructuredLogs: ({ level, message }: { level: string; message: string }) => log(level, message),
        workers: [
          {
            config: {
              name: worker.name,
              compatibilityDate: worker.compatibilityDate,
              compatibilityFlags: [...worker.compatibilityFlags],
              manifest: { mainModule: "worker.js", modules: { "worker.js": { type: "esm", contents: worker.code } } },
              exports: objects.exports,
              env: {
                ...objects.env,
                ...Object.fromEntries(texts),
                FRONT: frontBinding({ ...front, worker: worker.name }),
              },
            },
          },
        ],
        log: new NoOpLog(),
      }),
  );
  try {
    await miniflare.ready;
  } catch (error) {
    await miniflare.dispose();
    throw error;
  }
  return {
    miniflare,
    failed: new Promise(() => undefined),
    async tell({ path, secret, body, patience }) {
      const headers = { Authorization: `Bearer ${secret}` };
      const told = miniflare.dispatchFetch(`http://edge${path}`, { method: "PUT", headers, body: body ?? null });
      return (await within(patience, told).catch(() => undefined))?.value.ok ?? false;
    },
    renew: () => Promise.reject(new Error("only the product's runtime serves another certificate")),
    dispose: () => miniflare.dispose(),
  };
}
