/** The owners' API to inboxes: rights, rotation, and requests that were set aside. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, it } from "node:test";
import { encodeRequest } from "../../../src/requests/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { startWorker } from "../../support/worker.ts";
import { InboxApi, post, signedByGitHub } from "../inboxes/support.ts";
import { ed25519, jwks } from "../issuer.ts";
import { afterAll, connect, fresh, receive, startEdge } from "../mailbox/support.ts";
import { bearer } from "../operator.ts";

const all = afterAll();

describe("rights to inboxes", () => {
  let edge: InspectedEdge;
  const admin = "the operator's own token";
  const tokens: Record<string, string> = {};
  before(async () => {
    const issuer = await ed25519();
    edge = await startEdge(all, { keys: jwks(issuer), adminToken: admin });
    tokens.owner = await issuer.issue({ address: "bob/*", scope: "connect receive" });
    tokens.device = await issuer.issue({ address: "bob/pc", scope: "connect receive" });
    tokens.other = await issuer.issue({ address: "alice/*", scope: "connect receive send:*" });
    tokens.sender = await issuer.issue({ address: "bob/*", scope: "connect send:*" });
    tokens.operator = await issuer.issue({ address: "op/pc", scope: "admin" });
  });
  const as = (name: string) => new InboxApi(edge.url, bearer(tokens[name] ?? ""));

  it("are those of whoever may receive for the address", async () => {
    const { url } = await as("owner").make("bob", { verify: "none" });
    await as("device").make("bob/pc", { verify: "none" });
    const asked: [string, string, string, string][] = [
      ["other", "GET", "bob", "ScopeMissing"],
      ["sender", "GET", "bob", "ScopeMissing"],
      ["other", "POST", "bob", "ScopeMissing"],
      ["other", "DELETE", "bob/none", "ScopeMissing"],
      ["other", "POST", "bob/none/secret", "ScopeMissing"],
      ["other", "POST", "bob/none/url", "ScopeMissing"],
      ["other", "GET", "bob/failed", "ScopeMissing"],
      ["other", "POST", "bob/failed?inbox=a&id=b&reason=TimedOut", "ScopeMissing"],
      ["other", "POST", "bob/failed/replay", "ScopeMissing"],
      ["other", "DELETE", "bob/failed", "ScopeMissing"],
      ["device", "GET", "bob%2Fphone", "ScopeMissing"],
      ["owner", "GET", "a%2Fb%2Fc", "MalformedAddress"],
      ["owner", "GET", "bob%40relay.example.com", "MalformedAddress"],
      ["owner", "GET", encodeURIComponent("grooveDynamics://peer"), "MalformedAddress"],
    ];
    for (const [who, method, path, code] of asked) {
      const { said } = await as(who).ask(method, path, method === "POST" ? { verify: "none" } : undefined);
      assert.equal(said.code, code, `${who} ${method} ${path}`);
    }
    const stranger = await new InboxApi(edge.url).ask("GET", "bob");
    assert.deepEqual([stranger.status, stranger.said.code], [401, "TokenNeeded"]);
    assert.equal((await as("owner").list("bob")).length, 1);
    assert.equal((await post(url, "x")).status, 202);
  });

  it("are an operator's for every address, under /admin", async () => {
    await as("owner").make("bob/desk", { verify: "none" });
    for (const token of [admin, tokens.operator ?? ""]) {
      const answer = await fetch(`${edge.url}/admin/inboxes/bob%2Fdesk`, { headers: bearer(token) });
      assert.equal(answer.status, 200);
      const { inboxes } = (await answer.json()) as { inboxes: unknown[] };
      assert.equal(inboxes.length, 1);
    }
    const refused = await fetch(`${edge.url}/admin/inboxes/bob`, { headers: bearer(tokens.owner ?? "") });
    assert.equal(refused.headers.get("grooveway-reason"), "ScopeMissing");
  });

  it("nobody connects by the URL of an inbox, so nobody can pass for one", async () => {
    const open = await startEdge(all);
    const { RawClient } = await import("../mailbox/support.ts");
    const client = new RawClient(open, "websocket", "grooveInbox://bob/github");
    client.connect("127.0.0.1");
    await client.event("refused");
    client.close();
  });
});

describe("an owner", () => {
  let edge: InspectedEdge;
  let api: InboxApi;
  before(async () => {
    edge = await startEdge(all);
    api = new InboxApi(edge.url);
  });

  it("lists inboxes without their secrets, and makes no two of one name", async () => {
    const bob = fresh("bob");
    assert.deepEqual(await api.list(bob), []);
    await api.make(bob, { verify: "github", secret: "a secret of bob" });
    const again = await api.ask("POST", bob, { verify: "github" });
    assert.equal(again.said.code, "InboxExists");
    await api.make(bob, { name: "other", verify: "stripe" });
    const listed = await api.list(bob);
    assert.deepEqual(
      listed.map(({ name, verify, secrets, stored }) => [name, verify, secrets, stored]),
      [
        ["github", "github", 1, 0],
        ["other", "stripe", 0, 0],
      ],
    );
    assert.equal(JSON.stringify(listed).includes("secret of bob"), false);
  });

  it("is told what is wrong with a new inbox", async () => {
    for (const fields of [{}, { verify: "nothing" }, { verify: "github", name: "A" }]) {
      const { status, said } = await api.ask("POST", fresh("bob"), fields);
      assert.deepEqual([status, said.code], [400, "MalformedInbox"]);
    }
    const text = await api.ask("POST", fresh("bob"), Buffer.from("no JSON"));
    assert.deepEqual([text.said.code, text.said.detail], ["MalformedInbox", "The body is not JSON."]);
  });

  it("has at most a hundred inboxes for an address", async () => {
    const bob = fresh("bob");
    for (let n = 0; n < 100; n += 1) await api.make(bob, { name: `n${n}`, verify: "none" });
    assert.equal((await api.ask("POST", bob, { name: "more", verify: "none" })).said.code, "TooManyInboxes");
  });

  it("sets requests aside and puts them back, each once, in order", async () => {
    const bob = `${fresh("bob")}/pc`;
    const path = encodeURIComponent(bob);
    const { url } = await api.make(bob, { verify: "none" });
    await post(`${url}/first`, "1");
    const messages = ["/a", "/b", "/c"].map((target, at) =>
      encodeRequest({ method: "POST", path: target, query: undefined, headers: [], body: randomBytes(at * 600_000) }),
    );
    for (const [at, message] of messages.entries()) {
      const query = `inbox=none&id=id${at}&reason=TimedOut&detail=it%20hangs&tries=6`;
      for (let times = 0; times < 2; times += 1) {
        assert.equal((await api.ask("POST", `${path}/failed?${query}`, message)).status, 200);
      }
    }
    const { said } = await api.ask("GET", `${path}/failed`);
    const failed = said.failed as { number: number; id: string; target: string; reason: string; octets: number }[];
    assert.deepEqual(
      failed.map(({ id, target, reason, octets }) => [id, target, reason, octets]),
      messages.map((message, at) => [`id${at}`, `POST /${"abc"[at]}`, "TimedOut", message.length]),
    );
    const numbers = failed.map(({ number }) => number);
    assert.deepEqual((await api.ask("DELETE", `${path}/failed`, { numbers: [numbers[1]] })).said, { removed: 1 });
    assert.deepEqual((await api.ask("POST", `${path}/failed/replay`)).said, { replayed: 2 });
    assert.deepEqual((await api.ask("POST", `${path}/failed/replay`)).said, { replayed: 0 });
    const device = await connect(edge, bob, "websocket");
    const received = await receive(device, 3);
    await device.close();
    assert.deepEqual(
      received.slice(1).map(({ body }) => Buffer.from(body)),
      [messages[0], messages[2]].map((message) => Buffer.from(message ?? [])),
    );
    // They come from their inbox again.
    assert.equal(received[2]?.from, received[0]?.from);
  });

  it("is told what is wrong with a request to set aside", async () => {
    const path = fresh("bob");
    for (const query of [
      "",
      "inbox=A&id=x&reason=TimedOut",
      "inbox=a&id=&reason=TimedOut",
      "inbox=a&id=x&reason=no%20word",
    ]) {
      assert.equal(
        (await api.ask("POST", `${path}/failed?${query}`, Buffer.from("x"))).said.code,
        "MalformedInbox",
        query,
      );
    }
    assert.equal((await api.ask("GET", `${path}/failed?after=x`)).said.code, "MalformedInbox");
    assert.equal((await api.ask("POST", `${path}/failed/replay`, { numbers: "all" })).said.code, "MalformedInbox");
  });
});

it("a secret is rotated without a gap: the former one is accepted until its time is over", async (t) => {
  const miniflare = await startWorker({ RELAY_NAME: "127.0.0.1", DEV: "1" });
  t.after(() => miniflare.dispose());
  const { origin } = await miniflare.ready;
  const api = new InboxApi(origin);
  const { url } = await api.make("bob", { verify: "github", secret: "the first secret" });
  let delivery = 0;
  const posted = async (secret: string) => {
    delivery += 1;
    return (await post(url, "x", signedByGitHub(secret, "x", String(delivery)))).code ?? "stored";
  };
  const rotate = (secret: string, keep: number) => api.ask("POST", "bob/github/secret", { secret, keep });
  assert.equal(await posted("the second secret"), "SignatureWrong");
  assert.equal((await rotate("the second secret", 3600)).status, 200);
  assert.deepEqual([await posted("the first secret"), await posted("the second secret")], ["stored", "stored"]);
  assert.equal((await api.list("bob"))[0]?.secrets, 2);
  await fetch(`${origin}/clock/${3_600_000}`);
  assert.deepEqual([await posted("the first secret"), await posted("the second secret")], ["SignatureWrong", "stored"]);
  assert.equal((await api.list("bob"))[0]?.secrets, 1);
  assert.equal((await rotate("the third secret", 0)).status, 200);
  assert.deepEqual([await posted("the second secret"), await posted("the third secret")], ["SignatureWrong", "stored"]);
  for (const wrong of [
    { secret: "short" },
    { secret: "long enough", keep: -1 },
    { secret: "long enough", keep: 1e9 },
    {},
  ]) {
    assert.equal(
      (await api.ask("POST", "bob/github/secret", wrong)).said.code,
      "MalformedInbox",
      JSON.stringify(wrong),
    );
  }
});

it("what is remembered of requests is forgotten when its time is over, and the rest goes with the last inbox", async (t) => {
  const miniflare = await startWorker({ RELAY_NAME: "127.0.0.1", DEV: "1" });
  t.after(() => miniflare.dispose());
  const { origin } = await miniflare.ready;
  const api = new InboxApi(origin);
  const { url, capability } = await api.make("bob", { verify: "github", secret: "a secret of bob" });
  const store = () => post(url, "x", signedByGitHub("a secret of bob", "x", "1"));
  await store();
  await store();
  const count = async () => (await api.list("bob"))[0]?.stored;
  assert.equal(await count(), 1);
  const locator = Buffer.from(capability, "base64url").subarray(0, 16).toString("hex");
  type Driven = {
    letPass(milliseconds: number): Promise<void>;
    left(): Promise<{ keys: string[]; tables: number; alarm: boolean }>;
  };
  const object = await objectOf<Driven>(miniflare, "INBOXES", locator);
  await object.letPass(25 * 3600_000);
  assert.equal((await object.left()).alarm, false, "nothing is left to forget");
  await store();
  assert.equal(await count(), 2);
  await api.ask("DELETE", "bob/github");
  const { keys, tables, alarm } = await object.left();
  assert.deepEqual([keys, tables, alarm], [[], 0, false]);
});
