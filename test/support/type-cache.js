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

/** The command as bundled by command-bundle.ts for this run of all tests, if it is one. */
const COMMAND = process.env.GROOVEWAY_TEST_COMMAND;
const MAIN = new URL("../../src/cli/main.ts", import.meta.url).href;

const COMMAND_FOLDER = COMMAND === undefined ? undefined : new URL(".", COMMAND).href;

/** Folders whose sources import each other by their exact names. */
const OURS = [new URL("../../src/", import.meta.url).href, new URL("../", import.meta.url).href];
if (COMMAND_FOLDER !== undefined) OURS.push(COMMAND_FOLDER);

/** Whether this is a part of the bundled command, which is JavaScript. */
function isOfCommand(url) {
  return COMMAND_FOLDER !== undefined && url.startsWith(COMMAND_FOLDER);
}

/**
 * `node:http` as a module without its getters. Importing it reads all of them, and one loads what `fetch` is made of, which
 * takes as long as half the start of Node.
 */
function httpModule() {
  const descriptors = Object.entries(Object.getOwnPropertyDescriptors(process.getBuiltinModule("node:http")));
  const names = descriptors.filter(([, { get }]) => get === undefined).map(([name]) => name);
  const source = `const http = process.getBuiltinModule("node:http"); export const { ${names} } = http; export default http;`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

module.registerHooks?.({
  resolve(specifier, context, next) {
    const { parentURL = "" } = context;
    if (!OURS.some((folder) => parentURL.startsWith(folder))) return next(specifier, context);
    if (specifier === MAIN && COMMAND !== undefined) return { url: COMMAND, format: "module", shortCircuit: true };
    if (specifier === "node:http") return { url: httpModule(), format: "module", shortCircuit: true };
    // An exact name needs no look at the disk, nor at the package it is in, which take a tenth of the start.
    const isExact = specifier.startsWith(".") && (specifier.endsWith(".ts") || isOfCommand(parentURL));
    if (!isExact) return next(specifier, context);
    return { url: new URL(specifier, parentURL).href, format: "module", shortCircuit: true };
  },
  load(url, context, next) {
    // Its format is known, without a look at the package that it is in.
    if (isOfCommand(url))
      return { format: "module", shortCircuit: true, source: readFileSync(fileURLToPath(url), "utf8") };
    if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
    return {
      format: "module",
      shortCircuit: true,
      source: strippedOf(readFileSync(fileURLToPath(url), "utf8")),
    };
  },
});
