import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { bundleWorker } from "../../../src/cli/local-edge/bundle-worker.ts";
import { folder } from "../support.ts";

it("a worker is bundled again after a change of any of its sources, and not otherwise", async (context) => {
  const at = await folder(context);
  const [entry, part, cache] = [join(at, "entry.ts"), join(at, "part.ts"), join(at, "cache")];
  await writeFile(entry, 'import { word } from "./part.ts";\nexport default word;\n');
  await writeFile(part, 'export const word: string = "first";\n');
  assert.match(await bundleWorker(entry, cache), /"first"/);

  const [kept = ""] = await readdir(cache);
  const bundle = JSON.parse(await readFile(join(cache, kept), "utf8"));
  await writeFile(join(cache, kept), JSON.stringify({ ...bundle, text: "kept" }));
  assert.equal(await bundleWorker(entry, cache), "kept");

  await writeFile(part, 'export const word: string = "second";\n');
  assert.match(await bundleWorker(entry, cache), /"second"/);

  await writeFile(join(cache, kept), "damaged");
  assert.match(await bundleWorker(entry, cache), /"second"/);

  await rm(part);
  await assert.rejects(bundleWorker(entry, cache), /part\.ts/);
});

it("a worker is bundled where nothing can be kept", async (context) => {
  const at = await folder(context);
  const entry = join(at, "entry.ts");
  await writeFile(entry, "export default 1;\n");
  assert.match(await bundleWorker(entry, join(entry, "cache")), /1/);
});
