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
import { bundleCommand } from "./support/command-bundle.ts";
import { merged } from "./support/lanes.ts";
import { FULL } from "./support/long-form.ts";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** The files that run several others in one process, and the bundled command. */
const TOGETHER = fileURLToPath(new URL("../node_modules/.cache/grooveway-tests/", import.meta.url));

/**
 * Files that wait for most of their time, for limits that they cannot drive; those that wait longest first.
 */
const WAITING = [
  "edge/http/authorize.test.ts",
  "edge/http/conformance.test.ts",
  "edge/clock.test.ts",
  "edge/mailbox/consumers.test.ts",
  "edge/mailbox/hibernation.test.ts",
  "edge/http/browser.test.ts",
  "edge/tunnel/owner.test.ts",
  "edge/revocation.test.ts",
  "cli/commands/token.test.ts",
];

/**
 * Files that take long because they work, those that take longest first. Not torture/abuse.test.ts: it measures delays,
 * and these would be its neighbours.
 */
const LONGEST = [
  "torture/reply-lost.test.ts",
  "cli/commands/recv.test.ts",
  "cli/streams/forward.test.ts",
  "cli/commands/send.test.ts",
  "cli/package.test.ts",
  "edge/link/link.test.ts",
  "edge/link/link-wire.test.ts",
  "e2e/matrix.test.ts",
  "networks/networks.test.ts",
  "cli/command.test.ts",
  "cli/local-edge/edge-run.test.ts",
  "edge/mailbox/fanout.test.ts",
  "torture/streams.test.ts",
  "torture/stopped.test.ts",
  "torture/hostile-edge.test.ts",
  "torture/forward.test.ts",
  "torture/edges.test.ts",
  "torture/kills.test.ts",
  "torture/streams-kills.test.ts",
  "edge/http/full-disk.test.ts",
  "torture/files.test.ts",
  "torture/fencing.test.ts",
  "e2e/identity.test.ts",
  // Where Bun and Deno are installed.
  "e2e/runtimes.test.ts",
];

/** Files that are alone in their process: they make its clock run faster, measure its memory, or kill what they start. */
const ALONE = [
  "device/device.test.ts",
  "device/queued-memory.test.ts",
  "device/transports/network.test.ts",
  "device/transports/network-memory.test.ts",
  "edge/link/link-sessions.test.ts",
  "edge/mailbox/mailbox-store.test.ts",
  "edge/tunnel/kept-answers.test.ts",
  "edge/tunnel/websocket-memory.test.ts",
  "networks",
  "programs",
  "relay/kill.test.ts",
  "torture",
];

/**
 * All other files, which share a process with those of their group, one after another: starting Node and loading the
 * modules takes longer than many of these files. A file is in the first group that has it or one of its folders. A group
 * takes about as long as one of the {@link LONGEST}.
 */
const SHARED: Readonly<Record<string, readonly string[]>> = {
  "fast-clock": [
    // These make the clock of their process run as fast as each other.
    "device/edge-patience.test.ts",
    "device/idle-cutter.test.ts",
    "device/replacing.test.ts",
    "device/slow-application.test.ts",
  ],
  "edge-http-mailboxes": [
    "edge/http/mailbox-rule.test.ts",
    "edge/http/mailbox-senders.test.ts",
    "edge/http/one-log.test.ts",
    "edge/http/peer-mailboxes.test.ts",
    "edge/http/plain-streams.test.ts",
  ],
  "edge-http": ["edge/http"],
  "edge-link": ["edge/link", "edge/origin"],
  // These run objects in the process, and have replaced what the platform provides.
  "edge-objects": [
    "edge/mailbox/catching-up.test.ts",
    "edge/mailbox/consumer.test.ts",
    "edge/mailbox/delivery-times.test.ts",
    "edge/mailbox/failing-disk.test.ts",
    "edge/mailbox/failing-objects.test.ts",
    "edge/mailbox/http-readers.test.ts",
    "edge/mailbox/id-store.test.ts",
    "edge/mailbox/kept-store.test.ts",
    "edge/mailbox/known-accounts.test.ts",
    "edge/mailbox/reservations.test.ts",
    "edge/mailbox/room-waiters.test.ts",
    "edge/mailbox/seen-ids.test.ts",
    "edge/mailbox/send-window.test.ts",
  ],
  "edge-mailbox": ["edge/mailbox"],
  "edge-egress": ["edge/collector", "edge/egress", "edge/operator-sessions", "edge/status-page"],
  "edge-pure": [
    "edge/admission",
    "edge/durable-streams",
    "edge/endpoint",
    "edge/inboxes",
    "edge/metrics",
    "edge/plain-stream",
    "edge/policy",
    "edge/pumps",
    "edge/rpc",
    "edge/tunnel",
  ],
  edge: ["edge"],
  "device-streams": ["device/streams"],
  "device-transports": ["device/transports"],
  device: ["device"],
  e2e: ["e2e"],
  "cli-commands": ["cli/commands"],
  "cli-files": ["cli/files"],
  "cli-edge": ["cli/backup", "cli/deploy", "cli/local-edge", "cli/monitoring", "cli/service", "cli/top"],
  "cli-streams": ["cli/doctor", "cli/http", "cli/keyring", "cli/profiles", "cli/streams"],
  cli: ["cli"],
  protocols: ["encapsulation", "requests", "sstp", "streams"],
  relay: ["relay"],
  others: [
    "auth",
    "bench",
    "layout.test.ts",
    "lib",
    "readme.test.ts",
    "settings.test.ts",
    "store-and-forward",
    "support",
    "transfer",
  ],
};

/**
 * Files at once in each lane. Those that wait need little of the cores, and go on beside those that work; these too wait
 * now and then, so that fewer would not use two cores.
 */
const CONCURRENCY = { waiting: 6, working: 5 };

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

/** Whether a file is this one, or in this folder. */
function isIn(file: string, name: string): boolean {
  return file === name || file.startsWith(`${name}/`);
}

/** All files, by the lane in which they run. */
function allFiles(): Record<"waiting" | "working", string[]> {
  const shared = Object.entries(SHARED);
  for (const name of [...WAITING, ...LONGEST, ...ALONE, ...shared.flatMap(([, names]) => names)]) {
    if (!existsSync(join(FOLDER, name))) throw new Error(`there is no test/${name}`);
  }
  const names = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const others = names.filter((name) => !WAITING.includes(name) && !LONGEST.includes(name)).sort();
  const groupOf = (file: string) =>
    ALONE.some((name) => isIn(file, name))
      ? undefined
      : shared.find(([, of]) => of.some((name) => isIn(file, name)))?.[0];
  const alone = others.filter((name) => groupOf(name) === undefined);
  const groups = shared.map(([group]) =>
    together(
      group,
      others.filter((name) => groupOf(name) === group),
    ),
  );
  const paths = (files: readonly string[]) => files.map((name) => join(FOLDER, name));
  return { waiting: paths(WAITING), working: [...paths(LONGEST), ...groups, ...paths(alone)] };
}

/**
 * Writes a file that runs these one after another, with their hooks, as suites of the same names. Each is loaded when the
 * one before has been: of two that wait for the same module, both would belong to the suite of one.
 */
function together(group: string, names: readonly string[]): string {
  const module = (path: string) => JSON.stringify(pathToFileURL(join(FOLDER, path)));
  const suites = names.map((name) => `suite(${JSON.stringify(`test/${name}`)}, ${module(name)});\n`);
  mkdirSync(TOGETHER, { recursive: true });
  const file = join(TOGETHER, `${group}.test.mjs`);
  writeFileSync(
    file,
    `import { after, describe } from "node:test";
import { endFile } from ${module("support/file-end.ts")};

let last = Promise.resolve();

function suite(name, url) {
  describe(name, () => {
    after(endFile);
    const loaded = last.then(() => import(url));
    last = loaded.catch(() => undefined);
    return loaded;
  });
}

${suites.join("")}`,
  );
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
const lanes = given.length > 0 ? { waiting: [], working: given } : allFiles();
if (given.length === 0) process.env.GROOVEWAY_TEST_COMMAND = await bundleCommand(join(TOGETHER, "command"));
const runs = (["waiting", "working"] as const)
  .filter((lane) => lanes[lane].length > 0)
  .map((lane) => run({ files: lanes[lane], concurrency: CONCURRENCY[lane], timeout: TIMEOUT }));
merged(runs)
  .on("data", ({ type }: { readonly type: string }) => {
    if (type === "test:fail") process.exitCode = 1;
  })
  .compose(spec)
  .pipe(process.stdout);
