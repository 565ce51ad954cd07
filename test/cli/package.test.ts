/** What is published and what is deployed. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { folder, olderNode } from "./support.ts";

const execute = promisify(execFile);
/** The Node that runs this test comes first on the path: the system's may be older. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}`, NODE_OPTIONS: "" };

let packed: string;
/** Path of what npm would publish. */
let archive: string;

before(async () => {
  packed = await mkdtemp(join(tmpdir(), "grooveway-pack-"));
  await execute("npm", ["pack", "--pack-destination", packed], { env });
  const [name = ""] = await readdir(packed);
  archive = join(packed, name);
});
after(() => rm(packed, { recursive: true, force: true }));

test("npm pack: publint and Are The Types Wrong report no problem", async () => {
  const tarball = new Uint8Array(await readFile(archive));
  const { messages, pkg } = await publint({ pack: { tarball: tarball.buffer } });
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  );
  const checked = await checkPackage(createPackageFromTarballData(tarball));
  assert.ok(checked.types !== false);
  // It is ESM only: resolution for CommonJS and for Node without exports does not apply.
  const modules = checked.problems.filter(
    (problem) => !("resolutionKind" in problem && ["node10", "node16-cjs"].includes(problem.resolutionKind)),
  );
  assert.deepEqual(modules, []);
});

test("npm pack: the command and the typed exports work once installed in an empty folder", async (context) => {
  const out = await folder(context);
  await execute("npm", ["init", "--yes"], { cwd: out, env });
  try {
    await execute("npm", ["install", archive, "--no-audit", "--no-fund"], { cwd: out, env });
  } catch (error) {
    if (!/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT/.test(String(error))) throw error;
    context.skip("SKIPPED: the package registry cannot be reached");
    return;
  }
  const help = await execute("npx", ["grooveway", "--help"], { cwd: out, env });
  assert.match(help.stdout, /^Usage: grooveway COMMAND/);
  const older = olderNode();
  if (older !== undefined) {
    const refused = execute(older, [join(out, "node_modules/grooveway/src/cli/grooveway.js")], { env });
    await assert.rejects(refused, /Node 22\.13 or later is required.*install a newer Node \[NodeTooOld\]/);
  }
  const started = await execute("npx", ["grooveway", "start", "--once", "--port", "0", "--relay-port", "0"], {
    cwd: out,
    env,
  });
  assert.match(started.stdout, /Checksums match\./);

  await writeFile(
    join(out, "use.mts"),
    `import { Device, type Message } from "grooveway";
     import { Device as WebDevice, MemoryKeyring, type WebDeviceOptions } from "grooveway/browser";
     import { Connection } from "grooveway/sstp";
     import { LongLivedClient } from "grooveway/encapsulation";
     import { startRelay } from "grooveway/relay";
     const relay = await startRelay({ port: 0 });
     const device: Device = await Device.connect({ address: "a/b", relay: \`127.0.0.1:\${relay.port}\` });
     const sent: { readonly id: string } = await device.send("a/b", "to myself");
     for await (const message of device.messages() as AsyncIterable<Message>) {
       if (message.id !== sent.id || message.text() !== "to myself") throw new Error("another message");
       message.done();
       break;
     }
     await device.close();
     await relay.close();
     const keyring = new MemoryKeyring();
     const options: WebDeviceOptions = {
       edge: "http://127.0.0.1:1",
       address: "a/page",
       transport: "keepalive",
       keyring,
     };
     const refused = await WebDevice.connect(options).catch((error: { readonly code: string }) => error.code);
     if (refused !== "ConnectFailed") throw new Error(\`the entry for browsers: \${refused}\`);
     console.log(typeof Connection, typeof LongLivedClient);`,
  );
  const compiler = join(process.cwd(), "node_modules/.bin/tsc");
  const types = ["--typeRoots", join(process.cwd(), "node_modules/@types"), "--types", "node"];
  await execute(
    compiler,
    ["--noEmit", "--ignoreConfig", "--strict", "--module", "nodenext", "--target", "es2024", ...types, "use.mts"],
    { cwd: out, env },
  ).catch((error) => assert.fail(error.stdout));
  const used = await execute(process.execPath, ["--disable-warning=ExperimentalWarning", "use.mts"], { cwd: out, env });
  assert.equal(used.stdout, "function function\n");
});

test("wrangler deploy --dry-run passes without warnings", async (context) => {
  const out = await folder(context);
  const quiet = { ...env, WRANGLER_SEND_METRICS: "false", WRANGLER_LOG_PATH: join(out, "log"), CI: "true" };
  const wrangler = join(process.cwd(), "node_modules/.bin/wrangler");
  const { stdout, stderr } = await execute(wrangler, ["deploy", "--dry-run", "--outdir", join(out, "worker")], {
    env: quiet,
  });
  assert.match(stdout, /env\.TUNNEL \(Tunnel\)/);
  assert.doesNotMatch(stdout + stderr, /warning|deprecated|▲|✘/i);
});
