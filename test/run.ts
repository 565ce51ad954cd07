/**
 * Runs all tests, or the files given as arguments: `npm test` runs this. Those that take long start first, since the last
 * to end decide how long the run takes.
 *
 * @module
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/**
 * Files that take more than 30 s on two cores, mostly because they wait for limits of time that they cannot drive. Not
 * torture/abuse.test.ts: it measures delays, and these would be its neighbours.
 */
const LONGEST = [
  "edge/tunnel/owner.test.ts",
  "torture/kills.test.ts",
  "torture/files.test.ts",
  "torture/fencing.test.ts",
  "torture/edges.test.ts",
  "e2e/identity.test.ts",
  "e2e/matrix.test.ts",
  // Where Bun and Deno are installed.
  "e2e/runtimes.test.ts",
  "cli/command.test.ts",
  "cli/package.test.ts",
  "edge/mailbox/consumers.test.ts",
];

/** Files at once: more than cores, since most of a file's time is waiting. */
const CONCURRENCY = 5;

/** A file that takes longer, in milliseconds, hangs. */
const TIMEOUT = 600_000;

function allFiles(): string[] {
  for (const name of LONGEST) if (!existsSync(join(FOLDER, name))) throw new Error(`there is no test/${name}`);
  const names = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const others = names.filter((name) => !LONGEST.includes(name)).sort();
  return [...LONGEST, ...others].map((name) => join(FOLDER, name));
}

const cache = new URL("support/type-cache.js", import.meta.url);
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --import "${fileURLToPath(cache)}"`;
const given = process.argv.slice(2);
run({ files: given.length > 0 ? given : allFiles(), concurrency: CONCURRENCY, timeout: TIMEOUT })
  .on("test:fail", () => {
    process.exitCode = 1;
  })
  .compose(spec)
  .pipe(process.stdout);
