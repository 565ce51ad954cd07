/** What an operator can see and do: /admin over HTTP, and `grooveway mailbox`. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { DeviceError } from "../../../src/device/index.ts";
import { ADMIN_PAGE } from "../../../src/edge/http/limits.ts";
import type { MailboxStatus } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { runHere } from "../../cli/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { afterAll, connect, mailboxOf, receive, startEdge, until } from "../mailbox/support.ts";

const TOKEN = "an admin's secret";

const all = afterAll();
let edge: InspectedEdge;
before(async () => {
  edge = await startEdge(all, { adminToken: TOKEN });
});

function ask(path: string, method = "GET", token: string | undefined = TOKEN): Promise<Response> {
  return fetch(`${edge.url}/admin${path}`, {
    method,
    headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
  });
}

async function status(path: string, method = "GET"): Promise<MailboxStatus> {
  const answer = await ask(path, method);
  assert.equal(answer.status, 200, path);
  return (await answer.json()) as MailboxStatus;
}

/** Messages for an absent peer. */
async function leave(to: string, count: number): Promise<void> {
  const sender = await connect(edge, "alice/laptop", "websocket");
  await Promise.all(Array.from({ length: count }, (_, i) => sender.send(to, `message ${i}`)));
  await sender.close();
}

describe("/admin", () => {
  it("shows a mailbox by its peer's address", async () => {
    await leave("bob/laptop", 3);
    const shown = await status(`/mailboxes/${encodeURIComponent("bob/laptop")}`);
    const { peer, messages, octets, oldest, consumer, locked, generation, dropped } = shown;
    assert.deepEqual(
      { peer, messages, consumer, locked, generation },
      { peer: "grooveDevice://bob/laptop", messages: 3, consumer: undefined, locked: false, generation: 0 },
    );
    assert.ok(octets > 27 + 3 * "grooveDevice://bob/laptop".length, "the stored size counts, not only the bodies");
    assert.ok(Math.abs((oldest ?? 0) - Date.now()) < 60_000);
    assert.ok(Object.values(dropped).every((count) => count === 0));
    await leave("bob", 1);
    assert.equal((await status("/mailboxes/bob")).peer, "grooveIdentity://bob");
  });

  it("accepts names with special characters", async () => {
    const address = "an%2Fodd%20%25name%40x/dev%20ice";
    await leave(address, 1);
    const { peer, messages } = await status(`/mailboxes/${encodeURIComponent(address)}`);
    assert.deepEqual([peer, messages], [`grooveDevice://${address}`, 1]);
  });

  it("purges waiting messages and counts them", async () => {
    await leave("carol", 4);
    const purged = await status("/mailboxes/carol", "DELETE");
    assert.deepEqual([purged.messages, purged.octets, purged.dropped.Purged], [0, 0, 4]);
    await leave("carol", 1);
    assert.equal((await status("/mailboxes/carol")).messages, 1);
  });

  it("purges while a device reads, which then gets later messages", async (t) => {
    const device = await connect(edge, "dora/pc", "websocket");
    t.after(() => device.close());
    await leave("dora/pc", 5);
    await status("/mailboxes/dora%2Fpc", "DELETE");
    await leave("dora/pc", 1);
    await receive(device, 6);
    const mailbox = await mailboxOf(edge, "grooveDevice://dora/pc");
    await until("nothing waits", async () => (await mailbox.status()).messages === 0);
  });

  it("locks senders out and unlocks", async (t) => {
    const sender = await connect(edge, "alice/lock", "longlived");
    t.after(() => sender.close());
    assert.equal((await status("/mailboxes/dave/lock".replace("dave/", "dave%2Fpc/"), "PUT")).locked, true);
    await assert.rejects(sender.send("dave/pc", "shut out"), DeviceError);
    const after = await status("/mailboxes/dave%2Fpc/lock", "DELETE");
    assert.deepEqual([after.locked, after.dropped.LockedOut], [false, 1]);
    await sender.send("dave/pc", "let in");
  });

  it("lists all mailboxes in pages", async () => {
    const sender = await connect(edge, "alice/many", "websocket");
    const names = Array.from({ length: ADMIN_PAGE + 30 }, (_, i) => `list${String(i).padStart(3, "0")}`);
    await Promise.all(names.map((name) => sender.send(name, "x")));
    await sender.close();
    const listed: MailboxStatus[] = [];
    for (let after = ""; ; after = listed.at(-1)?.peer ?? "") {
      const answer = await ask(`/mailboxes${after === "" ? "" : `?after=${encodeURIComponent(after)}`}`);
      const page = (await answer.json()) as MailboxStatus[];
      assert.ok(page.length <= ADMIN_PAGE);
      if (page.length === 0) break;
      listed.push(...page);
    }
    const peers = listed.map(({ peer }) => peer);
    assert.equal(new Set(peers).size, peers.length, "each exactly once");
    for (const name of names) assert.ok(peers.includes(`grooveIdentity://${name}`), name);
    assert.equal(listed.find(({ peer }) => peer === "grooveIdentity://list007")?.messages, 1);
  });

  it("rejects an invalid address", async () => {
    for (const address of ["a/b/c", "", "@", "%zz", "a@b@c"]) {
      const answer = await ask(`/mailboxes/${encodeURIComponent(address)}`);
      const { code } = (await answer.json()) as { code?: string };
      assert.ok(answer.status === 400 ? code === "MalformedAddress" : address === "", `${address}: ${answer.status}`);
    }
  });

  it("explains how to escape the slash of an address in the path", async () => {
    for (const [path, whole] of [
      ["/mailboxes/bob/phone/rule", "/admin/mailboxes/bob%2Fphone/rule"],
      ["/mailboxes/bob/phone", "/admin/mailboxes/bob%2Fphone"],
    ] as const) {
      const { code, detail } = (await (await ask(path)).json()) as { code: string; detail: string };
      assert.equal(code, "MalformedAddress");
      assert.ok(detail.endsWith(`%2F: ${whole}`), detail);
    }
    assert.equal(((await (await ask("/health")).json()) as { code: string }).code, "NotFound");
  });

  it("refuses requests without the token, with a reason", async () => {
    for (const token of ["", "wrong", `${TOKEN} `, TOKEN.slice(0, -1), undefined]) {
      for (const [path, method] of [
        ["/mailboxes", "GET"],
        ["/mailboxes/bob", "DELETE"],
        ["/mailboxes/bob/lock", "PUT"],
        ["/nothing", "GET"],
      ] as const) {
        // Spaces at the ends of a header's value are lost on the way.
        if (token === `${TOKEN} `) continue;
        const answer = await fetch(`${edge.url}/admin${path}`, {
          method,
          headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
        });
        assert.equal(answer.status, 401, `${token} ${method} ${path}`);
        assert.equal(((await answer.json()) as { code: string }).code, "AdminTokenNeeded");
      }
    }
    assert.equal((await status("/mailboxes/bob")).locked, false);
  });

  it("does not exist when no token is configured", async (t) => {
    const open = await startEdge(t);
    for (const token of ["", "undefined", TOKEN]) {
      const answer = await fetch(`${open.url}/admin/mailboxes`, { headers: { Authorization: `Bearer ${token}` } });
      assert.equal(answer.status, 404);
      assert.equal(((await answer.json()) as { code: string }).code, "NotFound");
    }
  });
});

describe("grooveway mailbox", () => {
  const mailbox = (...args: string[]) => runHere(["mailbox", ...args, "--edge", edge.url, "--token", TOKEN]);

  it("shows, locks, unlocks and purges a mailbox", async () => {
    await leave("erin/pc", 2);
    const shown = await mailbox("show", "erin/pc");
    assert.equal(shown.code, 0, shown.stderr);
    assert.match(shown.stdout, /^peer +grooveDevice:\/\/erin\/pc$/m);
    assert.match(shown.stdout, /^waiting +2 messages, \d+ B$/m);
    assert.match(shown.stdout, /^oldest +20\d\d-/m);
    assert.match(shown.stdout, /^consumer +–$/m);
    assert.match(shown.stdout, /^locked +no$/m);
    assert.match((await mailbox("lock", "erin/pc")).stdout, /^locked +yes$/m);
    assert.match((await mailbox("unlock", "erin/pc")).stdout, /^locked +no$/m);
    const purged = await mailbox("purge", "erin/pc");
    assert.match(purged.stdout, /^waiting +0 messages, 0 B$/m);
    assert.match(purged.stdout, /^dropped +Purged 2$/m);
  });

  it("prints JSON, one object per line", async () => {
    await leave("fay", 1);
    const shown = await mailbox("show", "fay", "--json");
    const parsed = JSON.parse(shown.stdout) as MailboxStatus;
    assert.deepEqual([parsed.peer, parsed.messages], ["grooveIdentity://fay", 1]);
    const listed = await mailbox("ls", "--json");
    const lines = listed.stdout.trim().split("\n");
    const all = lines.map((line) => JSON.parse(line) as MailboxStatus);
    assert.ok(all.length > ADMIN_PAGE, "all pages are listed");
    assert.equal(all.find(({ peer }) => peer === "grooveIdentity://fay")?.messages, 1);
  });

  it("lists mailboxes with their consumers as text", async (t) => {
    const device = await connect(edge, "gail/pc", "websocket");
    t.after(() => device.close());
    const { stdout } = await mailbox("ls");
    assert.match(stdout, /^grooveDevice:\/\/gail\/pc {2}0 messages, 0 B, connected$/m);
    const shown = await mailbox("show", "grooveDevice://gail/pc");
    assert.match(shown.stdout, /^peer +grooveDevice:\/\/gail\/pc$/m);
  });

  it("reports an error in one line, and exits with a status other than 0", async () => {
    for (const [args, code, pattern] of [
      [["show", "fay", "--token", "wrong"], 4, /\[AdminTokenNeeded\]$/],
      [["show", "a/b/c", "--token", TOKEN], 4, /\[MalformedAddress\]$/],
      [["show", "grooveAccount://fay", "--token", TOKEN], 4, /\[MalformedAddress\]$/],
      [["show", "fay", "--token", TOKEN, "--edge", "http://127.0.0.1:1"], 3, /\[ConnectFailed\]$/],
      [["show", "--token", TOKEN], 2, /needs an ADDRESS/],
      [["ls", "fay", "--token", TOKEN], 2, /takes no ADDRESS/],
      [["burn", "fay", "--token", TOKEN], 2, /"burn" is not one of/],
      [["show", "fay", "more", "--token", TOKEN], 2, /one argument too many/],
      [["show", "fay"], 2, /token is missing/],
      [["show", "fay", "--token", TOKEN, "--edge", "nonsense"], 2, /is not a URL/],
    ] as const) {
      const edgeGiven = (args as readonly string[]).includes("--edge");
      const {
        stdout,
        stderr,
        code: exit,
      } = await runHere(["mailbox", ...args, ...(edgeGiven ? [] : ["--edge", edge.url])]);
      assert.equal(exit, code, `${args.join(" ")}: ${stderr}`);
      assert.match(stderr.trim(), pattern);
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
      assert.equal(stdout, "");
    }
  });

  it("has help with an example, and is listed in the main help", async () => {
    const help = await runHere(["mailbox", "--help"]);
    assert.equal(help.code, 0);
    assert.match(help.stdout, /^Example: grooveway mailbox show/m);
    assert.match((await runHere(["--help"])).stdout, /^ +mailbox +/m);
  });
});
