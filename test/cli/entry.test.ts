/** The file that `grooveway` starts: which Node it requires, and what it prints when it cannot run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { folder, olderNode } from "./support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ENTRY = join(ROOT, "src/cli/grooveway.js");

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function execute(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(program, args, { env }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
  });
}

/** Runs the entry point under this Node, which claims to be another version. */
function underNode(version: string, entry = ENTRY): Promise<Ended> {
  const versions = `{...process.versions, node: ${JSON.stringify(version)}}`;
  const program = `Object.defineProperty(process, "versions", { value: ${versions} })`;
  return execute(process.execPath, ["--import", `data:text/javascript,${program}`, entry, "--version"]);
}

/** The entry point as in the package, next to the compiled command. */
async function packed(context: TestContext): Promise<string> {
  const at = await folder(context);
  await mkdir(join(at, "src/cli"), { recursive: true });
  await mkdir(join(at, "dist/cli"), { recursive: true });
  await writeFile(join(at, "package.json"), '{"type":"module"}');
  await writeFile(join(at, "dist/cli/main.js"), 'console.log("runs")');
  await copyFile(ENTRY, join(at, "src/cli/grooveway.js"));
  return join(at, "src/cli/grooveway.js");
}

test("a Node that is too old gets a message that says what to do", async (context) => {
  const compiled = await packed(context);
  const table: readonly (readonly [string, string, RegExp])[] = [
    [
      "20.20.2",
      ENTRY,
      /^grooveway: Node 22\.18 or later is required, and this is 20\.20\.2 \(.*\): run npm ci.*\[NodeTooOld\]\n$/,
    ],
    ["22.17.1", ENTRY, /^grooveway: Node 22\.18 or later.*\[NodeTooOld\]\n$/],
    ["23.5.0", ENTRY, /^grooveway: Node 22\.18 or later.*\[NodeTooOld\]\n$/],
    [
      "22.12.0",
      compiled,
      /^grooveway: Node 22\.13 or later is required, and this is 22\.12\.0 \(.*\): install a newer Node \[NodeTooOld\]\n$/,
    ],
    ["23.3.0", compiled, /\[NodeTooOld\]/],
    ["21.7.3", compiled, /\[NodeTooOld\]/],
  ];
  for (const [version, entry, expected] of table) {
    const { code, stdout, stderr } = await underNode(version, entry);
    assert.match(stderr, expected, version);
    assert.deepEqual([code, stdout], [1, ""], version);
  }
});

test("a Node that is new enough runs the command", async (context) => {
  const compiled = await packed(context);
  for (const [version, entry] of [
    ["22.18.0", ENTRY],
    ["24.0.0", ENTRY],
    ["22.13.0", compiled],
    ["23.4.0", compiled],
    ["25.1.0", compiled],
  ] as const) {
    const { code, stdout, stderr } = await underNode(version, entry);
    assert.deepEqual([code, stderr], [0, ""], version);
    assert.match(stdout, entry === ENTRY ? /^grooveway \d+\.\d+\.\d+ \(Node / : /^runs\n/);
  }
});

test("files are synced by more threads than Node's four, or as many as the user says", async (context) => {
  const compiled = await packed(context);
  const threads = 'Number(/Threads:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1])';
  const program = `
    import { readFileSync, stat } from "node:fs";
    const before = ${threads};
    await Promise.all(Array.from({ length: 99 }, () => new Promise((resolve) => stat("/", resolve))));
    console.log(${threads} - before);`;
  await writeFile(join(compiled, "../../../dist/cli/main.js"), program);
  for (const [given, expected] of [
    [undefined, "8\n"],
    ["3", "3\n"],
  ] as const) {
    const { UV_THREADPOOL_SIZE: _, ...env } = process.env;
    const { stdout } = await execute(process.execPath, [compiled], {
      ...env,
      ...(given !== undefined && { UV_THREADPOOL_SIZE: given }),
    });
    assert.equal(stdout, expected);
  }
});

test("the package declares the versions that the entry point checks", async () => {
  const { engines, bin } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  assert.equal(engines.node, ">=22.13");
  assert.equal(bin.grooveway, "src/cli/grooveway.js");
});

test("an older Node on this machine prints the message itself", async (context) => {
  const node = olderNode();
  if (node === undefined) return context.skip("SKIPPED: there is no Node before 22 on this machine");
  const { code, stderr } = await execute(node, [ENTRY, "--help"]);
  assert.match(stderr, /^grooveway: Node 22\.18 or later is required, .*\[NodeTooOld\]\n$/);
  assert.equal(code, 1);
});

test("npm scripts use the Node of the package, whichever Node starts npm", async (context) => {
  const at = await folder(context);
  const fake = join(at, "node");
  await writeFile(fake, '#!/bin/sh\necho "the wrong node" >&2\nexit 9\n');
  await chmod(fake, 0o755);
  const npm = (await execute("/bin/sh", ["-c", "command -v npm"])).stdout.trim();
  if (npm === "") return context.skip("SKIPPED: there is no npm on the path");
  // npm itself runs under the right Node; its scripts find the wrong one first, unless npm sets their path.
  const env = { ...process.env, PATH: `${at}:${process.env.PATH}`, NODE_OPTIONS: "" };
  const { code, stdout, stderr } = await execute(
    process.execPath,
    [npm, "--prefix", ROOT, "run", "-s", "grooveway", "--", "--version"],
    env,
  );
  assert.equal(code, 0, stderr);
  const { version } = JSON.parse(await readFile(join(ROOT, "node_modules/node/package.json"), "utf8"));
  assert.ok(stdout.includes(`(Node ${version}, `), stdout);
});

test("an incomplete installation is reported in one line", async (context) => {
  const at = await folder(context);
  await mkdir(join(at, "package/src/cli"), { recursive: true });
  await writeFile(join(at, "package/package.json"), '{"type":"module"}');
  await copyFile(ENTRY, join(at, "package/src/cli/grooveway.js"));
  const { code, stderr } = await execute(process.execPath, [join(at, "package/src/cli/grooveway.js"), "--help"]);
  assert.match(stderr, /^grooveway: the installation is incomplete \(.*main\.js.*\): reinstall it \[NotInstalled\]\n$/);
  assert.equal(code, 1);
});
