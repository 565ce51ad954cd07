/**
 * Runs all tests, or the files given as arguments: `npm test` runs this. Those that take long start first, since the last
 * to end decide how long the run takes.
 *
 * @module
 */
import { existsSync, mkdirSync, readdirSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath, pathToFileURL } from "node:url";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** The files that run several others in one process. */
const TOGETHER = fileURLToPath(new URL("../node_modules/.cache/grooveway-tests/", import.meta.url));

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

/**
 * Folders whose files share a process each, one file after another: they start no other, and wait for nothing. Starting
 * Node and loading the modules takes longer than most of these files.
 */
const SHARED = [
  "auth",
  "device/diagnosis",
  "device/transports",
  "edge/admission",
  "edge/endpoint",
  "edge/policy",
  "encapsulation",
  "lib",
  "relay",
  "sstp",
  "store-and-forward",
  "transfer",
];

/** Files at once: more than cores, since most of a file's time is waiting. */
const CONCURRENCY = 5;

/** A file that takes longer, in milliseconds, hangs. */
const TIMEOUT = 600_000;

/** Where a file is kept in memory: the tests are not about the machine's disk, and each mailbox is a database. */
const MEMORY_FOLDER = "/dev/shm";
/** What they write at most, several times over. In containers there is often less. */
const MEMORY_BYTES = 4 * 1024 ** 3;

function allFiles(): string[] {
  for (const name of [...LONGEST, ...SHARED])
    if (!existsSync(join(FOLDER, name))) throw new Error(`there is no test/${name}`);
  const names = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const others = names.filter((name) => !LONGEST.includes(name)).sort();
  const shared = SHARED.map((folder) =>
    together(
      folder,
      others.filter((name) => name.startsWith(`${folder}/`)),
    ),
  );
  const alone = others.filter((name) => !SHARED.some((folder) => name.startsWith(`${folder}/`)));
  return [...[...LONGEST, ...alone].map((name) => join(FOLDER, name)), ...shared];
}

/** Writes a file that runs these one after another, with their hooks, as suites of the same names. */
function together(folder: string, names: readonly string[]): string {
  const suites = names.map((name) => {
    const url = pathToFileURL(join(FOLDER, name));
    return `describe(${JSON.stringify(`test/${name}`)}, () => import(${JSON.stringify(url)}));\n`;
  });
  mkdirSync(TOGETHER, { recursive: true });
  const file = join(TOGETHER, `${folder.replaceAll("/", "-")}.test.mjs`);
  writeFileSync(file, `import { describe } from "node:test";\n\n${suites.join("")}`);
  return file;
}

function hasMemoryFolder(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_FOLDER);
    return bavail * bsize >= MEMORY_BYTES;
  } catch {
    return false;
  }
}

if (process.env.TMPDIR === undefined && hasMemoryFolder()) process.env.TMPDIR = MEMORY_FOLDER;
const cache = new URL("support/type-cache.js", import.meta.url);
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --import "${fileURLToPath(cache)}"`;
const given = process.argv.slice(2);
run({ files: given.length > 0 ? given : allFiles(), concurrency: CONCURRENCY, timeout: TIMEOUT })
  .on("test:fail", () => {
    process.exitCode = 1;
  })
  .compose(spec)
  .pipe(process.stdout);
