/** Mailboxes of peers over HTTP: the same log that devices drain by SSTP. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";
import { MISSES } from "../../../src/edge/admission/limits.ts";
import { APPEND_MESSAGES } from "../../../src/edge/http/limits.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { AUDIENCE, hs256, type Issuer, jwks } from "../issuer.ts";
import { afterAll, connect, fresh, mailboxOf, receive, startEdge, until } from "../mailbox/support.ts";

let issuer: Issuer;
let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  issuer = await hs256();
  edge = await startEdge(all, { dev: "private", keys: jwks(issuer), relayName: AUDIENCE, adminToken: OPERATOR });
});

type Options = RequestInit & { readonly as?: string; readonly scope?: string };

const EVERYTHING = "connect receive send:*";
const OPERATOR = "the token of the operator";

async function call(method: string, path: string, options: Options = {}): Promise<Response> {
  const { as, scope = EVERYTHING, headers, ...init } = options;
  const token = as === undefined ? {} : { Authorization: `Bearer ${await issuer.issue({ address: as, scope })}` };
  return fetch(`${edge.url}/${path}`, { method, ...init, headers: { ...token, ...headers } });
}

async function deviceAt(address: string) {
  return connect(edge, address, "websocket", { token: await issuer.issue({ address, scope: EVERYTHING }) });
}

interface Envelope {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly resource: string;
  readonly time: string;
  readonly contentType?: string;
  readonly encoding: string;
  readonly body: unknown;
}

async function read(address: string, query = "offset=-1"): Promise<Envelope[]> {
  const answer = await call("GET", `mailboxes/${address}?${query}`, { as: address });
  assert.equal(answer.status, 200, await (answer.ok ? "" : answer.text()));
  return (await answer.json()) as Envelope[];
}

async function reasonOf(answer: Response): Promise<string> {
  return answer.ok ? "ok" : (answer.headers.get("grooveway-reason") ?? String(answer.status));
}

function deviceUrl(address: string): string {
  return `grooveDevice://${address}`;
}

const json = { "Content-Type": "application/json" };

describe("POST /send", () => {
  it("stores one message of any content type, and answers with its place", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    for (const [contentType, body, encoding, expected] of [
      ["application/json", '{"n":12345678901234567890}', "json", JSON.parse('{"n":12345678901234567890}')],
      ["text/plain", "caf\u00e9 \ud83d\ude00", "text", "caf\u00e9 \ud83d\ude00"],
      ["application/json", "{broken", "text", "{broken"],
      ["image/png", Uint8Array.of(0x89, 0x50, 0xff), "base64", "iVD/"],
    ] as const) {
      const sent = await call("POST", `send/${bob}`, { as: alice, headers: { "Content-Type": contentType }, body });
      assert.equal(sent.status, 200, await (sent.ok ? "" : sent.text()));
      const { id, offset } = (await sent.json()) as { id: string; offset: string };
      assert.equal(sent.headers.get("stream-next-offset"), offset);
      const envelopes = await read(bob);
      const last = envelopes[envelopes.length - 1];
      assert.deepEqual(last?.body, expected);
      assert.deepEqual(
        [last?.id, last?.from, last?.to, last?.resource, last?.contentType, last?.encoding],
        [id, alice, bob, "message", contentType, encoding],
      );
      assert.ok(Math.abs(Date.parse(last?.time ?? "") - Date.now()) < 60_000);
      assert.deepEqual(await read(bob, `offset=${offset}`), []);
    }
  });

  it("stores a message once, however often it is sent with the same Idempotency-Key", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    for (const key of ["order-1", "order-1", "order-2", "order-1"]) {
      const sent = await call("POST", `send/${bob}`, { as: alice, headers: { "Idempotency-Key": key }, body: key });
      assert.equal(await reasonOf(sent), "ok");
    }
    assert.deepEqual(
      (await read(bob)).map(({ body, id }) => [body, id]),
      [
        ["order-1", `order-1@${alice}`],
        ["order-2", `order-2@${alice}`],
      ],
    );
  });

  it("may be sent by a page of another origin with an Idempotency-Key", async () => {
    const headers = { Origin: "https://www.example.com", "Access-Control-Request-Method": "POST" };
    const answer = await fetch(`${edge.url}/send/bob`, { method: "OPTIONS", headers });
    const allowed = (answer.headers.get("access-control-allow-headers") ?? "").split(", ");
    assert.deepEqual([answer.status, allowed.includes("Idempotency-Key")], [204, true]);
  });

  it("is for those who may send, in their own name", async () => {
    const bob = `${fresh("bob")}/pc`;
    const send = async (options: Options, query = "") =>
      reasonOf(await call("POST", `send/${bob}${query}`, { body: "x", ...options }));
    assert.equal(await send({}), "TokenNeeded");
    assert.equal(await send({ as: "alice/pc", scope: "connect receive" }), "ScopeMissing");
    assert.equal(await send({ as: "alice/pc" }, "?from=carol/pc"), "ScopeMissing");
    assert.equal(await send({ as: "alice/*" }), "MalformedSender");
    assert.equal(await send({ as: "alice/*" }, "?from=alice/phone"), "ok");
    assert.equal((await read(bob))[0]?.from, "alice/phone");
    const rule = { as: bob, headers: json, body: '{"senders":"carol"}' };
    assert.equal((await call("PUT", `mailboxes/${encodeURIComponent(bob)}/rule`, rule)).status, 200);
    assert.equal(await send({ as: "alice/pc" }), "LockedOut");
  });

  it("takes no Content-Type that is none, or too long for an envelope", async () => {
    const bob = `${fresh("bob")}/pc`;
    const send = async (contentType: string) => {
      const headers = { "Content-Type": contentType };
      return reasonOf(await call("POST", `send/${bob}`, { as: "alice/pc", headers, body: "x" }));
    };
    for (const wrong of ["text", "text/plain; a", `text/${"x".repeat(300)}`]) {
      assert.equal(await send(wrong), "MalformedContentType", wrong);
    }
    assert.equal(await send(`text/plain; note=${"x".repeat(200)}`), "ok");
    assert.equal(await send(""), "ok");
    assert.deepEqual(
      (await read(bob)).map(({ contentType }) => contentType?.length),
      [217, undefined],
    );
  });
});

describe("a mailbox as a stream", () => {
  it("is read by its owner only, and nothing is removed", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    await call("POST", `send/${bob}`, { as: alice, body: "x" });
    for (const method of ["GET", "HEAD", "PUT", "DELETE"]) {
      assert.equal(await reasonOf(await call(method, `mailboxes/${bob}`, { as: alice })), "ScopeMissing", method);
      assert.equal((await call(method, `mailboxes/${bob}`)).status, 401, method);
    }
    for (let n = 0; n < 2; n += 1) assert.equal((await read(bob)).length, 1);
    const answer = await call("GET", `mailboxes/${bob}`, { as: bob });
    assert.equal(answer.headers.get("cache-control"), "private, no-store");
    assert.equal(answer.headers.get("content-security-policy"), "sandbox; default-src 'none'");
    assert.equal((await call("DELETE", `mailboxes/${bob}`, { as: bob })).status, 204);
    assert.deepEqual(await read(bob), []);
  });

  it("takes values of JSON, and writes the envelopes itself", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    const post = async (body: string, headers: Record<string, string> = json) =>
      call("POST", `mailboxes/${bob}`, { as: alice, headers, body });
    assert.equal((await post('[{"a":1}, [2]]')).status, 204);
    assert.deepEqual(
      (await read(bob)).map(({ body }) => body),
      [{ a: 1 }, [2]],
    );
    assert.equal(await reasonOf(await post('{"id":"1","from":"carol/pc","time":"now","body":1}')), "EnvelopeRefused");
    assert.equal(await reasonOf(await post("x", { "Content-Type": "text/plain" })), "ContentTypeDiffers");
    assert.equal(await reasonOf(await post("{")), "MalformedJson");
    assert.equal(await reasonOf(await post("[]")), "EmptyAppend");
  });

  it("takes no more messages at once than a sender may send in two seconds", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    const post = (count: number) =>
      call("POST", `mailboxes/${bob}`, { as: alice, headers: json, body: JSON.stringify(Array(count).fill(0)) });
    assert.equal(await reasonOf(await post(APPEND_MESSAGES + 1)), "AppendTooLong");
    assert.equal((await read(bob)).length, 0);
    assert.equal(await reasonOf(await post(APPEND_MESSAGES)), "ok");
  });

  it("gets what is sent by SSTP at once, and the other way round", async () => {
    const [name, poller] = [fresh("alice"), `${fresh("bob")}/curl`];
    const alice = await deviceAt(`${name}/pc`);
    const tail = (await call("HEAD", `mailboxes/${poller}`, { as: poller })).headers.get("stream-next-offset");
    const polled = read(poller, `offset=${tail}&live=long-poll`);
    await alice.send(poller, "by SSTP");
    const [envelope] = await polled;
    assert.deepEqual([envelope?.from, envelope?.encoding, envelope?.body], [`${name}/pc`, "text", "by SSTP"]);
    await call("POST", `send/${name}/pc`, { as: poller, body: "by HTTP" });
    const [message] = await receive(alice, 1);
    assert.equal(Buffer.from(message?.body ?? []).toString(), "by HTTP");
    assert.equal(message?.from, poller);
  });

  it("that a device has drained is empty, and tells a reader that what it missed is gone", async () => {
    const [alice, name] = [`${fresh("alice")}/pc`, fresh("bob")];
    const bob = `${name}/pc`;
    const sent = await call("POST", `send/${bob}`, { as: alice, body: "first" });
    const { offset } = (await sent.json()) as { offset: string };
    await call("POST", `send/${bob}`, { as: alice, body: "second" });
    const device = await deviceAt(bob);
    await receive(device, 2);
    await device.close();
    assert.deepEqual(await read(bob), []);
    const late = await call("GET", `mailboxes/${bob}?offset=${offset}`, { as: bob });
    assert.deepEqual([late.status, await reasonOf(late)], [410, "OffsetGone"]);
  });

  it("keeps what a device has acknowledged, once somebody reads it", async () => {
    const [alice, name] = [`${fresh("alice")}/pc`, fresh("bob")];
    const bob = `${name}/pc`;
    const send = async (body: string) => {
      assert.equal(await reasonOf(await call("POST", `send/${bob}`, { as: alice, body })), "ok");
    };
    await send("first");
    const answer = await call("GET", `mailboxes/${bob}?offset=-1`, { as: bob });
    const offset = answer.headers.get("stream-next-offset");
    await send("second");
    await send("third");
    const device = await deviceAt(bob);
    await receive(device, 3);
    await device.close();
    const bodies = async (query: string) => (await read(bob, query)).map(({ body }) => body);
    await until(
      "nothing waits",
      async () => (await mailboxOf(edge, deviceUrl(bob)).then((box) => box.status())).messages === 0,
    );
    assert.deepEqual(await bodies(`offset=${offset}`), ["second", "third"]);
    assert.deepEqual(await bodies("offset=-1"), ["first", "second", "third"]);
    const { kept = 0, octets } = await (await mailboxOf(edge, deviceUrl(bob))).status();
    assert.ok(kept > 0 && octets === 0);
    assert.equal((await call("DELETE", `mailboxes/${bob}`, { as: bob })).status, 204);
    assert.deepEqual(await bodies("offset=-1"), []);
    assert.equal(await reasonOf(await call("GET", `mailboxes/${bob}?offset=${offset}`, { as: bob })), "OffsetGone");
  });

  it("is not created by being read", async () => {
    const bob = `${fresh("bob")}/pc`;
    assert.deepEqual(await read(bob), []);
    assert.equal((await call("HEAD", `mailboxes/${bob}`, { as: bob })).status, 200);
    assert.equal((await call("DELETE", `mailboxes/${bob}`, { as: bob })).status, 204);
    const headers = { Authorization: `Bearer ${OPERATOR}` };
    const all = (await (await fetch(`${edge.url}/admin/mailboxes`, { headers })).json()) as { peer: string }[];
    assert.equal(
      all.find(({ peer }) => peer === deviceUrl(bob)),
      undefined,
    );
  });

  it("is read with a ticket by pages of its owner, which does nothing else", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    const ask = (as: string, mailbox: string) =>
      call("POST", "tickets", { as, headers: json, body: JSON.stringify({ mailbox }) });
    assert.equal(await reasonOf(await ask(alice, bob)), "ScopeMissing");
    assert.equal(await reasonOf(await ask(alice, "@")), "MalformedAddress");
    const issued = await ask(bob, bob);
    assert.equal(issued.status, 201);
    const { ticket } = (await issued.json()) as { ticket: string };
    await call("POST", `send/${bob}`, { as: alice, body: "hello" });
    const by = (method: string, path = bob) => call(method, `mailboxes/${path}?offset=-1&ticket=${ticket}`);
    assert.deepEqual(
      ((await (await by("GET")).json()) as Envelope[]).map(({ body }) => body),
      ["hello"],
    );
    assert.equal((await by("HEAD")).status, 200);
    for (const method of ["PUT", "POST", "DELETE"]) assert.equal(await reasonOf(await by(method)), "TokenNeeded");
    await ask(alice, alice);
    assert.equal(await reasonOf(await by("GET", alice)), "TicketInvalid");
    assert.equal(await reasonOf(await by("GET", `${fresh("nobody")}/pc`)), "TicketInvalid");
  });

  it("at another relay is not taken for the one here, on any way in", async () => {
    const name = fresh("bob");
    const [bob, elsewhere] = [`${name}/pc`, encodeURIComponent(`${name}/pc@elsewhere.example`)];
    await call("POST", `send/${bob}`, { as: "alice/pc", body: "hello" });
    for (const [method, path, body] of [
      ["POST", "tickets", JSON.stringify({ mailbox: `${name}/pc@elsewhere.example` })],
      ["GET", `mailboxes/${elsewhere}?offset=-1`],
      ["GET", `mailboxes/${elsewhere}?offset=-1&ticket=x`],
      ["HEAD", `mailboxes/${elsewhere}`],
      ["PUT", `mailboxes/${elsewhere}`],
      ["DELETE", `mailboxes/${elsewhere}`],
      ["GET", `mailboxes/${elsewhere}/rule`],
      ["PUT", `mailboxes/${elsewhere}/rule`, '{"senders":"nobody"}'],
      ["GET", `inboxes/${elsewhere}`],
    ] as const) {
      const as = path.includes("ticket=") ? {} : { as: bob };
      const answer = await call(method, path, { ...as, ...(body !== undefined && { headers: json, body }) });
      assert.equal(await reasonOf(answer), "MalformedAddress", `${method} ${path}`);
      if (method !== "HEAD") assert.match(await answer.text(), /at another relay/);
    }
    const operator = { headers: { Authorization: `Bearer ${OPERATOR}` } };
    for (const method of ["GET", "DELETE"]) {
      assert.equal(await reasonOf(await call(method, `admin/mailboxes/${elsewhere}`, operator)), "MalformedAddress");
    }
    for (const here of [bob, encodeURIComponent(`${bob}@${AUDIENCE}`)]) {
      const answer = await call("GET", `mailboxes/${here}?offset=-1`, { as: bob });
      assert.equal(((await answer.json()) as Envelope[]).length, 1, here);
    }
  });

  it("is read with a ticket by any number of pages that wait behind one address", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    await call("POST", `send/${bob}`, { as: alice, body: "hello" });
    const issued = await call("POST", "tickets", { as: bob, headers: json, body: JSON.stringify({ mailbox: bob }) });
    const { ticket } = (await issued.json()) as { ticket: string };
    const get = (query: string) =>
      call("GET", `mailboxes/${bob}?ticket=${ticket}&${query}`, { headers: { "X-Forwarded-For": "192.0.2.9" } });
    const polls: Promise<Response>[] = [];
    while (polls.length < MISSES * 1.5) {
      for (let n = 0; n < MISSES / 4; n += 1) polls.push(get("offset=now&live=long-poll"));
      assert.equal((await get("offset=-1")).status, 200);
    }
    await call("POST", `send/${bob}`, { as: alice, body: "and more" });
    for (const poll of await Promise.all(polls)) assert.equal(await reasonOf(poll), "ok");
  });

  it("has a schema for its envelopes", async () => {
    const schema = (await (await fetch(`${edge.url}/envelope.schema.json`)).json()) as { required: string[] };
    assert.deepEqual(schema.required, ["id", "from", "to", "resource", "time", "encoding", "body"]);
  });
});

describe("a mailbox of an edge that keeps nothing", () => {
  it("gives a poller at its end the next message, though a device has taken all before, and takes that too", async (t) => {
    const other = await startEdge(t, { keepTime: "0" });
    const [name, bob] = [fresh("bob"), `${fresh("bob")}/pc`];
    const send = (body: string) => fetch(`${other.url}/send/${bob}?from=${name}/pc`, { method: "POST", body });
    await send("first");
    const head = await fetch(`${other.url}/mailboxes/${bob}`, { method: "HEAD" });
    const tail = head.headers.get("stream-next-offset");
    const polled = fetch(`${other.url}/mailboxes/${bob}?offset=${tail}&live=long-poll`);
    const device = await connect(other, bob, "websocket");
    await receive(device, 1);
    const box = await mailboxOf(other, deviceUrl(bob));
    await until("the first has left", async () => (await box.status()).messages === 0);
    await send("second");
    const answer = await polled;
    assert.equal(answer.status, 200);
    assert.deepEqual(
      ((await answer.json()) as Envelope[]).map(({ body }) => body),
      ["second"],
    );
    await receive(device, 1);
    await device.close();
    const late = await fetch(`${other.url}/mailboxes/${bob}?offset=${tail}`);
    assert.equal(await reasonOf(late), "OffsetGone");
  });
});

describe("what the owner of a mailbox may set", () => {
  const put = (bob: string, headers: Record<string, string> = {}, options: Options = {}) =>
    call("PUT", `mailboxes/${bob}`, { as: bob, ...options, headers });

  it("is when it ends, and is shown", async () => {
    const bob = `${fresh("bob")}/pc`;
    const created = await put(bob, { "Stream-TTL": "3600" });
    assert.equal(created.status, 201);
    assert.equal(created.headers.get("location"), `${edge.url}/mailboxes/${bob}`);
    assert.equal((await put(bob, { "Stream-TTL": "3600" })).status, 200);
    assert.equal(await reasonOf(await put(bob, { "Stream-TTL": "60" })), "StreamDiffers");
    assert.equal(await reasonOf(await put(bob)), "StreamDiffers");
    const head = await call("HEAD", `mailboxes/${bob}`, { as: bob });
    assert.deepEqual([head.headers.get("stream-ttl"), head.headers.get("content-type")], ["3600", "application/json"]);
    assert.equal((await call("DELETE", `mailboxes/${bob}`, { as: bob })).status, 204);
    const at = new Date(Date.now() + 1500).toISOString();
    assert.equal((await put(bob, { "Stream-Expires-At": at })).status, 201);
    await call("POST", `send/${bob}`, { as: "alice/pc", body: "x" });
    assert.equal((await read(bob)).length, 1);
    await until("it has ended", async () => (await read(bob)).length === 0);
    assert.equal((await (await mailboxOf(edge, deviceUrl(bob))).status()).dropped.Expired, 1);
  });

  it("is that it is closed: nobody sends there, by HTTP or SSTP, and readers learn of it", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    const device = await deviceAt(alice);
    await device.send(bob, "before");
    const tail = (await call("HEAD", `mailboxes/${bob}`, { as: bob })).headers.get("stream-next-offset");
    const polled = call("GET", `mailboxes/${bob}?offset=${tail}&live=long-poll`, { as: bob });
    const close = { headers: { "Stream-Closed": "true" } };
    const closed = await call("POST", `mailboxes/${bob}`, { as: bob, ...close });
    assert.deepEqual([closed.status, closed.headers.get("stream-closed")], [204, "true"]);
    const waited = await polled;
    assert.deepEqual([waited.status, waited.headers.get("stream-closed")], [204, "true"]);
    assert.equal((await call("POST", `mailboxes/${bob}`, { as: bob, ...close })).status, 204);
    for (const [path, headers] of [
      [`send/${bob}`, {}],
      [`mailboxes/${bob}`, json],
    ] as const) {
      const refused = await call("POST", path, { as: alice, headers, body: "1" });
      assert.deepEqual([await reasonOf(refused), refused.headers.get("stream-closed")], ["StreamClosed", "true"]);
    }
    await assert.rejects(device.send(bob, "after"));
    const rest = await call("GET", `mailboxes/${bob}?offset=-1`, { as: bob });
    assert.equal(rest.headers.get("stream-closed"), "true");
    assert.deepEqual(
      ((await rest.json()) as Envelope[]).map(({ body }) => body),
      ["before"],
    );
    assert.equal((await call("DELETE", `mailboxes/${bob}`, { as: bob })).status, 204);
    assert.equal(await reasonOf(await call("POST", `send/${bob}`, { as: alice, body: "again" })), "ok");
    await device.close();
  });

  it("is for it or an operator, and the operator neither reads nor sends", async () => {
    const [alice, bob] = [`${fresh("alice")}/pc`, `${fresh("bob")}/pc`];
    const closing = { "Stream-Closed": "true" };
    const ttl = { "Stream-TTL": "60" };
    const forked = { "Stream-Forked-From": `/mailboxes/${bob}` };
    const changes: (readonly [method: string, headers: Record<string, string>, byOwner: string | number])[] = [
      ["PUT", {}, 201],
      ["PUT", ttl, 201],
      ["POST", closing, 204],
      ["DELETE", {}, 204],
      ["PUT", closing, 201],
      ["PUT", forked, "ForkOfMailbox"],
      ["DELETE", {}, 204],
    ];
    const outcome = async (answer: Response) => (answer.ok ? answer.status : reasonOf(answer));
    const withOperatorToken = (method: string, headers: Record<string, string>, body?: string) =>
      call(method, `mailboxes/${bob}?from=${alice}`, {
        headers: { ...headers, Authorization: `Bearer ${OPERATOR}` },
        body: body ?? null,
      });
    for (const [method, headers, byOwner] of changes) {
      const by = (as: string, scope = EVERYTHING) => call(method, `mailboxes/${bob}`, { as, scope, headers });
      assert.equal(await reasonOf(await by(alice)), "ScopeMissing", method);
      assert.equal(await reasonOf(await by(bob, "connect send:*")), "ScopeMissing", method);
      assert.equal(await reasonOf(await call(method, `mailboxes/${bob}`, { headers })), "TokenNeeded");
      assert.equal(await outcome(await by(bob)), byOwner, `${method} ${JSON.stringify(headers)}`);
    }
    for (const [method, headers, byOwner] of changes) {
      const again = byOwner === 201 && Object.keys(headers).length === 0 ? 200 : byOwner;
      assert.equal(
        await outcome(await withOperatorToken(method, headers)),
        again,
        `${method} ${JSON.stringify(headers)}`,
      );
    }
    for (const [method, headers, byOwner] of changes) {
      const again = byOwner === 201 && Object.keys(headers).length === 0 ? 200 : byOwner;
      const admin = await call(method, `mailboxes/${bob}`, { as: alice, scope: "admin", headers });
      assert.equal(await outcome(admin), again, `${method} ${JSON.stringify(headers)}`);
    }
    await call("POST", `send/${bob}`, { as: alice, body: "x" });
    assert.equal((await withOperatorToken("GET", {})).status, 401);
    assert.equal((await withOperatorToken("POST", json, "1")).status, 401);
    assert.equal(await reasonOf(await withOperatorToken("POST", { ...json, ...closing }, "1")), "ScopeMissing");
    const admin = { as: alice, scope: "admin" };
    assert.equal(await reasonOf(await call("GET", `mailboxes/${bob}`, admin)), "ScopeMissing");
    assert.equal(
      await reasonOf(await call("POST", `mailboxes/${bob}`, { ...admin, headers: json, body: "1" })),
      "ScopeMissing",
    );
    assert.equal((await read(bob)).length, 1);
  });

  it("is nothing that makes no sense for it", async () => {
    const bob = `${fresh("bob")}/pc`;
    assert.equal(await reasonOf(await put(bob, json, { body: "[1]" })), "MailboxNeedsSender");
    assert.equal(await reasonOf(await put(bob, { "Content-Type": "text/plain" })), "StreamDiffers");
    const scope = `${EVERYTHING} create:a/** read:a/**`;
    const headers = { "Stream-Forked-From": `/mailboxes/${bob}` };
    assert.equal(await reasonOf(await call("PUT", "mailboxes/a/b/c", { as: bob, scope, headers })), "ForkOfMailbox");
  });
});

describe("a producer of messages", () => {
  const producer = (id: string, epoch: number, seq: number) => ({
    ...json,
    "Producer-Id": id,
    "Producer-Epoch": String(epoch),
    "Producer-Seq": String(seq),
  });

  it("sends each request once, whatever it repeats, beside others of the same name", async () => {
    const [alice, carol, bob] = [`${fresh("alice")}/pc`, `${fresh("carol")}/pc`, `${fresh("bob")}/pc`];
    const post = async (as: string, headers: Record<string, string>, body: string) => {
      const answer = await call("POST", `mailboxes/${bob}`, { as, headers, body });
      return [answer.ok ? answer.status : await reasonOf(answer), answer.headers.get("producer-seq")];
    };
    assert.deepEqual(await post(alice, producer("w", 0, 0), "[1,2]"), [200, "0"]);
    assert.deepEqual(await post(alice, producer("w", 0, 0), "[1,2]"), [204, "0"]);
    assert.deepEqual(await post(carol, producer("w", 0, 0), "3"), [200, "0"]);
    assert.deepEqual(await post(alice, producer("w", 0, 1), "4"), [200, "1"]);
    assert.deepEqual(await post(alice, producer("w", 0, 3), "5"), ["ProducerGap", null]);
    assert.deepEqual(await post(alice, producer("w", 1, 1), "5"), ["EpochWithoutStart", null]);
    assert.deepEqual(await post(alice, producer("w", 1, 0), "5"), [200, "0"]);
    assert.deepEqual(await post(alice, producer("w", 0, 2), "6"), ["ProducerFenced", null]);
    assert.deepEqual(await post(carol, producer("w", 0, 1), "7"), [200, "1"]);
    const envelopes = await read(bob);
    assert.deepEqual(
      envelopes.map(({ from, body }) => [from, body]),
      [
        [alice, 1],
        [alice, 2],
        [carol, 3],
        [alice, 4],
        [alice, 5],
        [carol, 7],
      ],
    );
    assert.deepEqual(
      envelopes.slice(0, 2).map(({ id }) => id),
      [`w#0#0-0@${alice}`, `w#0#0-1@${alice}`],
    );
  });

  it("has a Stream-Seq that only its own device must exceed", async () => {
    const [alice, carol, bob] = [`${fresh("alice")}/pc`, `${fresh("carol")}/pc`, `${fresh("bob")}/pc`];
    const post = async (as: string, sequence: string) =>
      reasonOf(await call("POST", `mailboxes/${bob}`, { as, headers: { ...json, "Stream-Seq": sequence }, body: "1" }));
    assert.equal(await post(alice, "b"), "ok");
    assert.equal(await post(alice, "b"), "SequenceConflict");
    assert.equal(await post(carol, "a"), "ok");
    assert.equal(await post(alice, "c"), "ok");
    assert.equal((await read(bob)).length, 3);
  });

  it("is the library's: what it has sent comes once and in order, and closes the mailbox", async () => {
    const bob = `${fresh("bob")}/pc`;
    const token = await issuer.issue({ address: bob, scope: EVERYTHING });
    const url = `${edge.url}/mailboxes/${bob}`;
    const headers = { Authorization: `Bearer ${token}` };
    const handle = await DurableStream.create({ url, headers, contentType: "application/json" });
    const writer = new IdempotentProducer(handle, "worker-7", { maxInFlight: 1 });
    for (let n = 0; n < 50; n += 1) writer.append(JSON.stringify({ n }));
    await writer.flush();
    await writer.close();
    const whole = await stream<Envelope>({ url, headers, offset: "-1", live: false });
    const bodies = (await whole.json()).map(({ body }) => body);
    assert.deepEqual(
      bodies,
      Array.from({ length: 50 }, (_, n) => ({ n })),
    );
    assert.equal((await call("HEAD", `mailboxes/${bob}`, { as: bob })).headers.get("stream-closed"), "true");
  });
});
