/**
 * Bundles the edge's worker into one module, when running from source and when the package is built.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { argv, pid } from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const WORKER = join(ROOT, "src/edge/local-worker.ts");

/** Making a bundle takes as long as all else that an edge does to start. */
const CACHE = join(ROOT, "node_modules/.cache/grooveway-worker");

/** What a bundle depends on besides the files in it: its options, which are here, and the version of the bundler. */
const MAKERS = [fileURLToPath(import.meta.url), join(ROOT, "package-lock.json")];

interface Bundle {
  readonly text: string;
  /** States of the files that it was made of, by path. */
  readonly sources: Readonly<Record<string, string>>;
}

/**
 * Bundles the worker for workerd, unless the last bundle was made of the same files. Modules provided by the platform
 * stay imports.
 *
 * @param entry the worker's source file; tests pass one that wraps the edge
 * @param cache folder for the last bundle of each entry
 */
export async function bundleWorker(entry = WORKER, cache = CACHE): Promise<string> {
  const file = join(cache, `${hashOf(entry)}.json`);
  const last = await lastBundle(file);
  if (last !== undefined) return last.text;
  const bundle = await makeBundle(entry);
  await keep(file, bundle);
  return bundle.text;
}

async function makeBundle(entry: string): Promise<Bundle> {
  // Loaded only now: importing it and starting its process takes longer than bundling.
  const { build } = await import("esbuild");
  // Before they are read: a file that is changed meanwhile is bundled again at the next start.
  const sources = Object.fromEntries(MAKERS.map((path) => [path, stateOf(path)]));
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
    plugins: [
      {
        name: "record-sources",
        setup: ({ onLoad }) =>
          onLoad({ filter: /./ }, async ({ path, with: attributes }) => {
            sources[path] = stateOf(path);
            const contents = await readFile(path);
            return { contents, loader: attributes.type === "text" ? "text" : "default" };
          }),
      },
    ],
  });
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error("bundling the worker gave no output");
  return { text: output.text, sources };
}

/** Returns the bundle in a file, unless one of its sources has changed since. */
async function lastBundle(file: string): Promise<Bundle | undefined> {
  try {
    const bundle: Bundle = JSON.parse(await readFile(file, "utf8"));
    return Object.entries(bundle.sources).every(([path, state]) => stateOf(path) === state) ? bundle : undefined;
  } catch {
    // There is none, or a source has gone.
    return undefined;
  }
}

async function keep(file: string, bundle: Bundle): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true });
    // Another process must not read half a file.
    const draft = `${file}.${pid}`;
    await writeFile(draft, JSON.stringify(bundle));
    await rename(draft, file);
  } catch {
    // The folder is read-only: the next start bundles again.
  }
}

/** What changes when a file is written. Reading all sources again would take a third of the time of a start. */
function stateOf(path: string): string {
  const { mtimeNs, size } = statSync(path, { bigint: true });
  return `${mtimeNs} ${size}`;
}

function hashOf(data: string): string {
  return createHash("sha256").update(data).digest("hex");
}

// Run as a program, it writes the bundle to the named file: the package build does this.
const [, program, file] = argv;
if (program === fileURLToPath(import.meta.url) && file !== undefined) {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, await bundleWorker());
}
