#!/usr/bin/env node
/**
 * Entry point of `grooveway`: checks that this Node can run the command, then runs it. Plain JavaScript without
 * imports, so that a Node that is too old can still load this file and say so.
 *
 * The installed package contains the compiled command; the source tree has main.ts beside this file.
 */

/** Minimum minor version by major version. Compiled code needs node:sqlite; the source also needs TypeScript. */
const COMPILED = { 22: 13, 23: 4 };
const SOURCE = { 22: 18, 23: 6 };
/** From this major version on, any minor version will do. */
const ANY = 24;

/**
 * Threads of Node for the file system, unless the user sets another number. A sync blocks its thread, and with the usual
 * four, files that arrive together wait for each other's; with sixteen, where a sync costs nothing, waking the threads
 * costs more than they do. Node reads this when it first needs a thread.
 */
if (process.env.UV_THREADPOOL_SIZE === undefined) process.env.UV_THREADPOOL_SIZE = "8";

/** Exit statuses, as in exit-codes.ts. */
const FAILED = 1;
const INTERNAL_ERROR = 70;

/** Prints an error line and exits. */
function fail(message, code, status) {
  console.error(`grooveway: ${message} [${code}]`);
  process.exit(status);
}

function requireNode(enough, cure) {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major >= ANY || minor >= enough[major]) return;
  const needed = `Node 22.${enough[22]} or later is required`;
  fail(`${needed}, and this is ${process.versions.node} (${process.execPath}): ${cure}`, "NodeTooOld", FAILED);
}

/** Hides warnings about experimental features, which do not help the user, and prints all others as one line each. */
function printWarningsShortly() {
  // There is no listener with --no-warnings.
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
    // A Node too old to know the module.
    () => false,
  );
  if (isSource) requireNode(SOURCE, "run npm ci, which installs one, and then npm start or npm run -s grooveway");
  else requireNode(COMPILED, "install a newer Node");
  printWarningsShortly();
  await import(isSource ? source.href : new URL("../../dist/cli/main.js", import.meta.url).href);
}

run().catch((error) => {
  const missing = error.code === "ERR_MODULE_NOT_FOUND";
  const [why] = error.message.split("\n");
  if (missing) fail(`the installation is incomplete (${why}): reinstall it`, "NotInstalled", FAILED);
  fail(`the command cannot be loaded (${why}): please report this`, "InternalError", INTERNAL_ERROR);
});
