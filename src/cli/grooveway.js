#!/usr/bin/env node
/**
 * What `grooveway` starts: it looks whether this Node can run the command, and runs it. Plain JavaScript that imports
 * nothing, so that a Node that is too old gets this far and says so.
 *
 * The package has the command compiled; the source tree has it as TypeScript, beside this file.
 */

/** Major versions with the first minor one that is enough: compiled, for node:sqlite; the source, for TypeScript as well. */
const COMPILED = { 22: 13, 23: 4 };
const SOURCE = { 22: 18, 23: 6 };
/** From this major version on each is enough. */
const ANY = 24;

/** Exit codes, which exit-codes.ts has as well. */
const FAILED = 1;
const INTERNAL_ERROR = 70;

/** Prints the line of an error, and ends. */
function fail(message, code, status) {
  console.error(`grooveway: ${message} [${code}]`);
  process.exit(status);
}

function requireNode(enough, cure) {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major >= ANY || minor >= enough[major]) return;
  const needed = `Node 22.${enough[22]} or later is needed`;
  fail(`${needed}, and this is ${process.versions.node} (${process.execPath}): ${cure}`, "NodeTooOld", FAILED);
}

/** What Node says of features that are new to it helps nobody who runs the command. Other warnings are a line each. */
function printWarningsShortly() {
  // None with --no-warnings.
  if (process.listenerCount("warning") === 0) return;
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => {
    if (name !== "ExperimentalWarning") console.error(`grooveway: ${name}: ${message}`);
  });
}

async function run() {
  const source = new URL("main.ts", import.meta.url);
  const isSource = await import("node:fs").then(
    ({ existsSync }) => existsSync(source),
    // This Node is so old that it has no module of that name.
    () => false,
  );
  if (isSource) requireNode(SOURCE, "run npm ci, which brings one along, and then npm start or npm run -s grooveway");
  else requireNode(COMPILED, "install a newer one");
  printWarningsShortly();
  await import(isSource ? source.href : new URL("../../dist/cli/main.js", import.meta.url).href);
}

run().catch((error) => {
  const missing = error.code === "ERR_MODULE_NOT_FOUND";
  const [why] = error.message.split("\n");
  if (missing) fail(`it is not installed whole (${why}): install it anew`, "NotInstalled", FAILED);
  fail(`it cannot be loaded (${why}): please report this`, "InternalError", INTERNAL_ERROR);
});
