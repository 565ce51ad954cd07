/**
 * Bundles the command once for a run of all tests, in which it starts some hundred times: loading its 260 modules one by
 * one takes it twice as long as loading a few. type-cache.js replaces main.ts by it.
 */
import { readFile, rm } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** CommonJS, and what is loaded from its own files. */
const EXTERNAL = ["bufferutil", "esbuild", "kerberos", "pac-resolver", "quickjs-wasi", "utf-8-validate"];

/**
 * For `ws`, which is CommonJS too, but loaded by each command that connects: from its own files, Node would first search
 * them for what they export.
 */
const BANNER = `globalThis.require ??= process.getBuiltinModule("node:module").createRequire(import.meta.url);`;

/**
 * Bundles it into a folder that is emptied first. A file of each subcommand stays one.
 *
 * @param folder inside the repository, so that packages are found
 * @returns URL of the file in the place of main.ts
 */
export async function bundleCommand(folder: string): Promise<string> {
  await rm(folder, { recursive: true, force: true });
  await build({
    entryPoints: [MAIN],
    outdir: folder,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node22",
    external: EXTERNAL,
    banner: { js: BANNER },
    logLevel: "silent",
    plugins: [
      {
        name: "own-urls",
        // Each source finds files by its own place, not by that of the bundle.
        setup: ({ onLoad }) =>
          onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => ({
            contents: (await readFile(path, "utf8")).replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path))),
            loader: "ts",
          })),
      },
    ],
  });
  return new URL("main.js", pathToFileURL(`${folder}/`)).href;
}
