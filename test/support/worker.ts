/** The edge's worker as driven by tests: see driven-worker.ts. */
import { fileURLToPath } from "node:url";
import { Miniflare, NoOpLog } from "miniflare";
import { bundleWorker } from "../../src/cli/local-edge/bundle-worker.ts";

const WORKER = "grooveway";
/** Classes of the edge's objects, by the bindings of wrangler.toml. */
const OBJECTS = { TUNNEL: "Tunnel", MAILBOX: "Mailbox", DIRECTORY: "Directory", METER: "Meter", LINK: "Link" };

/** The driven worker as one module. */
export function drivenWorker(): Promise<string> {
  return bundleWorker(fileURLToPath(new URL("./driven-worker.ts", import.meta.url)));
}

/**
 * Starts the driven worker with all objects of the edge, and empty storage.
 *
 * @param variables its settings, by the names of wrangler.toml
 */
export async function startWorker(variables: Readonly<Record<string, string>>): Promise<Miniflare> {
  const contents = await drivenWorker();
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    port: 0,
    cf: false,
    telemetry: { enabled: false },
    log: new NoOpLog(),
    handleStructuredLogs: () => undefined,
    workers: [
      {
        config: {
          name: WORKER,
          compatibilityDate: "2026-11-09",
          compatibilityFlags: ["enable_request_signal"],
          manifest: { mainModule: "worker.js", modules: { "worker.js": { type: "esm", contents } } },
          exports: Object.fromEntries(
            Object.values(OBJECTS).map((name) => [name, { type: "durable-object", storage: "sqlite" } as const]),
          ),
          env: {
            ...Object.fromEntries(
              Object.entries(OBJECTS).map(([binding, exportName]) => [
                binding,
                { type: "durable-object", worker: WORKER, exportName } as const,
              ]),
            ),
            ...Object.fromEntries(
              Object.entries(variables).map(([name, value]) => [name, { type: "text", value } as const]),
            ),
          },
        },
      },
    ],
  });
  await miniflare.ready;
  return miniflare;
}
