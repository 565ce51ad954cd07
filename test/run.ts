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

/** Files in shared folders that start processes, wait for long, or measure memory. */
const ALONE = ["device/transports/network.test.ts", "device/transports/network-memory.test.ts", "relay/kill.test.ts"];

/**
 * Files that share a process, one after another: they start no process, and wait for nothing. Starting Node and loading
 * the modules takes longer than most of these files. Each group has folders, and names of files without their ending. Not
 * edge/mailbox/mailbox-store, which measures what all mailboxes of a process share.
 */
const SHARED: Readonly<Record<string, readonly string[]>> = {
  auth: ["auth"],
  cli: [
    "cli/doctor/output",
    "cli/duration",
    "cli/files/disk-pace",
    "cli/files/stall-watch",
    "cli/http",
    "cli/message-lines",
    "cli/output",
    "cli/parse-arguments",
    "cli/plain-notice",
    "cli/profiles/config-toml",
    "cli/resolver-options",
    "cli/streams/connect-toml",
    "cli/streams/exposed",
    "cli/streams/socks-server",
    "cli/streams/socks-service",
    "cli/streams/stream-address",
    "cli/streams/stream-log",
    "cli/system-tool",
    "cli/way-memory",
  ],
  device: [
    "device/climb",
    "device/cure",
    "device/diagnosis",
    "device/edge-choice",
    "device/full-inbox",
    "device/inbox",
    "device/late-connect",
    "device/reconnect",
    "device/renewal",
    "device/retry-after",
    "device/several-edges",
    "device/token-in-clear",
    "device/token-refusal",
    "device/token-source",
    "device/unanswered",
  ],
  "device-streams": [
    "device/streams/device-channel",
    "device/streams/device-stream",
    "device/streams/flight",
    "device/streams/keyring",
    "device/streams/stream-host",
  ],
  "device-transports": ["device/transports"],
  edge: [
    "edge/admission",
    "edge/durable-streams",
    "edge/inboxes",
    "edge/link/keepalive-channel",
    "edge/metrics",
    "edge/output",
    "edge/plain-stream",
    "edge/policy",
    "edge/pumps",
    "edge/rpc",
    "edge/tunnel/alarm",
    "edge/tunnel/http-connection",
    "edge/tunnel/polling-connection",
    "edge/tunnel/websocket-backlog",
    "edge/tunnel/websocket-connection",
    "edge/tunnel/websocket-window",
  ],
  "edge-endpoint": ["edge/endpoint"],
  "edge-mailbox": [
    "edge/mailbox/catching-up",
    "edge/mailbox/consumer",
    "edge/mailbox/delivery-times",
    "edge/mailbox/failing-objects",
    "edge/mailbox/http-readers",
    "edge/mailbox/id-store",
    "edge/mailbox/kept-store",
    "edge/mailbox/known-accounts",
    "edge/mailbox/reservations",
    "edge/mailbox/room-waiters",
    "edge/mailbox/seen-ids",
    "edge/mailbox/send-window",
  ],
  encapsulation: ["encapsulation"],
  lib: ["lib"],
  relay: ["relay"],
  requests: ["requests"],
  sstp: ["sstp"],
  streams: ["streams"],
  transfer: ["store-and-forward", "transfer"],
};

/**
 * Files at once in each lane. Those that wait need little of the cores, and go on beside those that work; these too wait
 * now and then, so that fewer would not use two cores. With more, what is timed in a test waits for the others.
 */
const CONCURRENCY = { waiting: 4, working: 3 };

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

/** Whether a name in {@link SHARED} stands for this file. */
function isIn(file: string, name: string): boolean {
  return file === `${name}.test.ts` || file.startsWith(`${name}/`);
}

/** All files, by the lane in which they run. */
function allFiles(): Record<"waiting" | "working", string[]> {
  const shared = Object.entries(SHARED);
  for (const name of [...WAITING, ...LONGEST, ...ALONE, ...shared.flatMap(([, names]) => names)]) {
    if (![name, `${name}.test.ts`].some((path) => existsSync(join(FOLDER, path))))
      throw new Error(`there is no test/${name}`);
  }
  const names = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const others = names.filter((name) => !WAITING.includes(name) && !LONGEST.includes(name)).sort();
  const groupOf = (file: string) =>
    ALONE.includes(file) ? undefined : shared.find(([, of]) => of.some((name) => isIn(file, name)))?.[0];
  const alone = others.filter((name) => groupOf(name) === undefined);
  const groups = shared.map(([group]) =>
    together(
      group,
      others.filter((name) => groupOf(name) === group),
    ),
  );
  const paths = (files: readonly string[]) => files.map((name) => join(FOLDER, name));
  // What is shared has no pauses, so that it uses the cores to the end of the run.
  return { waiting: paths(WAITING), working: [...paths([...LONGEST, ...alone]), ...groups] };
}

/** Writes a file that runs these one after another, with their hooks, as suites of the same names. */
function together(group: string, names: readonly string[]): string {
  const suites = names.map((name) => {
    const url = pathToFileURL(join(FOLDER, name));
    return `describe(${JSON.stringify(`test/${name}`)}, () => import(${JSON.stringify(url)}));\n`;
  });
  mkdirSync(TOGETHER, { recursive: true });
  const file = join(TOGETHER, `${group}.test.mjs`);
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
