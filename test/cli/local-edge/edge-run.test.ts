/** What an edge and a relay lock while they run, and that nothing is left however they end. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { sweepEmptyDatabases } from "../../../src/cli/local-edge/empty-databases.ts";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { Device } from "../../../src/device/index.ts";
import { type Holder, readRecord } from "../../../src/lib/node/file-lock.ts";
import { isRunning } from "../../../src/lib/node/process-id.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { eventually } from "../../support/watch.ts";
import { ENTRY, folder, type Running, run, start } from "../support.ts";

async function edgeOn(context: TestContext, state: string): Promise<{ edge: Running; url: string; holder: Holder }> {
  const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--state", state]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const holder = readRecord(join(state, "lock"));
  assert(holder !== undefined);
  return { edge, url, holder };
}

async function kill(process: ChildProcess): Promise<void> {
  process.kill("SIGKILL");
  await once(process, "exit");
}

/** The guard process of a runtime. */
function guardOf(runtime: number): number | undefined {
  const line = execFileSync("ps", ["-eo", "pid,args"], { encoding: "utf8" })
    .split("\n")
    .find((text) => text.includes("grooveway-guard") && text.trim().endsWith(` ${runtime}`));
  return line === undefined ? undefined : Number.parseInt(line, 10);
}

async function answers(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function message(edge: string, id: string): Promise<void> {
  const alice = await Device.connect({ edge, address: "alice/pc", transport: "websocket" });
  await alice.send("bob/pc", "kept", { id });
  await alice.close();
}

async function waits(edge: string): Promise<string> {
  const bob = await Device.connect({ edge, address: "bob/pc", transport: "websocket" });
  try {
    for await (const { body } of bob.messages()) return new TextDecoder().decode(body);
    return "";
  } finally {
    await bob.close();
  }
}

describe("a state folder in use", () => {
  it("makes a second edge fail and name the first", async (context) => {
    const state = await folder(context);
    const { edge } = await edgeOn(context, state);
    const second = await run(context, ["edge", "--port", "0", "--dev", "--state", state]);
    assert.equal(second.code, EXIT_CODES.InUse.status);
    assert.match(
      second.stderr,
      new RegExp(`in use by process ${edge.process.pid} \\(.* edge, since 20.*\\[StateInUse\\]`),
    );
  });

  it("makes a second relay fail, under whatever path", async (context) => {
    const store = join(await folder(context), "relay.db");
    const relay = start(context, ["relay", "--port", "0", "--json", "--store", store]);
    await relay.line(/"port":/);
    const second = await run(context, ["relay", "--port", "0", "--store", join(store, "..", ".", "relay.db")]);
    assert.equal(second.code, EXIT_CODES.InUse.status);
    assert.match(
      second.stderr,
      new RegExp(`in use by process ${relay.process.pid} \\(.* relay, since 20.*\\[StoreInUse\\]`),
    );
    relay.process.kill("SIGTERM");
    assert.equal((await relay.finished).code, 0);
    await start(context, ["relay", "--port", "0", "--json", "--store", store]).line(/"port":/);
  });
});

describe("an edge that is ended", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
    it(`by ${signal} leaves nothing behind, and reports it in its exit code`, async (context) => {
      const state = await folder(context);
      const { edge, holder } = await edgeOn(context, state);
      assert(holder.children.length === 1 && holder.folder !== undefined && existsSync(holder.folder));
      edge.process.kill(signal);
      assert.equal((await edge.finished).code, 0);
      assert(!holder.children.some(isRunning));
      assert(!existsSync(holder.folder));
      const left = readdirSync(state).filter((name) => name !== "ballast");
      assert.deepEqual(left.sort(), ["do", "lock"]);
    });
  }

  it("by Ctrl-C, which its whole group gets, answers those that wait", async (context) => {
    if (process.platform === "win32") return context.skip("SKIPPED: Windows has no process groups");
    const child = spawn(process.execPath, [ENTRY, "edge", "--port", "0", "--json", "--dev"], { detached: true });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text) => {
      stdout += text;
    });
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    context.after(() => child.kill("SIGTERM"));
    await eventually(() => /"url":"[^"]+"/.test(stdout), "it listens");
    const [, url = ""] = /"url":"([^"]+)"/.exec(stdout) ?? [];
    const stream = `${url}/mailboxes/app/log`;
    await fetch(stream, { method: "PUT", headers: { "Content-Type": "text/plain" } });
    const held = fetch(`${stream}?offset=now&live=long-poll`);
    await sleep(500);
    process.kill(-(child.pid ?? 0), "SIGINT");
    assert.equal((await held).status, 204, "what waits gets an answer");
    const [code] = await once(child, "exit");
    assert.deepEqual([code, stderr], [0, ""]);
  });

  it("by SIGKILL takes its runtime down at once", async (context) => {
    const { edge, url, holder } = await edgeOn(context, await folder(context));
    await kill(edge.process);
    await eventually(() => !holder.children.some(isRunning), "the runtime ends");
    assert(!(await answers(url)));
  });

  it("by SIGKILL together with its guard is cleaned up by the next edge, which has all its data", async (context) => {
    const state = await folder(context);
    const { edge, url, holder } = await edgeOn(context, state);
    await message(url, "one");
    const [runtime] = holder.children;
    assert(runtime !== undefined && holder.folder !== undefined);
    process.kill(guardOf(runtime.pid) ?? 0, "SIGKILL");
    await kill(edge.process);
    assert(await answers(url), "the runtime outlived the command");
    const next = await edgeOn(context, state);
    assert(!isRunning(runtime));
    assert(!existsSync(holder.folder));
    assert.equal(await waits(next.url), "kept");
  });

  it("by SIGKILL without a state folder leaves a temporary folder, which the next edge removes", async (context) => {
    const temporary = temporaryFolder();
    const before = process.env.TMPDIR;
    process.env.TMPDIR = temporary;
    context.after(() => {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    });
    const options = ["edge", "--port", "0", "--json", "--dev"];
    const first = start(context, options);
    await first.line(/"url"/);
    const made = readdirSync(temporary).filter((name) => name.startsWith("grooveway-edge-"));
    assert.equal(made.length, 1);
    const [runtime] = readRecord(join(temporary, made[0] ?? "", "lock"))?.children ?? [];
    assert(runtime !== undefined);
    process.kill(guardOf(runtime.pid) ?? 0, "SIGKILL");
    await kill(first.process);
    const second = start(context, options);
    await second.line(/"url"/);
    assert(!isRunning(runtime));
    assert(!existsSync(join(temporary, made[0] ?? "")));
    second.process.kill("SIGTERM");
    await second.finished;
    assert.deepEqual(
      readdirSync(temporary).filter((name) => name.startsWith("grooveway-edge-") || name.startsWith("miniflare-")),
      [],
    );
  });
});

describe("a runtime that crashes", () => {
  it("is started again on the same port, with all messages", async (context) => {
    const state = await folder(context);
    const { edge, url, holder } = await edgeOn(context, state);
    await message(url, "one");
    for (const again of [1, 2]) {
      const [runtime] = readRecord(join(state, "lock"))?.children ?? [];
      assert(runtime !== undefined);
      process.kill(runtime.pid, "SIGKILL");
      const before = performance.now();
      await eventually(() => !isRunning(runtime), "it is gone");
      while (!(await answers(url))) await sleep(20);
      context.diagnostic(`crash ${again}: serves again after ${Math.round(performance.now() - before)} ms`);
    }
    assert.equal(await waits(url), "kept");
    assert.equal(readRecord(join(state, "lock"))?.children.length, 1);
    edge.process.kill("SIGTERM");
    const { code, stderr } = await edge.finished;
    assert.equal(code, 0);
    assert.match(stderr, /workerd, which runs the edge, ended by SIGKILL: it is started again at once \[EdgeCrashed\]/);
    assert(holder.folder !== undefined && !existsSync(holder.folder));
  });
});

describe("databases of empty objects", () => {
  const ids = {
    kept: "a".repeat(64),
    empty: "b".repeat(64),
    bare: "c".repeat(64),
    alarmed: "d".repeat(64),
    key: "e".repeat(64),
  };

  function database(path: string, sql: string): void {
    const made = new DatabaseSync(path);
    made.exec(`PRAGMA journal_mode = WAL; ${sql}`);
    made.close();
  }

  it("are removed, and no others", async (context) => {
    const state = await folder(context);
    const at = join(state, "do", "grooveway-Mailbox");
    mkdirSync(at, { recursive: true });
    const of = (id: string) => join(at, `${id}.sqlite`);
    const tables = "CREATE TABLE segments (n); CREATE TABLE _cf_KV (key TEXT PRIMARY KEY, value BLOB);";
    database(of(ids.kept), `${tables} INSERT INTO segments VALUES (1)`);
    database(
      of(ids.empty),
      `${tables} CREATE TABLE _cf_METADATA (key INTEGER PRIMARY KEY, value BLOB); INSERT INTO _cf_METADATA VALUES (1, NULL), (2, 'x')`,
    );
    database(of(ids.bare), "CREATE TABLE t (n); DROP TABLE t");
    database(of(ids.alarmed), "CREATE TABLE t (n); DROP TABLE t");
    database(of(ids.key), `${tables} INSERT INTO _cf_KV VALUES ('a', x'00')`);
    database(
      join(at, "metadata.sqlite"),
      `CREATE TABLE _cf_ALARM (actor_id TEXT PRIMARY KEY, scheduled_time INTEGER) WITHOUT ROWID; INSERT INTO _cf_ALARM VALUES ('${ids.alarmed}', 1797115789765000000)`,
    );
    await writeFile(of("f".repeat(64)), "");
    await writeFile(of("0".repeat(64)), "no database at all");
    await writeFile(join(at, "notes.txt"), "");
    assert.equal(sweepEmptyDatabases(state), 3);
    const left = readdirSync(at).filter((name) => name.endsWith(".sqlite"));
    const expected = [ids.kept, ids.alarmed, ids.key, "0".repeat(64), "metadata"].map((id) => `${id}.sqlite`);
    assert.deepEqual(left.sort(), expected.sort());
  });

  it("include Meters of the first release that have no alarm", async (context) => {
    const state = await folder(context);
    const at = join(state, "do", "grooveway-Meter");
    mkdirSync(at, { recursive: true });
    const meter = (id: string, ...keys: string[]) =>
      database(
        join(at, `${id}.sqlite`),
        `CREATE TABLE _cf_KV (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID; INSERT INTO _cf_KV VALUES ${keys.map((key) => `('${key}', x'00')`).join()}`,
      );
    meter(ids.kept, "connects", "connection:of somebody");
    meter(ids.alarmed, "connects", "connection:of somebody");
    meter(ids.key, "connects", "something else");
    database(
      join(at, "metadata.sqlite"),
      `CREATE TABLE _cf_ALARM (actor_id TEXT PRIMARY KEY, scheduled_time INTEGER) WITHOUT ROWID; INSERT INTO _cf_ALARM VALUES ('${ids.alarmed}', 1797115789765000000)`,
    );
    assert.equal(sweepEmptyDatabases(state), 1);
    assert.equal(existsSync(join(at, `${ids.kept}.sqlite`)), false);
  });

  it("are recognized from the write-ahead log as well", async (context) => {
    const state = await folder(context);
    const at = join(state, "do", "grooveway-Mailbox");
    mkdirSync(at, { recursive: true });
    const open = new DatabaseSync(join(at, `${ids.kept}.sqlite`));
    open.exec(
      "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE facts (n); INSERT INTO facts VALUES (1)",
    );
    assert.equal(sweepEmptyDatabases(state), 0);
    open.exec("DELETE FROM facts");
    assert.equal(sweepEmptyDatabases(state), 1);
    open.close();
  });

  it("are removed even if large, when all pages are free", async (context) => {
    const state = await folder(context);
    const at = join(state, "do", "grooveway-Mailbox");
    mkdirSync(at, { recursive: true });
    database(
      join(at, `${ids.key}.sqlite`),
      "CREATE TABLE _cf_KV (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID; INSERT INTO _cf_KV VALUES ('rest', zeroblob(2000000)); DELETE FROM _cf_KV",
    );
    database(
      join(at, `${ids.kept}.sqlite`),
      "CREATE TABLE _cf_KV (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID; INSERT INTO _cf_KV VALUES ('rest', zeroblob(2000000))",
    );
    assert.ok(statSync(join(at, `${ids.key}.sqlite`)).size > 2_000_000);
    assert.equal(sweepEmptyDatabases(state), 1);
    assert.equal(existsSync(join(at, `${ids.key}.sqlite`)), false);
    assert.equal(existsSync(join(at, `${ids.kept}.sqlite`)), true);
  });

  it("include all Tunnels of a release that had them on disk", async (context) => {
    const state = await folder(context);
    const at = join(state, "do", "grooveway-Tunnel");
    mkdirSync(at, { recursive: true });
    database(join(at, `${ids.kept}.sqlite`), "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    database(join(at, "metadata.sqlite"), "CREATE TABLE _cf_ALARM (actor_id TEXT PRIMARY KEY) WITHOUT ROWID");
    assert.equal(sweepEmptyDatabases(state), 1);
    assert.equal(existsSync(at), false);
  });

  it("are not made by requests for unknown connections", async (context) => {
    const state = await folder(context);
    const files = () =>
      readdirSync(state, { recursive: true, encoding: "utf8" }).filter(
        // What was counted stays.
        (name) => name.endsWith(".sqlite") && !name.includes("-Collector"),
      ).length;
    const edge = () => startLocalEdge({ port: 0, relayAllow: [], dev: "open", state });
    await (await edge()).close();
    const before = files();
    const busy = await edge();
    for (let n = 0; n < 10; n += 1) {
      const guid = String(n).padStart(39, "0");
      const answer = await fetch(`${busy.url}/2.0/127.0.0.1/${guid},ConnType=KeepAlive`, { method: "POST", body: "x" });
      await answer.arrayBuffer();
    }
    await busy.close();
    assert.equal(files(), before);
  });
});
