/** Plain streams over HTTP, beyond what the protocol's own suite checks: rights, privacy, quotas, events, forks. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Miniflare } from "miniflare";
import { MISSES } from "../../../src/edge/admission/limits.ts";
import { PRODUCERS } from "../../../src/edge/plain-stream/limits.ts";
import type { PlainStream } from "../../support/driven-worker.ts";
import { objectOf } from "../../support/objects.ts";

import { startWorker } from "../../support/worker.ts";
import { AUDIENCE, type Claims, hs256, type Issuer, jwks } from "../issuer.ts";
import { until } from "../mailbox/support.ts";

let issuer: Issuer;
let edge: Miniflare;
let url: string;

before(async () => {
  issuer = await hs256();
  edge = await startWorker({ RELAY_NAME: AUDIENCE, KEYS: jwks(issuer), QUOTA: "sender=32MiB" });
  url = (await edge.ready).origin;
});
after(() => edge.dispose());

let count = 0;

/** A name that no other test uses. */
function fresh(under = "app/test"): string {
  count += 1;
  return `${under}/${count}`;
}

type Options = RequestInit & { readonly scope?: string | null; readonly sub?: string };

/** A request with a token of this scope; by default one that may do everything, null for none. */
async function call(method: string, path: string, options: Options = {}): Promise<Response> {
  const { scope = "create:* read:* write:*", sub, headers, ...init } = options;
  // Tests advance the clock by days, so the token is good for long.
  const claims: Claims = { scope, exp: Date.now(), ...(sub !== undefined && { sub }) };
  const token = scope === null ? {} : { Authorization: `Bearer ${await issuer.issue(claims)}` };
  return fetch(`${url}/mailboxes/${path}`, { method, ...init, headers: { ...token, ...headers } });
}

const text = { "Content-Type": "text/plain" };

async function created(name: string, options: Options = {}): Promise<string> {
  const answer = await call("PUT", name, { ...options, headers: { ...text, ...options.headers } });
  assert.equal(answer.status, 201, await answer.text());
  return answer.headers.get("stream-next-offset") ?? "";
}

async function appended(name: string, body: BodyInit, headers: Record<string, string> = text): Promise<string> {
  const answer = await call("POST", name, { body, headers });
  assert.ok(answer.ok, await answer.text());
  return answer.headers.get("stream-next-offset") ?? "";
}

async function reasonOf(answer: Response): Promise<string> {
  if (answer.ok) return "ok";
  return answer.headers.get("grooveway-reason") ?? String(answer.status);
}

const objectFor = (name: string) => objectOf<PlainStream>(edge, "PLAIN_STREAM", name);

/** What an object has in its storage. */
async function leftIn(stream: PlainStream): Promise<readonly unknown[]> {
  const { keys, tables, alarm } = await stream.left();
  return [keys.length, tables, alarm];
}

const NOTHING = [0, 0, false];

/** Reads events until the text has come, and ends the connection. */
async function events(path: string, expected: string, options: Options = {}): Promise<string> {
  const leave = new AbortController();
  const answer = await call("GET", path, { ...options, signal: leave.signal });
  assert.equal(answer.status, 200, await (answer.ok ? "" : answer.text()));
  let read = "";
  const decoder = new TextDecoder();
  for await (const piece of answer.body ?? []) {
    read += decoder.decode(piece, { stream: true });
    if (read.includes(expected) && read.endsWith("\n\n")) break;
  }
  leave.abort();
  assert.ok(read.includes(expected), read);
  return read;
}

/** Has more readers without a token wait behind one address than it may guess; each gets what is appended then. */
async function manyWait(name: string, query: string, address: string): Promise<void> {
  const anybody = { scope: null, headers: { "X-Forwarded-For": address } };
  const stream = await objectFor(name);
  const polls: Promise<Response>[] = [];
  while (polls.length < MISSES * 1.5) {
    for (let n = 0; n < MISSES / 2; n += 1) polls.push(call("GET", `${name}?${query}&live=long-poll`, anybody));
    await until("they wait", async () => (await stream.readers()) === polls.length);
  }
  await appended(name, "and more");
  for (const poll of await Promise.all(polls)) assert.equal(await poll.text(), "and more");
}

describe("rights to a stream", () => {
  it("are none without a token, or with one for devices", async () => {
    const name = fresh();
    await created(name);
    for (const method of ["PUT", "POST", "GET", "HEAD", "DELETE"]) {
      assert.equal((await call(method, name, { scope: null })).status, 401, method);
      const devices = await call(method, name, { scope: "connect receive send:* stream:* admin" });
      assert.equal(devices.headers.get("grooveway-reason"), "ScopeMissing", method);
    }
  });

  it("are one for each kind of request", async () => {
    const allowed: Record<string, readonly string[]> = {
      create: ["PUT", "DELETE"],
      read: ["GET", "HEAD"],
      write: ["POST"],
    };
    for (const [right, methods] of Object.entries(allowed)) {
      for (const method of ["PUT", "POST", "GET", "HEAD", "DELETE"]) {
        const name = fresh();
        await created(name);
        const body = method === "POST" ? { body: "x", headers: text } : {};
        const answer = await call(method, name, { scope: `${right}:app/**`, ...body });
        assert.equal(answer.status === 403, !methods.includes(method), `${right} ${method} ${answer.status}`);
      }
      const elsewhere = await call(methods[0] ?? "", fresh("other/test"), { scope: `${right}:app/**` });
      assert.equal(elsewhere.status, 403);
    }
  });

  it("to fork are those to create the fork and to read its source", async () => {
    const source = fresh("secret/test");
    await created(source, { body: "data" });
    const fork = (scope: string) =>
      call("PUT", fresh(), { scope, headers: { "Stream-Forked-From": `/mailboxes/${source}` } });
    assert.equal(await reasonOf(await fork("create:app/** read:app/**")), "ScopeMissing");
    assert.equal(await reasonOf(await fork("create:app/** read:secret/**")), "ok");
  });

  it("end with the token, also for a reader that waits", async () => {
    const name = fresh();
    await created(name);
    const expired = await issuer.issue({ scope: "read:*", exp: 1 });
    const answer = await call("GET", name, { scope: null, headers: { Authorization: `Bearer ${expired}` } });
    assert.equal(await reasonOf(answer), "TokenExpired");
  });

  it("are not shown by a query, where logs would have them", async () => {
    const name = fresh();
    await created(name);
    const token = await issuer.issue({ scope: "read:*" });
    for (const parameter of ["token", "access_token", "Token", "Authorization"]) {
      const answer = await call("GET", `${name}?${parameter}=${token}`, { scope: null });
      assert.equal(await reasonOf(answer), "TokenInQuery");
    }
  });
});

describe("a ticket", () => {
  async function ticketFor(mailbox: string, scope = "read:*"): Promise<Response> {
    const headers = { Authorization: `Bearer ${await issuer.issue({ scope, exp: Date.now() })}` };
    return fetch(`${url}/tickets`, { method: "POST", headers, body: JSON.stringify({ mailbox }) });
  }
  const ticketOf = async (answer: Response) => String(((await answer.json()) as { ticket: unknown }).ticket);

  it("reads one stream, and does nothing else", async () => {
    const [name, other] = [fresh(), fresh()];
    await created(name, { body: "data" });
    await created(other, { body: "data" });
    const ticket = await ticketOf(await ticketFor(name));
    const by = (method: string, path: string) => call(method, `${path}?ticket=${ticket}`, { scope: null });
    assert.equal(await (await by("GET", name)).text(), "data");
    assert.equal((await by("HEAD", name)).status, 200);
    assert.equal(await reasonOf(await by("GET", other)), "TicketInvalid");
    for (const method of ["PUT", "POST", "DELETE"]) assert.equal(await reasonOf(await by(method, name)), "TokenNeeded");
    assert.match(await events(`${name}?offset=-1&live=sse&ticket=${ticket}`, "control", { scope: null }), /data:data/);
  });

  it("is not refused to those who wait with it behind one address, however many wait", async () => {
    const name = fresh();
    const tail = await created(name);
    await manyWait(name, `offset=${tail}&ticket=${await ticketOf(await ticketFor(name))}`, "192.0.2.11");
  });

  it("is given to those who may read", async () => {
    const name = fresh();
    await created(name);
    assert.equal(await reasonOf(await ticketFor(name, "write:* create:*")), "ScopeMissing");
    assert.equal(await reasonOf(await ticketFor(fresh())), "StreamNotFound");
    assert.equal(await reasonOf(await ticketFor("a//b")), "MalformedTicketRequest");
    assert.equal((await fetch(`${url}/tickets`, { method: "POST", body: "{}" })).status, 401);
  });

  it("must be used within a minute, and is good for an hour", async () => {
    const name = fresh();
    await created(name, { body: "data" });
    const [used, unused] = [await ticketOf(await ticketFor(name)), await ticketOf(await ticketFor(name))];
    const read = async (ticket: string) => reasonOf(await call("GET", `${name}?ticket=${ticket}`, { scope: null }));
    assert.equal(await read(used), "ok");
    const stream = await objectFor(name);
    await stream.letPass(60_000);
    assert.equal(await read(unused), "TicketInvalid");
    assert.equal(await read(used), "ok");
    await stream.letPass(3540_000);
    assert.equal(await read(used), "TicketInvalid");
  });

  it("is nowhere in what is stored", async () => {
    const name = fresh();
    await created(name);
    const ticket = await ticketOf(await ticketFor(name));
    const stored = await (await objectFor(name)).rows("SELECT * FROM tickets");
    assert.equal(stored.length, 1);
    assert.ok(!JSON.stringify(stored).includes(ticket));
  });
});

describe("answers", () => {
  it("to requests with a token are kept by no cache", async () => {
    const name = fresh();
    const closing = { "Stream-Closed": "true" };
    for (const [method, options] of [
      ["PUT", { headers: text }],
      ["POST", { headers: text, body: "x" }],
      ["GET", {}],
      ["HEAD", {}],
      ["POST", { headers: closing }],
      ["DELETE", {}],
      ["GET", {}],
    ] as const) {
      const answer = await call(method, name, options);
      assert.match(answer.headers.get("cache-control") ?? "", /\bno-store\b/, `${method} ${answer.status}`);
    }
    const pub = fresh("public/test");
    await created(pub, { body: "x" });
    assert.equal((await call("GET", pub)).headers.get("cache-control"), "private, no-store");
  });

  it("of a public stream may be kept while they hold data, and need no token", async () => {
    const name = fresh("public/test");
    const tail = await created(name, { body: "for all" });
    const read = (query: string) => call("GET", `${name}?offset=${query}`, { scope: null });
    const data = await read("-1");
    assert.equal(await data.text(), "for all");
    assert.match(data.headers.get("cache-control") ?? "", /^public, max-age=60/);
    assert.equal(data.headers.get("vary"), "Authorization");
    for (const query of ["now", tail])
      assert.equal((await read(query)).headers.get("cache-control"), "no-store", query);
    assert.equal((await call("HEAD", name, { scope: null })).headers.get("cache-control"), "no-store");
    for (const method of ["PUT", "POST", "DELETE"])
      assert.equal((await call(method, name, { scope: null })).status, 401);
    const none = await call("GET", fresh("public/test"), { scope: null });
    assert.deepEqual([none.status, none.headers.get("cache-control")], [404, "no-store, no-transform"]);
  });

  it("to those who wait behind one address are not refused, however many wait", async () => {
    const name = fresh("public/test");
    const tail = await created(name, { body: "for all" });
    await manyWait(name, `offset=${tail}`, "192.0.2.9");
  });

  it("to a source that asks too often for what does not exist are 429, and say when to ask again", async () => {
    const anybody = { scope: null, headers: { "X-Forwarded-For": "192.0.2.10" } };
    const asked = Array.from({ length: MISSES + 50 }, () => call("GET", fresh("public/none"), anybody));
    const refused = (await Promise.all(asked)).filter(({ status }) => status !== 404);
    assert.ok(refused.length > 0);
    for (const answer of refused) {
      assert.deepEqual([answer.status, await reasonOf(answer)], [429, "TooManyLookups"]);
      assert.match(answer.headers.get("retry-after") ?? "", /^[1-9]\d*$/);
    }
  });

  it("run nothing that others have written", async () => {
    const name = fresh();
    await created(name, { headers: { "Content-Type": "text/html" }, body: "<script>alert(1)</script>" });
    for (const answer of [
      await call("GET", name),
      await call("GET", name, { scope: null }),
      await call("GET", fresh()),
      await call("GET", `${name}?offset=x`),
      await fetch(`${url}/tickets`, { method: "POST" }),
    ]) {
      assert.equal(answer.headers.get("content-security-policy"), "sandbox; default-src 'none'");
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
      assert.equal(answer.headers.get("cross-origin-resource-policy"), "cross-origin");
    }
  });

  it("are read by pages of other origins, with what the protocol says in headers", async () => {
    const name = fresh();
    await created(name);
    const asked = await fetch(`${url}/mailboxes/${name}`, {
      method: "OPTIONS",
      headers: { Origin: "https://page.example.com", "Access-Control-Request-Method": "PUT" },
    });
    assert.equal(asked.status, 204);
    assert.match(asked.headers.get("access-control-allow-methods") ?? "", /\bPUT\b.*\bDELETE\b/);
    assert.match(asked.headers.get("access-control-allow-headers") ?? "", /Producer-Id.*Producer-Epoch/);
    const answer = await call("GET", name, { headers: { Origin: "https://page.example.com" } });
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    assert.match(answer.headers.get("access-control-expose-headers") ?? "", /ETag.*Stream-Next-Offset.*Stream-Cursor/);
  });
});

describe("an offset", () => {
  it("of a deleted stream is gone in its successor", async () => {
    const name = fresh();
    const before = await created(name, { body: "first" });
    await call("DELETE", name);
    await created(name, { body: "second" });
    for (const live of ["", "&live=long-poll", "&live=sse"]) {
      assert.equal(await reasonOf(await call("GET", `${name}?offset=${before}${live}`)), "OffsetGone", live);
    }
  });

  it("that a browser has kept, and that is gone, resets its events by name", async () => {
    const name = fresh();
    const before = await created(name, { body: "first" });
    await call("DELETE", name);
    await created(name, { body: "second" });
    const read = await events(`${name}?offset=now&live=sse`, "second", { headers: { "Last-Event-ID": before } });
    assert.match(
      read,
      /^event: reset\nid: \d{16}_0{16}\ndata:{"code":"OffsetGone","streamNextOffset":"\d{16}_0{16}"}\n\n/,
    );
  });
});

describe("events", () => {
  it("go on where the browser was, by Last-Event-ID", async () => {
    const name = fresh();
    const first = await created(name, { body: "one" });
    await appended(name, "two");
    const read = await events(`${name}?offset=-1&live=sse`, "two", { headers: { "Last-Event-ID": first } });
    assert.ok(!read.includes("data:one"));
    const [, id] = /^event: data\nid: (\S+)\ndata:two\n/m.exec(read) ?? [];
    assert.equal(id, (await call("HEAD", name)).headers.get("stream-next-offset"));
  });

  it("never cut a character in two, however it was appended", async () => {
    const name = fresh();
    const octets = new TextEncoder().encode("a\u{1f600}b\u00e9c");
    await created(name);
    const reading = events(`${name}?offset=-1&live=sse`, "c\n");
    for (const octet of octets) await appended(name, Uint8Array.of(octet));
    const read = await reading;
    const data = [...read.matchAll(/^data:(?!{)(.*)$/gm)].map(([, line]) => line).join("");
    assert.equal(data, "a\u{1f600}b\u00e9c");
    const control = [...read.matchAll(/"streamNextOffset":"\d{16}_(\d{16})"/g)].map(([, position]) => Number(position));
    assert.equal(control[control.length - 1], octets.length);
  });

  it("reach every reader, as long-polls do", async () => {
    const name = fresh();
    const offset = await created(name, { headers: { "Content-Type": "application/json" } });
    const readers = Array.from({ length: 20 }, (_, at) =>
      at % 2 === 0
        ? events(`${name}?offset=${offset}&live=sse`, "hello")
        : call("GET", `${name}?offset=${offset}&live=long-poll`).then((answer) => answer.text()),
    );
    const stream = await objectFor(name);
    await until("all wait", async () => (await stream.readers()) === 20);
    await appended(name, '{"hello":1}', { "Content-Type": "application/json" });
    for (const read of await Promise.all(readers)) assert.match(read, /\[\{"hello":1\}\]/);
  });

  it("of a stream that is deleted end, and its long-polls are refused", async () => {
    const name = fresh();
    const offset = await created(name);
    const stream = await objectFor(name);
    const [polled, read] = [
      call("GET", `${name}?offset=${offset}&live=long-poll`),
      call("GET", `${name}?offset=${offset}&live=sse`).then((answer) => answer.text()),
    ];
    await until("both wait", async () => (await stream.readers()) === 2);
    await call("DELETE", name);
    assert.equal(await reasonOf(await polled), "StreamNotFound");
    assert.match(await read, /"upToDate":true/);
  });
});

describe("a producer", () => {
  it("is its writer's own: another writer may use the same id", async () => {
    const name = fresh();
    await created(name);
    const producer = { ...text, "Producer-Id": "p", "Producer-Epoch": "5", "Producer-Seq": "0" };
    for (const [sub, status] of [
      ["alice", 200],
      ["bob", 200],
      ["alice", 204],
    ] as const) {
      const answer = await call("POST", name, { sub, headers: producer, body: sub });
      assert.equal(answer.status, status, sub);
    }
    assert.equal(await (await call("GET", name)).text(), "alicebob");
  });
});

describe("a writer that invents producers", () => {
  it("is refused by name, and leaves room to other writers", async () => {
    const name = fresh();
    await created(name);
    const append = (sub: string, id: string) => {
      const headers = { ...text, "Producer-Id": id, "Producer-Epoch": "0", "Producer-Seq": "0" };
      return call("POST", name, { sub, headers, body: "x" });
    };
    let refused = "ok";
    for (let n = 0; n < PRODUCERS && refused === "ok"; n += 50) {
      const some = await Promise.all(Array.from({ length: 50 }, (_, at) => append("mallory", `${n + at}`)));
      refused = (await Promise.all(some.map(reasonOf))).find((reason) => reason !== "ok") ?? "ok";
    }
    assert.equal(refused, "TooManyProducers");
    assert.equal(await reasonOf(await append("mallory", "0")), "ok", "what it repeats is known");
    assert.equal(await reasonOf(await append("bob", "p")), "ok");
  });
});

describe("the rate of a token", () => {
  it("holds for what it appends to streams", async (t) => {
    const slow = await startWorker({ RELAY_NAME: AUDIENCE, KEYS: jwks(issuer), RATE: "messages=1" });
    t.after(() => slow.dispose());
    const token = await issuer.issue({ scope: "create:* write:*", exp: Date.now() });
    const at = `${(await slow.ready).origin}/mailboxes/${fresh()}`;
    const headers = { ...text, Authorization: `Bearer ${token}` };
    const begin = performance.now();
    assert.equal((await fetch(at, { method: "PUT", headers })).status, 201);
    for (let n = 0; n < 4; n += 1) assert.equal((await fetch(at, { method: "POST", headers, body: "x" })).status, 204);
    assert.ok(performance.now() - begin > 1500, "five requests at one a second, of which the first few are free");
  });
});

describe("the quota of a creator", () => {
  it("counts what its streams hold, whoever has written it, until they are deleted", async () => {
    const [one, other] = [fresh(), fresh()];
    const sub = fresh("owner");
    await created(one, { sub });
    await created(other, { sub });
    const large = new Uint8Array(12 * 1024 * 1024);
    await appended(one, large);
    await appended(one, large);
    const refused = await call("POST", other, { headers: text, body: large, sub: "somebody else" });
    assert.deepEqual([refused.status, await reasonOf(refused)], [507, "StreamQuota"]);
    assert.equal((await call("PUT", fresh(), { sub, headers: text, body: large })).status, 507);
    await call("DELETE", one);
    await appended(other, large);
  });
});

describe("a stream that has ended", () => {
  it("by expiry leaves nothing", async () => {
    const name = fresh();
    await created(name, { body: "x", headers: { "Stream-TTL": "3600" } });
    const stream = await objectFor(name);
    await stream.letPass(3500_000);
    assert.equal((await call("GET", name)).status, 200);
    await stream.letPass(3500_000);
    assert.equal((await call("HEAD", name)).status, 200, "it was read meanwhile");
    await stream.letPass(1000_000);
    assert.deepEqual(await leftIn(stream), NOTHING);
    assert.equal(await reasonOf(await call("GET", name)), "StreamNotFound");
  });

  it("was never there if nobody created it", async () => {
    const name = fresh();
    for (const method of ["GET", "HEAD", "DELETE"]) assert.equal((await call(method, name)).status, 404);
    assert.equal((await call("POST", name, { headers: text, body: "x" })).status, 404);
    assert.deepEqual(await leftIn(await objectFor(name)), NOTHING);
  });

  it("goes with its last fork", async () => {
    const [source, fork, second] = [fresh(), fresh(), fresh()];
    await created(source, { body: "abc" });
    await created(fork, { headers: { "Stream-Forked-From": source } });
    await created(second, { headers: { "Stream-Forked-From": `/${fork}` } });
    for (const name of [source, fork]) assert.equal((await call("DELETE", name)).status, 204);
    assert.equal(await (await call("GET", second)).text(), "abc");
    assert.equal(await reasonOf(await call("GET", source)), "StreamDeleted");
    await call("DELETE", second);
    for (const name of [source, fork, second]) {
      const stream = await objectFor(name);
      await until(`${name} is gone`, async () => (await stream.left()).tables === 0);
      assert.equal((await call("GET", name)).status, 404);
    }
  });

  it("is forgotten by a source whose fork was lost before it was told", async () => {
    const [source, fork] = [fresh(), fresh()];
    await created(source, { body: "abc" });
    const origin = await objectFor(source);
    const loan = await origin.lend({ fork, contentType: undefined, offset: undefined, beyond: 0 });
    assert.ok(loan.ok);
    await call("DELETE", source);
    assert.equal((await call("GET", source)).status, 410);
    await origin.letPass(24 * 3600_000);
    assert.deepEqual(await leftIn(origin), NOTHING);
  });
});

describe("a fork", () => {
  it("reads what is its own and what it has inherited as one, from any offset", async () => {
    const json = { "Content-Type": "application/json" };
    const [source, fork, second] = [fresh(), fresh(), fresh()];
    const offsets = [await created(source, { headers: json })];
    for (let n = 0; n < 4; n += 1) offsets.push(await appended(source, JSON.stringify([n, n + 0.5]), json));
    const forked = {
      "Stream-Forked-From": source,
      "Stream-Fork-Offset": offsets[2] ?? "",
      "Stream-Fork-Sub-Offset": "1",
    };
    await created(fork, { headers: { ...json, ...forked }, body: '["fork"]' });
    offsets.push(await appended(fork, '["more"]', json));
    await created(second, { headers: { ...json, "Stream-Forked-From": fork } });
    await appended(second, '["last"]', json);
    const whole = [0, 0.5, 1, 1.5, 2, "fork", "more", "last"];
    for (const [at, offset] of [offsets[0], offsets[1], offsets[2], offsets[5]].entries()) {
      const read = (await (await call("GET", `${second}?offset=${offset}`)).json()) as unknown[];
      assert.deepEqual(read, whole.slice([0, 2, 4, 7][at]));
    }
    assert.equal(await reasonOf(await call("GET", `${second}?offset=${offsets[4]}`)), "OffsetGone");
  });

  it("of itself, of a peer, or of nothing is refused", async () => {
    const name = fresh();
    const from = async (source: string) =>
      reasonOf(await call("PUT", name, { headers: { "Stream-Forked-From": source } }));
    assert.equal(await from(name), "StreamNotFound");
    assert.equal(await from(fresh()), "StreamNotFound");
    assert.equal(await from("alice/laptop"), "ForkOfMailbox");
    assert.equal(await from("a//b"), "MalformedStreamName");
  });
});
