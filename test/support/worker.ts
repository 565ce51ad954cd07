/** The edge's worker as driven by tests: see driven-worker.ts. */
import { fileURLToPath } from "node:url";
import type { Miniflare } from "miniflare";
import { bundleWorker } from "../../src/cli/local-edge/bundle-worker.ts";
import { wranglerConfig } from "../../src/cli/local-edge/wrangler-config.ts";
import { loadMiniflare, objectsOf } from "./miniflare.ts";

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
  const config = wranglerConfig();
  const objects = objectsOf(config);
  const { Miniflare, NoOpLog } = loadMiniflare();
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
          name: config.name,
          compatibilityDate: config.compatibilityDate,
          compatibilityFlags: config.compatibilityFlags,
          manifest: { mainModule: "worker.js", modules: { "worker.js": { type: "esm", contents } } },
          exports: objects.exports,
          env: {
            ...objects.env,
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
