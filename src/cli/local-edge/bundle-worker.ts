/**
 * Bundles the edge's worker into one module, when running from source and when the package is built.
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
 * Bundles the worker for workerd. Modules provided by the platform stay imports.
 *
 * @param entry the worker's source file; tests pass one that wraps the edge
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

// Run as a program, it writes the bundle to the named file: the package build does this.
const [, program, file] = argv;
if (program === fileURLToPath(import.meta.url) && file !== undefined) {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, await bundleWorker());
}
