/** Requests to inboxes of an edge in workerd, and what their owner gets. */
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { request as plainRequest } from "node:http";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, describe, it } from "node:test";
import { decodeRequest, type HttpRequest, headerIn } from "../../../src/requests/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { InboxApi, post, signedByGitHub } from "../inboxes/support.ts";
import { afterAll, connect, fresh, mailboxOf, receive, startEdge, until } from "../mailbox/support.ts";

let edge: InspectedEdge;
let api: InboxApi;
let state: string;
const said: string[] = [];
const all = afterAll();
before(async () => {
  state = await mkdtemp(join(tmpdir(), "grooveway-inboxes-"));
  all.after(() => rm(state, { recursive: true, force: true }));
  edge = await startEdge(all, { state, log: (level, line) => said.push(`${level} ${line}`) });
  api = new InboxApi(edge.url);
});

/** The requests that wait for an address, in order. */
async function waiting(address: string, count: number): Promise<HttpRequest[]> {
  const device = await connect(edge, address, "websocket");
  try {
    return (await receive(device, count)).map(({ body }) => {
      const read = decodeRequest(body);
      assert.ok(read.ok);
      return read.value;
    });
  } finally {
    await device.close();
  }
}

const secret = "It's a Secret to Everybody";

/** Posts to guessed URLs one after the other on one connection, and returns how many were answered as unknown. */
async function guesses(count: number): Promise<number> {
  const socket = connectTcp(Number(new URL(edge.url).port), "127.0.0.1");
  const requests = Array.from({ length: count }, (_, at) => {
    const close = at === count - 1 ? "Connection: close\r\n" : "";
    const path = `/in/${randomBytes(48).toString("base64url")}`;
    return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n${close}\r\nx`;
  });
  socket.write(requests.join(""));
  const answers = (await buffer(socket)).toString();
  return [...answers.matchAll(/^grooveway-reason: UnknownInbox\r$/gim)].length;
}

/** A request whose answer is read to its end. */
async function fetched(
  url: string,
  init: RequestInit = {},
): Promise<{ code: string | null; status: number; text: string }> {
  const answer = await fetch(url, init);
  return { code: answer.headers.get("grooveway-reason"), status: answer.status, text: await answer.text() };
}

describe("a request to an inbox", () => {
  it("is in the owner's mailbox when it is answered: method, path, query, headers, and the body octet for octet", async () => {
    const bob = `${fresh("bob")}/pc`;
    const { url } = await api.make(bob, { verify: "none" });
    const body = randomBytes(70_000);
    const { status, text, headers } = await post(`${url}/a/b%20c?x=1&y=%2F`, body, { "X-Name": "value" });
    assert.deepEqual([status, text], [202, ""]);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.match(headers.get("content-security-policy") ?? "", /^sandbox; default-src 'none'$/);
    await post(url, "second");
    const [first, second] = await waiting(bob, 2);
    assert.ok(first && second);
    assert.deepEqual([first.method, first.path, first.query], ["POST", "/a/b%20c", "x=1&y=%2F"]);
    assert.deepEqual(Buffer.from(first.body), body);
    assert.equal(headerIn(first.headers, "x-name"), "value");
    assert.deepEqual([second.path, second.query, Buffer.from(second.body).toString()], ["/", undefined, "second"]);
  });

  it("keeps what is not ASCII in its headers", async () => {
    const bob = fresh("bob");
    const { url } = await api.make(bob, { verify: "none" });
    const octets = Buffer.from("Zoë 漢").toString("latin1");
    const { port, pathname } = new URL(url);
    await new Promise<void>((resolve, reject) => {
      const sent = plainRequest({ port, path: pathname, method: "PUT", headers: { "X-Name": octets } }, (answer) => {
        answer.resume().on("end", resolve);
      });
      sent.on("error", reject).end();
    });
    const [request] = await waiting(`${bob}/pc`, 1);
    assert.equal(request?.method, "PUT");
    assert.equal(headerIn(request.headers, "x-name"), octets);
  });

  it("needs a right signature, and is stored once in a day", async () => {
    const bob = `${fresh("bob")}/pc`;
    const { url, inbox } = await api.make(bob, { verify: "github", secret });
    const body = '{"zen":"Keep it logically awesome."}';
    assert.equal((await post(url, body)).code, "SignatureMissing");
    assert.equal((await post(url, body, signedByGitHub("other secret", body, "1"))).code, "SignatureWrong");
    assert.equal((await post(url, `${body} `, signedByGitHub(secret, body, "1"))).code, "SignatureWrong");
    const twice = await Promise.all([1, 2].map(() => post(url, body, signedByGitHub(secret, body, "1"))));
    assert.deepEqual(
      twice.map(({ status }) => status),
      [202, 202],
    );
    assert.equal((await post(url, body, signedByGitHub(secret, body, "1"))).status, 202);
    await post(url, body, signedByGitHub(secret, body, "2"));
    const requests = await waiting(bob, 2);
    assert.deepEqual(
      requests.map(({ headers }) => headerIn(headers, "x-github-delivery")),
      ["1", "2"],
    );
    assert.equal((await (await mailboxOf(edge, `grooveDevice://${bob}`)).status()).messages, 0);
    const [status] = await api.list(bob);
    assert.deepEqual([status?.refused, status?.refusal], [3, "SignatureWrong"]);
    assert.equal(inbox.last, url.slice(-4));
  });

  it("of Slack is answered with its challenge, which is not stored", async () => {
    const bob = `${fresh("bob")}/pc`;
    const { url } = await api.make(bob, { verify: "slack", secret });
    const time = String(Math.floor(Date.now() / 1000));
    const signed = (body: string) => {
      const mac = createHmac("sha256", secret).update(`v0:${time}:${body}`).digest("hex");
      return { "X-Slack-Request-Timestamp": time, "X-Slack-Signature": `v0=${mac}` };
    };
    const challenge = JSON.stringify({
      type: "url_verification",
      challenge: "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
    });
    assert.equal((await post(url, challenge)).code, "SignatureMissing");
    const answer = await post(url, challenge, signed(challenge));
    assert.deepEqual([answer.status, answer.text], [200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"]);
    await post(url, "payload=1", signed("payload=1"));
    const [request] = await waiting(bob, 1);
    assert.equal(Buffer.from(request?.body ?? []).toString(), "payload=1");
  });

  it("is answered as its owner has chosen", async () => {
    const bob = fresh("bob");
    const answer = { status: 200, type: "application/json", body: '{"ok":true}' };
    const { url } = await api.make(bob, { verify: "none", answer });
    const { status, text, headers } = await post(url, "x");
    assert.deepEqual(
      [status, text, headers.get("content-type")],
      [200, answer.body, "application/json; charset=utf-8"],
    );
  });

  it("is refused if it is too long, with a length or without one, or comes too often", async () => {
    const bob = fresh("bob");
    const { url } = await api.make(bob, { verify: "none", largest: 1000, rate: 1 });
    assert.equal((await post(url, "x".repeat(1001))).code, "RequestTooLong");
    const chunks = new ReadableStream({
      start(controller) {
        for (let n = 0; n < 11; n += 1) controller.enqueue(new Uint8Array(100));
        controller.close();
      },
    });
    const chunked = await fetched(url, { method: "POST", body: chunks, duplex: "half" } as RequestInit);
    assert.equal(chunked.code, "RequestTooLong");
    const answers = await Promise.all(Array.from({ length: 70 }, () => post(url, "x")));
    const busy = answers.filter(({ code }) => code === "InboxBusy");
    assert.ok(busy.length >= 8 && busy.length < 20, String(busy.length));
    assert.match(busy[0]?.headers.get("retry-after") ?? "", /^[1-9]$/);
  });

  it("is refused while its owner's mailbox is locked, and stored whatever the rule says of senders", async () => {
    const bob = `${fresh("bob")}/pc`;
    const { url } = await api.make(bob, { verify: "none" });
    const rule = `${edge.url}/mailboxes/${encodeURIComponent(bob)}/rule`;
    const set = await fetched(rule, { method: "PUT", body: JSON.stringify({ senders: "nobody" }) });
    assert.equal(set.status, 200);
    assert.equal((await post(url, "x")).status, 202);
    await (await mailboxOf(edge, `grooveDevice://${bob}`)).setLocked(true);
    assert.equal((await post(url, "x")).code, "LockedOut");
  });

  it("uses a method that has a body", async () => {
    const { url } = await api.make(fresh("bob"), { verify: "none" });
    for (const method of ["GET", "HEAD", "OPTIONS"]) {
      assert.equal((await fetched(url, { method })).code, "MethodNotImplemented", method);
    }
  });
});

describe("a capability", () => {
  it("that was removed or replaced is answered like one that never was", async () => {
    const bob = fresh("bob");
    const [gone, moved] = [
      await api.make(bob, { name: "gone", verify: "none" }),
      await api.make(bob, { name: "moved", verify: "none" }),
    ];
    assert.equal((await api.ask("DELETE", `${bob}/gone`)).status, 200);
    const other = api.made(await api.ask("POST", `${bob}/moved/url`));
    const guess = `${edge.url}/in/${randomBytes(48).toString("base64url")}`;
    const strip = ({ status, text, headers }: Awaited<ReturnType<typeof post>>) => {
      const names = [...headers].filter(([name]) => name !== "date");
      return { status, text, names };
    };
    const expected = strip(await post(guess, "x"));
    assert.equal(expected.status, 404);
    for (const url of [gone.url, moved.url, `${edge.url}/in/`, `${edge.url}/in/x/y`]) {
      assert.deepEqual(strip(await post(url, "x")), expected, url);
    }
    assert.equal((await post(other.url, "x")).status, 202);
  });

  it("that is guessed makes no object and no row, in ten thousand tries", async () => {
    const { url } = await api.make(fresh("bob"), { verify: "none" });
    await post(url, "x");
    // Collectors count requests for /metrics; there are a few of them, whoever asks for what.
    const objects = () =>
      readdirSync(state, { recursive: true, encoding: "utf8" }).filter(
        (name) => name.endsWith(".sqlite") && !name.includes("-Collector/"),
      );
    const before = objects();
    assert.ok(before.some((name) => name.includes("Inboxes")));
    const reasons = await Promise.all(Array.from({ length: 10 }, () => guesses(1000)));
    assert.deepEqual(
      reasons,
      Array.from({ length: 10 }, () => 1000),
    );
    assert.deepEqual(objects().sort(), before.sort());
  });
});

it("a request for which there was no room is not taken for stored: it is when it comes again", async () => {
  const small = await startEdge(all, { quota: "messages=20" });
  const bob = `${fresh("bob")}/pc`;
  const { url } = await new InboxApi(small.url).make(bob, { verify: "github", secret });
  const send = (n: number) => post(url, `body ${n}`, signedByGitHub(secret, `body ${n}`, String(n)));
  let n = 0;
  while ((await send(n)).code === undefined) n += 1;
  assert.ok(n >= 5 && n < 20, String(n));
  const refused = await send(n);
  assert.deepEqual([refused.status, refused.code, refused.headers.get("retry-after")], [500, "InboxFull", "60"]);
  const device = await connect(small, bob, "websocket");
  await receive(device, n);
  await until("there is room", async () => (await send(n)).code === undefined);
  // What was stored is not stored again.
  for (let earlier = 0; earlier <= n; earlier += 1) assert.equal((await send(earlier)).status, 202);
  await post(url, "the last", signedByGitHub(secret, "the last", "last"));
  const rest = await receive(device, 2);
  const bodies = rest.map(({ body }) => {
    const read = decodeRequest(body);
    return read.ok ? Buffer.from(read.value.body).toString() : "";
  });
  assert.deepEqual(bodies, [`body ${n}`, "the last"]);
  await device.close();
});

it("an object with no inbox and nothing set aside leaves nothing behind", async () => {
  const bob = fresh("bob");
  const { url } = await api.make(bob, { verify: "github", secret });
  await post(url, "x", signedByGitHub(secret, "x", "1"));
  await api.ask("DELETE", `${bob}/github`);
  assert.deepEqual(await api.list(bob), []);
  const directory = await edge.miniflare.getDurableObjectNamespace("DIRECTORY");
  const stub = directory.getByName("directory") as unknown as { hasInboxes(peer: string): Promise<boolean> };
  assert.equal(await stub.hasInboxes(`grooveIdentity://${bob}`), false);
  // It can be made again, and takes what it took before.
  const again = await api.make(bob, { verify: "github", secret });
  await post(again.url, "x", signedByGitHub(secret, "x", "1"));
  assert.equal((await waiting(`${bob}/pc`, 2)).length, 2);
});

it("neither capabilities nor secrets are in the log, in answers or on pages", async () => {
  const bob = fresh("bob");
  const { url, capability } = await api.make(bob, { verify: "github", secret });
  await post(url, "x");
  await post(`${url}/deeper?query`, "x", signedByGitHub(secret, "x", "1"));
  await fetched(url);
  await fetched(`${edge.url}/admin/in/${capability}`, { method: "POST", body: "x" });
  said.push(JSON.stringify(await api.list(bob)));
  const rotated = await api.ask("POST", `${bob}/github/secret`, { secret: "another secret of it" });
  said.push(JSON.stringify(rotated.said));
  for (const path of ["", "health", `mailboxes/${bob}/rule`, `inboxes/${bob}`, `inboxes/${bob}/failed`]) {
    said.push((await fetched(`${edge.url}/${path}`)).text);
  }
  const text = said.join("\n");
  for (const kept of [capability, secret, "another secret of it"]) assert.ok(!text.includes(kept), kept.slice(0, 4));
});
