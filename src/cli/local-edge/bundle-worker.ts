/**
 * The edge's worker as one module. Used when running from source, and once when the package is built.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const WORKER = fileURLToPath(new URL("../../edge/worker.ts", import.meta.url));

/**
 * Bundles the worker for workerd; what the platform provides stays an import.
 *
 * @param entry file of the worker: a test puts its own around the edge's
 */
export async function bundleWorker(entry = WORKER): Promise<string> {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
  });
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error("bundling the worker gave no output");
  return output.text;
}

// As a program it writes the bundle to the file named: that is how the package is built.
const [, program, file] = argv;
if (program === fileURLToPath(import.meta.url) && file !== undefined) {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, await bundleWorker());
}
