/** The status page: who gets in, that its numbers are those of /metrics, what its forms do, and that names are text. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { FORM_LIFE, SESSION_LIFE, SIGN_IN_TRIES } from "../../../src/edge/operator-sessions/limits.ts";
import { PAGE_ROWS } from "../../../src/edge/status-page/limits.ts";
import { drivenWorker } from "../../support/worker.ts";
import { ed25519, type Issuer, jwks } from "../issuer.ts";
import { afterAll, connect, receive, startEdge, until } from "../mailbox/support.ts";
import { startOperator } from "../operator.ts";
import { figuresOf, formOf, Operator, type Page, unescaped } from "./support.ts";

const TOKEN = "an admin's secret";

const all = afterAll();
let issuer: Issuer;
let edge: LocalEdge;
before(async () => {
  issuer = await ed25519();
  edge = await startEdge(all, { adminToken: TOKEN, keys: jwks(issuer) });
});

async function signedIn(token = TOKEN, of = edge): Promise<Operator> {
  const operator = new Operator(of.url);
  const { status, headers } = await operator.signIn(token);
  assert.deepEqual([status, headers.get("Location")], [303, "./"]);
  return operator;
}

async function deviceOf(address: string, transport: "websocket" | "keepalive" | "longlived" | "polling", of = edge) {
  return connect(of, address, transport, { token: await issuer.issue({ address, scope: "connect receive send:*" }) });
}

/** Everything that /metrics says, by the ids of the counters and gauges. */
async function counts(of = edge): Promise<Record<string, number>> {
  const answer = await fetch(`${of.url}/admin/metrics`, { headers: { Authorization: `Bearer ${TOKEN}` } });
  const { totals, gauges } = (await answer.json()) as {
    totals: Record<string, number>;
    gauges: Record<string, Record<string, number>>;
  };
  const named = Object.entries(gauges).flatMap(([key, values]) =>
    Object.entries(values).map(([value, number]) => [value === "" ? key : `${key} ${value}`, number] as const),
  );
  return { ...totals, ...Object.fromEntries(named) };
}

function codeOf({ text }: Page): string | undefined {
  return /<code>(\w+)<\/code>/.exec(text)?.[1];
}

describe("signing in", () => {
  it("takes the admin token and the scope admin, and no other token", async () => {
    await signedIn();
    await signedIn(await issuer.issue({ scope: "admin" }));
    for (const token of [await issuer.issue({ scope: "metrics connect receive send:*" }), "another secret", ""]) {
      const operator = new Operator(edge.url);
      const page = await operator.signIn(token);
      assert.ok([401, 403].includes(page.status), String(page.status));
      assert.equal(operator.cookie, "");
      assert.match(page.text, /role="alert"/);
    }
  });

  it("shows nothing without a session, on any page", async () => {
    const [stranger, forger] = [new Operator(edge.url), new Operator(edge.url)];
    forger.cookie = `grooveway-session=${"A".repeat(43)}`;
    for (const operator of [stranger, forger]) {
      for (const path of ["", "connections", "mailboxes", "mailboxes?all=1", "mailbox?peer=bob", "purge?peer=bob"]) {
        const page = await operator.get(path);
        assert.equal(page.status, 401, path);
        assert.deepEqual(figuresOf(page.text), new Map(), path);
        assert.match(page.text, /action="sign-in"/);
      }
      const history = await operator.get("history.json");
      assert.deepEqual([history.status, JSON.parse(history.text).code], [401, "SessionNeeded"]);
      for (const action of ["lock", "unlock", "rule", "purge", "sign-out"]) {
        const page = await operator.post(action, { peer: "bob", form: "x", senders: "nobody" });
        assert.deepEqual([page.status, codeOf(page)], [401, "SessionNeeded"], action);
      }
    }
  });

  it("sets a cookie that only https takes elsewhere, and that no script and no other page gets", async () => {
    const here = await new Operator(edge.url).signIn(TOKEN);
    assert.match(
      here.headers.getSetCookie()[0] ?? "",
      /^grooveway-session=[\w-]{43}; Max-Age=28800; Path=\/; HttpOnly; SameSite=Strict$/,
    );
    // A proxy of this machine is trusted.
    const proxied = new Operator(edge.url, { "X-Forwarded-Proto": "https", "X-Forwarded-Host": "edge.example.com" });
    const there = await proxied.signIn(TOKEN);
    assert.match(
      there.headers.getSetCookie()[0] ?? "",
      /^__Host-grooveway-session=[\w-]{43}; Max-Age=28800; Path=\/; HttpOnly; Secure; SameSite=Strict$/,
    );
    assert.equal((await proxied.get()).status, 200);
    assert.doesNotMatch(JSON.stringify([...here.headers]) + here.text, /secret/);
    const clear = new Operator(edge.url, { "X-Forwarded-Proto": "http", "X-Forwarded-Host": "edge.example.com" });
    for (const page of [await clear.signIn(TOKEN), await clear.get()]) {
      assert.deepEqual([page.status, codeOf(page)], [403, "SignInInClear"]);
    }
  });

  it("forbids scripts in the page, frames and other places", async () => {
    const { headers } = await new Operator(edge.url).get();
    const policy = headers.get("Content-Security-Policy") ?? "";
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.match(policy, /form-action 'self'; base-uri 'none'; frame-ancestors 'none'/);
    assert.equal(headers.get("Cache-Control"), "no-store");
    const { text } = await (await signedIn()).get();
    assert.doesNotMatch(text, /<script(?! src="(?:plots|draw-plots)\.js" defer)|<style| style=| on\w+=/);
  });

  it("ends with sign-out, after which the cookie is worth nothing", async () => {
    const operator = await signedIn();
    const { cookie } = operator;
    assert.equal((await operator.send("", "sign-out")).status, 303);
    assert.match(operator.cookie, /=$/);
    operator.cookie = cookie;
    assert.equal((await operator.get()).status, 401);
  });

  it("ends with its token, which may expire, be revoked or lose its key", async (t) => {
    const keys = await startOperator(issuer);
    t.after(() => keys.close());
    const other = await startEdge(t, { ...keys.settings, adminToken: TOKEN });
    const [one, two, admin] = await Promise.all([
      signedIn(await issuer.issue({ scope: "admin", jti: "one" }), other),
      signedIn(await issuer.issue({ scope: "admin", jti: "two" }), other),
      signedIn(TOKEN, other),
    ]);
    assert.equal((await one.get("connections")).status, 200);
    keys.revoke("one");
    // A judgement counts for 20 s; see auth/limits.ts.
    await until("its session is over", async () => (await one.get("connections")).status === 401, 60_000);
    assert.equal((await two.get("connections")).status, 200);
    assert.equal((await admin.get("connections")).status, 200);
  });

  it("lasts eight hours, or as long as its token, and each form an hour", async (t) => {
    const driven = await startEdge(t, { adminToken: TOKEN, keys: jwks(issuer), code: await drivenWorker() });
    const clock = (ahead: number) => fetch(`${driven.url}/clock/${ahead}`);
    const [hour, margin] = [3_600_000, 120_000];
    const exp = Math.floor((Date.now() + 2 * hour) / 1000);
    const [admin, short] = await Promise.all([
      signedIn(TOKEN, driven),
      signedIn(await issuer.issue({ scope: "admin", exp }), driven),
    ]);
    const form = async () => formOf((await admin.get("mailbox?peer=bob/pc")).text, "lock");
    const [one, other] = [await form(), await form()];
    await clock(FORM_LIFE - margin);
    assert.equal((await admin.post("lock", one)).status, 303);
    await clock(FORM_LIFE + margin);
    const late = await admin.post("lock", other);
    assert.deepEqual([late.status, codeOf(late)], [403, "FormRefused"]);
    const statuses = async () => [(await admin.get("connections")).status, (await short.get("connections")).status];
    for (const [ahead, expected] of [
      [2 * hour - margin, [200, 200]],
      [2 * hour + margin, [200, 401]],
      [SESSION_LIFE - margin, [200, 401]],
      [SESSION_LIFE + margin, [401, 401]],
    ] as const) {
      await clock(ahead);
      assert.deepEqual(await statuses(), expected, `${ahead / hour} h`);
    }
    const gone = await admin.post("sign-out", one);
    assert.deepEqual([gone.status, codeOf(gone)], [401, "SessionNeeded"], "nothing can be sent any more");
  });

  it("ends when ADMIN_TOKEN is another", async (t) => {
    const { temporaryFolder } = await import("../../support/temporary-folder.ts");
    const state = temporaryFolder();
    const first = await startEdge(t, { adminToken: TOKEN, state });
    const operator = await signedIn(TOKEN, first);
    await first.close();
    const same = await startEdge(t, { adminToken: TOKEN, state });
    const again = new Operator(same.url);
    again.cookie = operator.cookie;
    assert.equal((await again.get()).status, 200, "a restart ends no session");
    await same.close();
    const changed = await startEdge(t, { adminToken: "another one", state });
    const late = new Operator(changed.url);
    late.cookie = operator.cookie;
    assert.equal((await late.get()).status, 401);
  });

  it("is limited for each source, and others sign in meanwhile", async (t) => {
    const other = await startEdge(t, { adminToken: TOKEN });
    const [guesser, operator] = ["192.0.2.1", "198.51.100.7"].map(
      (source) => new Operator(other.url, { "X-Forwarded-For": source }),
    ) as [Operator, Operator];
    for (let tries = 0; tries < SIGN_IN_TRIES; tries += 1)
      assert.equal((await guesser.signIn(`guess ${tries}`)).status, 401);
    const refused = await guesser.signIn(TOKEN);
    assert.deepEqual([refused.status, codeOf(refused)], [429, "TooManySignIns"]);
    assert.ok(Number(refused.headers.get("Retry-After")) <= 12);
    assert.equal((await operator.signIn(TOKEN)).status, 303);
  });

  it("is not there if the edge has no operator", async (t) => {
    const other = await startEdge(t, {});
    assert.equal((await new Operator(other.url).get()).status, 404);
  });

  it("works under a prefix", async (t) => {
    const other = await startEdge(t, { adminToken: TOKEN, prefix: "/groove" });
    const operator = await signedIn(TOKEN, other);
    assert.equal((await operator.get()).status, 200);
    const bare = await fetch(`${other.url}/status`, { redirect: "manual" });
    assert.equal(new URL(bare.headers.get("Location") ?? "", `${other.url}/status`).pathname, "/groove/status/");
  });
});

describe("the numbers", () => {
  it("are those of /metrics and of what happened, once it is quiet", async (t) => {
    const other = await startEdge(t, { adminToken: TOKEN, keys: jwks(issuer) });
    const operator = await signedIn(TOKEN, other);
    const alice = await deviceOf("alice/laptop", "websocket", other);
    const bob = await deviceOf("bob/phone", "keepalive", other);
    const carl = await deviceOf("carl/desk", "longlived", other);
    const dora = await deviceOf("dora/desk", "polling", other);
    await Promise.all(Array.from({ length: 7 }, (_, at) => alice.send("bob/phone", `message ${at}`)));
    await receive(bob, 7);
    await Promise.all(Array.from({ length: 5 }, (_, at) => alice.send("eve/away", "x".repeat(100 * at))));
    await alice.send("eve", "for the identity");
    for (let at = 0; at < 3; at += 1) await (await fetch(`${other.url}/nothing`)).arrayBuffer();
    await carl.close();
    await sleep(15_000);
    const known = await counts(other);
    const figures = figuresOf((await operator.get()).text);
    assert.ok(figures.size > 20, String(figures.size));
    const sumOf = (family: string) =>
      Object.entries(known).reduce((sum, [id, value]) => sum + (id.startsWith(`${family} `) ? value : 0), 0);
    for (const [series, value] of figures) {
      // The edge is younger than an hour.
      const family = series === "connections" ? series : /^lastHour (\w+)$/.exec(series)?.[1];
      if (family !== undefined) {
        assert.equal(value, sumOf(family), series);
        continue;
      }
      if (series.startsWith("messages of ") || series.startsWith("bytes of ")) continue;
      if (series === "oldestWaiting") assert.ok(Math.abs(value - (known[series] ?? 0)) < 10);
      else assert.equal(value, known[series] ?? 0, series);
    }
    const expected: Record<string, number> = {
      connections: 3,
      "lastHour messagesReceived": 13,
      "connections WebSocket": 1,
      "connections KeepAlive": 1,
      "connections Polling": 1,
      "connections LongLived": 0,
      "connectionsOpened LongLived": 1,
      "messagesReceived stored": 13,
      "messagesDelivered stored": 7,
      waitingMessages: 6,
      waitingMailboxes: 2,
      "messages of grooveDevice://eve/away": 5,
      "messages of grooveIdentity://eve": 1,
      "requestsRefused NotFound": 3,
    };
    for (const [series, value] of Object.entries(expected)) assert.equal(figures.get(series), value, series);

    const plots = JSON.parse((await operator.get("history.json")).text);
    const area = (name: string, label: string) =>
      plots.plots[name].lines
        .find((line: { label: string }) => line.label === label)
        .values.reduce((sum: number, value: number) => sum + value, 0);
    assert.equal(area("refusals", "NotFound"), 3);
    assert.ok(area("messages", "received") > 0 && area("bytes", "delivered") > 0);

    const listed = await operator.get("connections");
    for (const [address, transport] of [
      ["alice/laptop", "WebSocket"],
      ["bob/phone", "KeepAlive"],
      ["dora/desk", "Polling"],
    ]) {
      assert.match(listed.text, new RegExp(`<bdi>${address}</bdi>.*?<td>${transport}</td>`));
    }
    assert.doesNotMatch(listed.text, /carl/);
    assert.doesNotMatch((await operator.get("connections?q=bob")).text, /alice/);
    assert.match((await operator.get("connections?q=polling")).text, /dora/);
    await Promise.all([alice.close(), bob.close(), dora.close()]);
  });
});

describe("lists", () => {
  it("have mailboxes by what waits, in pages, each once, and find them by a part of the name", async (t) => {
    const other = await startEdge(t, { adminToken: TOKEN, keys: jwks(issuer) });
    const operator = await signedIn(TOKEN, other);
    const alice = await deviceOf("alice/laptop", "websocket", other);
    const names = Array.from({ length: PAGE_ROWS + 7 }, (_, at) => `mass${at}/desk`);
    await Promise.all(names.map((name) => alice.send(name, "x")));
    await Promise.all([1, 2].map(() => alice.send("most/desk", "y")));
    await alice.send("b%C3%BCro/%C3%96l", "z");
    await alice.close();
    const wait = async () => (await counts(other)).waitingMailboxes === names.length + 2;
    await until("all are counted", wait);
    for (const sort of ["count", "octets", "age"]) {
      const shown: string[] = [];
      for (let path: string | undefined = `mailboxes?sort=${sort}`; path !== undefined; ) {
        const { text }: Page = await operator.get(path);
        shown.push(...[...text.matchAll(/data-series="messages of ([^"]*)"/g)].map(([, peer = ""]) => peer));
        const next: string | undefined = /rel="next" href="([^"]*)"/.exec(text)?.[1];
        path = next === undefined ? undefined : unescaped(next);
      }
      assert.equal(new Set(shown).size, shown.length, "each once");
      assert.equal(shown.length, names.length + 2, sort);
      if (sort !== "age") assert.equal(shown[0], "grooveDevice://most/desk");
    }
    const found = async (path: string) =>
      [...(await operator.get(path)).text.matchAll(/data-series="messages of ([^"]*)"/g)].map(([, peer]) => peer);
    assert.deepEqual(await found("mailboxes?q=MASS17"), ["grooveDevice://mass17/desk"]);
    assert.deepEqual(await found(`mailboxes?q=${encodeURIComponent("büro")}`), ["grooveDevice://b%C3%BCro/%C3%96l"]);
    assert.deepEqual(await found("mailboxes?all=1&q=mass1/"), ["grooveDevice://mass1/desk"]);
    assert.equal((await found("mailboxes?all=1&q=mass")).length, PAGE_ROWS);
    assert.deepEqual(await found("mailboxes?q=nobody"), []);
  });
});

describe("a mailbox", () => {
  async function leave(to: string, count: number): Promise<void> {
    const alice = await deviceOf("alice/pc", "websocket");
    await Promise.all(Array.from({ length: count }, (_, at) => alice.send(to, `message ${at}`)));
    await alice.close();
  }
  const figure = async (operator: Operator, peer: string) =>
    figuresOf((await operator.get(`mailbox?${new URLSearchParams({ peer })}`)).text).get("messages");

  it("is locked, unlocked, given a rule and purged by its page, and says so", async () => {
    const operator = await signedIn();
    await leave("fay/desk", 3);
    const path = "mailbox?peer=fay/desk";
    assert.equal(await figure(operator, "fay/desk"), 3);
    for (const [action, fields, done] of [
      ["lock", {}, "All senders are shut out now."],
      ["unlock", {}, "Senders are admitted again"],
      ["rule", { senders: "alice, bob/phone" }, "The rule is set."],
    ] as const) {
      const sent = await operator.send(path, action, fields);
      assert.equal(sent.status, 303, action);
      assert.match((await operator.get(sent.headers.get("Location") ?? "")).text, new RegExp(done));
    }
    assert.match((await operator.get(path)).text, />alice bob\/phone<\/textarea>/);
    const wrong = await operator.send(path, "rule", { senders: "a/b/c <b>" });
    assert.equal(wrong.status, 400);
    assert.match(wrong.text, /more than one \//);
    assert.match(wrong.text, />a\/b\/c &lt;b&gt;<\/textarea>/);

    const asked = await operator.get("purge?peer=fay/desk");
    assert.match(asked.text, /Remove the messages/);
    assert.equal(await figure(operator, "fay/desk"), 3, "nothing is removed before it is confirmed");
    assert.equal((await operator.send("purge?peer=fay/desk", "purge")).status, 303);
    assert.equal(await figure(operator, "fay/desk"), 0);
    assert.match((await operator.get(path)).text, /Purged 3/);
  });

  it("that does not exist is shown as that, and is not made by looking", async () => {
    const operator = await signedIn();
    assert.match((await operator.get("mailbox?peer=nobody/here")).text, /There is no such mailbox yet/);
    assert.match((await operator.get("mailbox?peer=nobody/here")).text, /There is no such mailbox yet/);
    assert.equal((await operator.get("mailbox?peer=%00")).status, 400);
  });

  it("is changed only by a form of this session, from this origin, for this change, and once", async () => {
    const [operator, other] = [await signedIn(), await signedIn()];
    await leave("gil/desk", 2);
    const { text } = await operator.get("purge?peer=gil/desk");
    const form = formOf(text, "purge");
    const lock = formOf((await operator.get("mailbox?peer=gil/desk")).text, "lock");
    const refused = async (page: Page, what: string) => {
      assert.deepEqual([page.status, codeOf(page)], [403, "FormRefused"], what);
      assert.equal(await figure(operator, "gil/desk"), 2, what);
    };
    for (const origin of [
      "https://evil.example",
      "null",
      `${edge.url}.evil.example`,
      edge.url.replace("http", "https"),
    ]) {
      await refused(await operator.post("purge", form, origin), origin);
    }
    const unnamed = await fetch(`${edge.url}/status/purge`, {
      method: "POST",
      body: new URLSearchParams(form),
      headers: { Cookie: operator.cookie },
    });
    assert.equal(unnamed.status, 403, "a form without an origin");
    await refused(await other.post("purge", form), "another session's form");
    await refused(await operator.post("purge", { ...form, form: lock.form ?? "" }), "the form of another change");
    await refused(await operator.post("purge", { ...form, peer: "hal/desk" }), "the form of another mailbox");
    await refused(await operator.post("purge", { ...form, form: "" }), "no token");
    assert.equal((await operator.post("purge", form)).status, 303);
    await leave("gil/desk", 2);
    await refused(await operator.post("purge", form), "a form that was sent before");
  });
});

describe("hostile names", () => {
  const hostile = (at: number): string =>
    [
      `<script>alert(${at})</script>`,
      `"><img src=x onerror=alert(${at})>`,
      `\u202e${at}gnp.exe`,
      `' onmouseover='x${at}`,
      `${at}&lt;b&gt;&amp;`,
      `${at}\u2028\u00a0\u200b`,
      `javascript:alert(${at})`,
      `${at}`.padEnd(128, "n"),
      `שלום${at}<b>עולם</b>`,
      `${at}%3Cb%3E \\ ${"{{x}}"}`,
    ][at % 10] ?? "";

  it("are text on every page", async (t) => {
    const other = await startEdge(t, { adminToken: TOKEN, keys: jwks(issuer) });
    const operator = await signedIn(TOKEN, other);
    const names = Array.from({ length: 100 }, (_, at) => hostile(at));
    const addresses = names.map((name) =>
      encodeURIComponent(name).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`),
    );
    assert.ok(addresses.every((address) => address.length <= 128));
    const token = await issuer.issue({ address: "*", scope: "connect receive send:*" });
    const sender = await connect(other, `${addresses[0]}/pc`, "websocket", { token });
    await Promise.all(addresses.map((address) => sender.send(address, "x")));
    await until("all are counted", async () => (await counts(other)).waitingMailboxes === 100);
    const pages = [await operator.get(), await operator.get("connections")];
    for (const all of ["", "all=1&"]) {
      for (let path: string | undefined = `mailboxes?${all}`; path !== undefined; ) {
        const page: Page = await operator.get(path);
        pages.push(page);
        const next: string | undefined = /rel="next" href="([^"]*)"/.exec(page.text)?.[1];
        path = next === undefined ? undefined : unescaped(next);
      }
    }
    // A name with a percent sign is taken for one that is written as in a URL.
    for (const name of names.slice(0, 10).filter((one) => !one.includes("%"))) {
      const found = await operator.get(`mailboxes?q=${encodeURIComponent(name)}`);
      assert.ok(figuresOf(found.text).size >= 2, name);
      pages.push(found);
      pages.push(
        await operator.get(`mailboxes?sort=${encodeURIComponent(name)}&after=${encodeURIComponent(name)}&value=1`),
      );
    }
    for (const address of addresses)
      pages.push(await operator.get(`mailbox?${new URLSearchParams({ peer: address })}`));
    pages.push(await operator.get("mailbox?peer=bob&done=%3Cb%3E"), await operator.get("mailbox?peer=%3Cb%3E%00"));
    const tags = new Set<string>();
    for (const { text, status } of pages) {
      assert.ok(status === 200 || status === 400);
      // What stands in an attribute is quoted, and its quotes are escaped.
      const bare = text.replace(/="[^"]*"/g, "");
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
      assert.doesNotMatch(bare, /[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069\u200b]/);
      assert.doesNotMatch(bare, /<script(?! src defer)|<[^>]* on\w+/);
      assert.doesNotMatch(text, /href="javascript:/);
      for (const [, tag = ""] of text.matchAll(/<(\w+)/g)) tags.add(tag);
    }
    for (const tag of ["b", "img"]) assert.ok(!tags.has(tag), tag);
    const shown = pages.map(({ text }) => unescaped(text)).join("\n");
    for (const name of [
      "<script>alert(0)</script>",
      '"><img src=x onerror=alert(1)>',
      "\\u{202e}2gnp.exe",
      "4&lt;b&gt;&amp;",
    ]) {
      assert.ok(shown.includes(name), name);
    }
    await sender.close();
  });
});
