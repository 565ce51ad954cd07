/**
 * The edge's worker as one module. Used when running from source, and once when the package is built.
 *
 * @module
 */
import { build } from "esbuild";

/** Bundles `entry` for workerd; what the platform provides stays an import. */
export async function bundleWorker(entry: string): Promise<string> {
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
  if (output === undefined) throw new Error(`bundling ${entry} gave no output`);
  return output.text;
}
