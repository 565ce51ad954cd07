/**
 * Keeps TypeScript sources with their types stripped, and all code as compiled by V8, for the hundreds of processes of a
 * test run: stripping takes each of them half a second, and compiling a fifth, which is more than most of them need for
 * anything else. `npm test` preloads this file, so it is plain JavaScript. A source is found by its hash, so the cache is
 * never out of date.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import * as module from "node:module";
import { fileURLToPath } from "node:url";

const folder = new URL("../../node_modules/.cache/grooveway-types/", import.meta.url);
mkdirSync(folder, { recursive: true });
// Older versions of Node, which some tests run, have neither this nor the hooks below, and need none.
module.enableCompileCache?.(fileURLToPath(new URL("compiled", folder)));

/** The source with blanks in place of its types, so that lines and columns stay. */
function strippedOf(source) {
  const at = new URL(`${createHash("sha256").update(source).digest("hex")}-${process.version}.js`, folder);
  try {
    return readFileSync(at, "utf8");
  } catch {
    const stripped = module.stripTypeScriptTypes(source);
    try {
      // Several processes may do this at once, and none must read half a file.
      const draft = new URL(`${at.href}.${process.pid}`);
      writeFileSync(draft, stripped);
      renameSync(draft, at);
    } catch {
      // Some tests run commands as a user who may not write here.
    }
    return stripped;
  }
}

module.registerHooks?.({
  load(url, context, next) {
    if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
    return {
      format: "module",
      shortCircuit: true,
      source: strippedOf(readFileSync(fileURLToPath(url), "utf8")),
    };
  },
});
