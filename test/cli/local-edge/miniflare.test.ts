import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { loadMiniflare } from "../../../src/cli/local-edge/miniflare.ts";
import { folder } from "../support.ts";

it("workerd runs with a small young generation", async (context) => {
  const file = join(await folder(context), "workerd.json");
  process.env.MINIFLARE_WORKERD_CONFIG_DEBUG = file;
  context.after(() => delete process.env.MINIFLARE_WORKERD_CONFIG_DEBUG);
  const { Miniflare, NoOpLog } = loadMiniflare();
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    port: 0,
    cf: false,
    telemetry: { enabled: false },
    log: new NoOpLog(),
    workers: [
      {
        config: {
          name: "empty",
          compatibilityDate: "2026-11-09",
          manifest: { mainModule: "a.js", modules: { "a.js": { type: "esm", contents: "export default {}" } } },
        },
      },
    ],
  });
  context.after(() => miniflare.dispose());
  await miniflare.ready;
  assert.deepEqual(JSON.parse(await readFile(file, "utf8")).v8Flags, ["--max-semi-space-size=4"]);
});
