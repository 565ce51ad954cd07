/** `grooveway edge backup` while an edge works, and `restore`: what is kept, and how readers learn what is lost. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { hs256, type Issuer, jwks } from "../../edge/issuer.ts";
import { connect, receive, startEdge } from "../../edge/mailbox/support.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { run, runHere } from "../support.ts";

const SCOPE = "connect receive send:* create:* read:* write:*";
const text = { "Content-Type": "text/plain" };
const json = { "Content-Type": "application/json" };

interface Site {
  readonly edge: LocalEdge;
  /** A request with the token of a device. */
  call(as: string, method: string, path: string, init?: RequestInit): Promise<Response>;
  token(as: string): Promise<string>;
}

async function site(t: TestContext, issuer: Issuer, state: string): Promise<Site> {
  const edge = await startEdge(t, { keys: jwks(issuer), state, adminToken: "admin" });
  const token = (as: string) => issuer.issue({ address: as, sub: as, scope: SCOPE });
  return {
    edge,
    token,
    async call(as, method, path, init = {}) {
      const headers = { Authorization: `Bearer ${await token(as)}`, ...init.headers };
      return fetch(`${edge.url}/${path}`, { method, ...init, headers });
    },
  };
}

/** Longer than what the others append. */
function long(n: number): string {
  return `${n};`.padEnd(100, ".");
}

function reasonOf(answer: Response): string {
  return answer.ok ? "ok" : (answer.headers.get("grooveway-reason") ?? String(answer.status));
}

async function append(at: Site, stream: string, body: string, headers: Record<string, string> = text): Promise<string> {
  const answer = await at.call("alice/pc", "POST", `mailboxes/${stream}`, { body, headers });
  assert.ok(answer.ok, await answer.text());
  return answer.headers.get("stream-next-offset") ?? "";
}

describe("a backup that is taken under load", () => {
  it("has all that was acknowledged before, and a reader or producer that is ahead of it learns so", {
    timeout: 240_000,
  }, async (t) => {
    const issuer = await hs256();
    const [state, fresh] = [join(temporaryFolder(), "state"), join(temporaryFolder(), "fresh")];
    const file = join(temporaryFolder(), "backup");
    const before = await site(t, issuer, state);

    // What is there before the backup.
    await before.call("alice/pc", "PUT", "mailboxes/app/logs/today", { headers: text });
    const early = await append(before, "app/logs/today", "before;");
    const forked = { ...text, "Stream-Forked-From": "app/logs/today", "Stream-Fork-Offset": early };
    const fork = await before.call("alice/pc", "PUT", "mailboxes/app/logs/fork", { headers: forked });
    assert.equal(reasonOf(fork), "ok", await fork.text());
    await append(before, "app/logs/fork", "in the fork;");
    const producer = { ...text, "Producer-Id": "p", "Producer-Epoch": "0" };
    await append(before, "app/logs/today", "p0;", { ...producer, "Producer-Seq": "0" });
    const once = { ...text, "Idempotency-Key": "order-1" };
    assert.ok((await before.call("alice/pc", "POST", "send/carol%2Fpc", { body: "order", headers: once })).ok);
    const alice = await connect(before.edge, "alice/pc", "websocket", { token: await before.token("alice/pc") });
    const acknowledged: string[] = [];
    let sending = true;
    const load = Promise.all(
      Array.from({ length: 8 }, async (_, lane) => {
        for (let n = 0; sending; n += 1) {
          const message = `${lane}.${n}`;
          await alice.send("bob/phone", message);
          acknowledged.push(message);
          if (n % 10 === 0) await append(before, "app/logs/today", `${message};`);
        }
      }),
    );
    while (acknowledged.length < 400) await new Promise((resolve) => setTimeout(resolve, 20));
    const must = [...acknowledged];
    const backed = await run(t, ["edge", "backup", file, "--state", state]);
    assert.equal(backed.code, 0, backed.stderr);
    assert.match(backed.stdout, /^\d+ mailboxes, /);
    // Only for its owner.
    assert.equal(statSync(file).mode & 0o77, 0);

    // What happens after it, and is lost.
    const behind = acknowledged.length;
    while (acknowledged.length < behind + 200) await new Promise((resolve) => setTimeout(resolve, 20));
    sending = false;
    await load;
    const late = await append(before, "app/logs/today", "after the backup;");
    await append(before, "app/logs/today", "p1;", { ...producer, "Producer-Seq": "1" });
    await append(before, "app/logs/today", "p2;", { ...producer, "Producer-Seq": "2" });
    const ahead = await before.call("bob/phone", "GET", "mailboxes/bob%2Fphone?offset=now");
    const lateNumber = ahead.headers.get("stream-next-offset") ?? "";
    assert.match(lateNumber, /^\d{16}_\d{16}$/);
    await alice.close();
    await before.edge.close();

    const restored = await run(t, ["edge", "restore", file, "--state", fresh, "--json"]);
    assert.equal(restored.code, 0, restored.stderr);
    assert.equal(JSON.parse(restored.stdout).event, "restored");
    const after = await site(t, issuer, fresh);

    // A reader of the mailbox, and one of the stream, that have seen what is lost.
    const readers = async () => {
      const mailbox = await after.call("bob/phone", "GET", `mailboxes/bob%2Fphone?offset=${lateNumber}`);
      const stream = await after.call("alice/pc", "GET", `mailboxes/app/logs/today?offset=${late}`);
      return [reasonOf(mailbox), reasonOf(stream)];
    };
    assert.deepEqual(await readers(), ["OffsetGone", "OffsetGone"]);
    const gap = await after.call("alice/pc", "POST", "mailboxes/app/logs/today", {
      body: "p3;",
      headers: { ...producer, "Producer-Seq": "3" },
    });
    assert.equal(reasonOf(gap), "ProducerGap");
    // What comes now never stands at a place that was known before.
    const again = await connect(after.edge, "alice/pc", "websocket", { token: await after.token("alice/pc") });
    for (let n = 0; n < 20; n += 1) await again.send("bob/phone", `new ${n}`);
    await append(after, "app/logs/today", "x".repeat(100_000));
    assert.deepEqual(await readers(), ["OffsetGone", "OffsetGone"]);

    const whole = await (await after.call("alice/pc", "GET", "mailboxes/app/logs/today?offset=-1")).text();
    assert.ok(whole.startsWith("before;p0;"), whole.slice(0, 100));
    assert.ok(!whole.includes("after the backup"));
    const forkNow = await (await after.call("alice/pc", "GET", "mailboxes/app/logs/fork?offset=-1")).text();
    assert.equal(forkNow, "before;in the fork;");

    // A message that is sent again is known by its id.
    assert.ok((await after.call("alice/pc", "POST", "send/carol%2Fpc", { body: "order", headers: once })).ok);
    const orders = await after.call("carol/pc", "GET", "mailboxes/carol%2Fpc?offset=-1");
    assert.equal(((await orders.json()) as unknown[]).length, 1);

    const bob = await connect(after.edge, "bob/phone", "keepalive", { token: await after.token("bob/phone") });
    const listed = await fetch(`${after.edge.url}/admin/mailboxes/bob%2Fphone`, {
      headers: { Authorization: "Bearer admin" },
    });
    const { messages } = (await listed.json()) as { messages: number };
    const came = (await receive(bob, messages, 60_000)).map((message) => message.text());
    assert.equal(new Set(came).size, came.length, "nothing twice");
    for (const message of must) assert.ok(came.includes(message), `${message} was acknowledged before the backup`);
    assert.deepEqual(
      came.slice(-20),
      Array.from({ length: 20 }, (_, n) => `new ${n}`),
    );
    const { length } = came.filter((message) => !message.startsWith("new"));
    t.diagnostic(`${must.length} acknowledged before the backup, ${length} restored, ${acknowledged.length} in all`);
    await Promise.all([bob.close(), again.close()]);
  });

  it("is of a stopped edge too, and restored twice has each epoch", { timeout: 120_000 }, async (t) => {
    const issuer = await hs256();
    const folder = temporaryFolder();
    const states = [0, 1, 2].map((n) => join(folder, `state-${n}`));
    let offset = "";
    for (const [n, state] of states.entries()) {
      const at = await site(t, issuer, state);
      if (n === 0) await at.call("alice/pc", "PUT", "mailboxes/app/logs/today", { headers: text });
      await append(at, "app/logs/today", long(n));
      if (n > 0) {
        // The place that it names has other data now.
        const read = await at.call("alice/pc", "GET", `mailboxes/app/logs/today?offset=${offset}`);
        assert.equal(reasonOf(read), "OffsetGone");
      }
      const body = await at.call("alice/pc", "POST", "send/bob%2Fphone", { body: `"${n}"`, headers: json });
      assert.ok(body.ok, await body.text());
      await at.edge.close();
      const next = states[n + 1];
      if (next !== undefined) {
        const file = join(folder, `backup-${n}`);
        assert.equal((await runHere(["edge", "backup", file, "--state", state])).code, 0);
        assert.equal((await runHere(["edge", "restore", file, "--state", next])).code, 0);
      }
      const more = await site(t, issuer, state);
      offset = await append(more, "app/logs/today", "not in the backup;");
      await more.edge.close();
    }
    const last = await site(t, issuer, states[2] ?? "");
    const stream = await (await last.call("alice/pc", "GET", "mailboxes/app/logs/today?offset=-1")).text();
    assert.equal(stream, `${long(0)}${long(1)}${long(2)}not in the backup;`);
    const mail = await last.call("bob/phone", "GET", "mailboxes/bob%2Fphone?offset=-1");
    const bodies = ((await mail.json()) as { body: unknown }[]).map(({ body }) => body);
    assert.deepEqual(bodies, ["0", "1", "2"]);
    await last.edge.close();
  });
});

describe("backup and restore", () => {
  it("refuse what would overwrite something, by name", async () => {
    const folder = temporaryFolder();
    const file = join(folder, "exists");
    writeFileSync(file, "precious");
    const none = await runHere(["edge", "backup", join(folder, "new"), "--state", join(folder, "nothing")]);
    assert.match(none.stderr, /is not the state folder of an edge/);
    assert.equal(none.code, 5);
    const state = join(folder, "state");
    const used = join(folder, "used");
    for (const made of [state, used]) {
      mkdirSync(join(made, "do"), { recursive: true });
    }
    const over = await runHere(["edge", "backup", file, "--state", state]);
    assert.match(over.stderr, /exists: choose another name/);
    assert.equal(readFileSync(file, "utf8"), "precious");
    const backup = join(folder, "backup");
    assert.equal((await runHere(["edge", "backup", backup, "--state", state])).code, 0);
    const into = await runHere(["edge", "restore", backup, "--state", used]);
    assert.match(into.stderr, /has the state of an edge/);
  });

  it("refuse a file that is no backup, is damaged, or leads out of the folder, and leave nothing behind", async (t) => {
    const folder = temporaryFolder();
    const state = join(folder, "state");
    const edge = await startEdge(t, { state });
    const alice = await connect(edge, "alice/pc", "websocket");
    await alice.send("bob/phone", "waits");
    await alice.close();
    await edge.close();
    const good = join(folder, "good");
    assert.equal((await runHere(["edge", "backup", good, "--state", state])).code, 0);
    const bytes = readFileSync(good);
    const changed = (name: string, statement: string) => {
      const file = join(folder, name);
      writeFileSync(file, bytes);
      const database = new DatabaseSync(file);
      database.exec(statement);
      database.close();
      return file;
    };
    const text = join(folder, "text");
    writeFileSync(text, "not a database at all, but long enough to look at".repeat(100));
    const cases: [string, RegExp][] = [
      [text, /no backup of an edge|cannot be read/],
      [changed("empty", "DROP TABLE about"), /cannot be read|no backup/],
      [changed("newer", "UPDATE about SET value = '9' WHERE name = 'format'"), /has format 9/],
      [changed("flipped", "UPDATE pieces SET bytes = zeroblob(length(bytes))"), /is damaged at/],
      [changed("short", "DELETE FROM pieces"), /is damaged at/],
      [changed("outside", "INSERT INTO files VALUES ('../../outside.sqlite', 0, '')"), /has a file with the path/],
    ];
    for (const [at, [file, said]] of cases.entries()) {
      const into = join(folder, `into-${at}`);
      const { code, stderr } = await runHere(["edge", "restore", file, "--state", into]);
      assert.match(stderr, said);
      assert.equal(code, 2, stderr);
      assert.deepEqual([existsSync(join(into, "do")), existsSync(join(into, "do.part"))], [false, false]);
    }
    const missing = await runHere(["edge", "restore", join(folder, "missing"), "--state", join(folder, "x")]);
    assert.equal(missing.code, 5);
    chmodSync(good, 0o600);
    assert.equal((await runHere(["edge", "restore", good, "--state", join(folder, "fine")])).code, 0);
  });
});
