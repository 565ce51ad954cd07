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
import { FULL } from "./support/long-form.ts";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** The files that run several others in one process. */
const TOGETHER = fileURLToPath(new URL("../node_modules/.cache/grooveway-tests/", import.meta.url));

/**
 * Files that take more than 30 s on two cores, mostly because they wait for limits of time that they cannot drive; those
 * that wait longest first. Not torture/abuse.test.ts: it measures delays, and these would be its neighbours.
 */
const LONGEST = [
  "edge/clock.test.ts",
  "edge/mailbox/consumers.test.ts",
  "edge/mailbox/hibernation.test.ts",
  "edge/tunnel/owner.test.ts",
  "edge/mailbox/fanout.test.ts",
  "edge/revocation.test.ts",
  "edge/http/authorize.test.ts",
  "cli/commands/token.test.ts",
  "torture/kills.test.ts",
  "torture/files.test.ts",
  "torture/fencing.test.ts",
  "torture/edges.test.ts",
  "torture/forward.test.ts",
  "cli/package.test.ts",
  "e2e/matrix.test.ts",
  "cli/commands/recv.test.ts",
  "cli/commands/send.test.ts",
  "cli/local-edge/edge-run.test.ts",
  "cli/command.test.ts",
  "edge/link/link.test.ts",
  "edge/link/link-wire.test.ts",
  "e2e/identity.test.ts",
  // Where Bun and Deno are installed.
  "e2e/runtimes.test.ts",
];

/** Files in shared folders that start processes or wait for long. */
const ALONE = ["device/transports/network.test.ts", "relay/kill.test.ts"];

/**
 * Folders whose files share a process each, one file after another: they start no process, and wait for nothing.
 * Starting Node and loading the modules takes longer than most of these files.
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
  "streams",
  "transfer",
];

/** Files at once: more than cores, since most of a file's time is waiting, at the beginning above all. */
const CONCURRENCY = 7;

/**
 * A file that takes longer, in milliseconds, hangs. On a slow machine beside others, some take ten minutes. In their long
 * form they have limits of their own, the longest 90 minutes for each test of a file.
 */
const TIMEOUT = FULL ? 7_200_000 : 1_500_000;

/** Where files are kept in memory: the tests are not about the machine's disk, and each mailbox is a database. */
const MEMORY_FOLDER = "/dev/shm";

/**
 * More than the tests ever hold: in the long form, 2 GiB of files that were sent and as much that arrived. A container
 * often has less there, and then they write to its disk.
 */
const MEMORY_BYTES = (FULL ? 8 : 4) * 1024 ** 3;

function allFiles(): string[] {
  for (const name of [...LONGEST, ...ALONE, ...SHARED]) {
    if (!existsSync(join(FOLDER, name))) throw new Error(`there is no test/${name}`);
  }
  const names = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const others = names.filter((name) => !LONGEST.includes(name)).sort();
  const folderOf = (name: string) =>
    ALONE.includes(name) ? undefined : SHARED.find((folder) => name.startsWith(`${folder}/`));
  const alone = others.filter((name) => folderOf(name) === undefined);
  const shared = SHARED.map((folder) =>
    together(
      folder,
      others.filter((name) => folderOf(name) === folder),
    ),
  );
  // What is shared has no pauses, so that it uses the cores to the end of the run.
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
