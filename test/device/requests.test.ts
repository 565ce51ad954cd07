/** Requests of one device to a service of another, through an edge in workerd. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, DeviceError, DeviceOptions, ServiceRequest } from "../../src/device/index.ts";
import { REQUESTS_AT_ONCE } from "../../src/device/limits.ts";
import { encodeReply } from "../../src/requests/index.ts";
import { afterAll, connect, fresh, mailboxOf, receive, startEdge, until } from "../edge/mailbox/support.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { Obstacle } from "../support/obstacle.ts";

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all);
});

const at = (address: string, options: Partial<DeviceOptions> = {}): Promise<Device> =>
  connect(edge, address, "websocket", options);

const code = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "ok",
    (error: DeviceError) => error.code,
  );

describe("a request to a service", () => {
  it("is answered by the device that serves it: method, path, headers, body and status both ways", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    let came: ServiceRequest | undefined;
    bob.respond("api", (request) => {
      came = request;
      return { status: 201, headers: { "X-Answer": "yes" }, body: `hello ${request.from}` };
    });
    const answer = await alice.request(bob.address, "api", {
      method: "PUT",
      path: "/status?x=1",
      headers: { "X-Name": "value" },
      body: "a body",
    });
    assert.deepEqual([answer.status, answer.from, answer.text()], [201, bob.address, `hello ${alice.address}`]);
    assert.deepEqual(answer.headers, [["X-Answer", "yes"]]);
    assert.ok(came);
    assert.deepEqual([came.method, came.path, came.query, came.text()], ["PUT", "/status", "x=1", "a body"]);
    assert.deepEqual([came.headers, came.service], [[["X-Name", "value"]], "api"]);
    await Promise.all([alice.close(), bob.close()]);
  });

  it("to an identity is answered by a device of it", async () => {
    const name = fresh("bob");
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${name}/pc`)];
    bob.respond("api", () => ({ body: "here" }));
    assert.equal((await alice.request(name, "api")).from, `${name}/pc`);
    await Promise.all([alice.close(), bob.close()]);
  });

  it("waits in the mailbox for a device that is away, and for one that does not serve it yet", async () => {
    const [name, asker] = [`${fresh("bob")}/pc`, await at(`${fresh("alice")}/pc`)];
    const asked = asker.request(name, "api");
    const peer = `grooveDevice://${name}`;
    await until("it waits", async () => (await (await mailboxOf(edge, peer)).status()).messages === 1);
    const bob = await at(name);
    await asker.send(name, "a message");
    // Messages are not held up, and the request is not one of them.
    assert.equal((await receive(bob, 1))[0]?.text(), "a message");
    await sleep(50);
    bob.respond("api", () => ({ body: "late" }));
    assert.equal((await asked).text(), "late");
    await Promise.all([asker.close(), bob.close()]);
  });

  it("is answered while the caller has no connection, and the answer waits for it", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const name = `${fresh("alice")}/pc`;
    const [bob, alice] = [await at(`${fresh("bob")}/pc`), await at(name, { edge: obstacle.url })];
    let goOn: (() => void) | undefined;
    bob.respond("api", () => new Promise((resolve) => (goOn = () => resolve({ body: "done" }))));
    const asked = alice.request(bob.address, "api");
    await until("it is served", () => goOn !== undefined);
    obstacle.treat = () => "refuse";
    obstacle.cut("websocket");
    goOn?.();
    const mailbox = await mailboxOf(edge, `grooveDevice://${name}`);
    await until("the answer waits", async () => (await mailbox.status()).messages === 1);
    assert.equal(alice.isConnected, false);
    obstacle.treat = () => "pass";
    assert.equal((await asked).text(), "done");
    await Promise.all([alice.close(), bob.close()]);
  });

  it("is not run after its deadline, and then has no answer", async () => {
    const [name, alice] = [`${fresh("bob")}/pc`, await at(`${fresh("alice")}/pc`)];
    assert.equal(await code(alice.request(name, "api", { deadline: 200 })), "NoAnswer");
    const bob = await at(name);
    const served: string[] = [];
    bob.respond("api", ({ path }) => {
      served.push(path);
      return {};
    });
    await alice.request(name, "api", { path: "/in-time" });
    assert.deepEqual(served, ["/in-time"]);
    // The late one is acknowledged all the same.
    await until("nothing waits", async () => {
      const { messages } = await (await mailboxOf(edge, `grooveDevice://${name}`)).status();
      return messages === 0;
    });
    await Promise.all([alice.close(), bob.close()]);
  });

  it("is served though handlers of earlier ones never end", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    let hanging = 0;
    bob.respond("api", ({ path }) => {
      if (path !== "/hangs") return {};
      hanging += 1;
      return new Promise(() => undefined);
    });
    await alice.request(bob.address, "api");
    const hang = () => code(alice.request(bob.address, "api", { path: "/hangs", deadline: 3000 }));
    const codes = await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, hang));
    assert.deepEqual([new Set(codes), hanging], [new Set(["NoAnswer"]), REQUESTS_AT_ONCE]);
    assert.equal((await alice.request(bob.address, "api")).status, 200);
    await Promise.all([alice.close(), bob.close()]);
  });

  it("tells its handler when the deadline is over, and the answer is dropped", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    let aborted = false;
    bob.respond("api", async ({ path, signal }) => {
      if (path === "/first") return {};
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      aborted = true;
      return { body: "too late" };
    });
    // Once the sessions are open, a request arrives in time on a busy machine, too.
    await alice.request(bob.address, "api", { path: "/first" });
    assert.equal(await code(alice.request(bob.address, "api", { deadline: 3000 })), "NoAnswer");
    await until("the handler knows", () => aborted);
    await Promise.all([alice.close(), bob.close()]);
  });

  it("has the same id if it comes again, and one answer", async () => {
    const [name, alice] = [`${fresh("bob")}/pc`, await at(`${fresh("alice")}/pc`)];
    const ids: string[] = [];
    const first = await at(name);
    first.respond("api", ({ id }) => {
      ids.push(id);
      return new Promise(() => undefined);
    });
    const asked = alice.request(name, "api");
    await until("it is served", () => ids.length === 1);
    await first.close();
    const second = await at(name);
    second.respond("api", ({ id }) => {
      ids.push(id);
      return { body: "second" };
    });
    assert.equal((await asked).text(), "second");
    assert.equal(ids[0], ids[1]);
    await Promise.all([alice.close(), second.close()]);
  });

  it("counts no answer of anybody else, nor one to no request", async () => {
    const [alice, bob, eve] = [
      await at(`${fresh("alice")}/pc`),
      await at(`${fresh("bob")}/pc`),
      await at(`${fresh("eve")}/pc`),
    ];
    let id = "";
    let goOn: () => void = () => undefined;
    bob.respond("api", (request) => {
      ({ id } = request);
      return new Promise((resolve) => (goOn = () => resolve({ body: "bob" })));
    });
    const asked = alice.request(bob.address, "api");
    await until("it is served", () => id !== "");
    const forged = { status: 200, headers: [], body: Buffer.from("eve") };
    await eve.send(alice.address, encodeReply(id, forged), { resource: "answer" });
    await bob.send(alice.address, encodeReply("a".repeat(22), forged), { resource: "answer" });
    await bob.send(alice.address, "no answer at all", { resource: "answer" });
    await eve.send(alice.address, "after them");
    // The application sees none of them.
    assert.equal((await receive(alice, 1))[0]?.text(), "after them");
    goOn();
    assert.equal((await asked).text(), "bob");
    await Promise.all([alice, bob, eve].map((device) => device.close()));
  });

  it("whose handler throws, or answers what cannot be sent, is answered by 500 without details", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    bob.respond("throws", () => {
      throw new Error("a secret");
    });
    bob.respond("malformed", () => ({ headers: { "a b": "c" } }));
    bob.respond("long", () => ({ body: new Uint8Array(17 * 1024 * 1024) }));
    for (const service of ["throws", "malformed", "long"]) {
      const { status, body, headers } = await alice.request(bob.address, service);
      assert.deepEqual([status, body.length, headers], [500, 0, []], service);
    }
    await Promise.all([alice.close(), bob.close()]);
  });

  it("that is malformed is acknowledged and runs nothing", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    let count = 0;
    bob.respond("api", () => {
      count += 1;
      return {};
    });
    await alice.send(bob.address, "GET / HTTP/1.1\r\n\r\n", { resource: "request/api" });
    await alice.request(bob.address, "api");
    assert.equal(count, 1);
    await Promise.all([alice.close(), bob.close()]);
  });

  it("is served while others are, 64 at a time", async () => {
    const [alice, bob] = [await at(`${fresh("alice")}/pc`), await at(`${fresh("bob")}/pc`)];
    let [now, most] = [0, 0];
    bob.respond("api", async () => {
      now += 1;
      most = Math.max(most, now);
      await sleep(20);
      now -= 1;
      return {};
    });
    await Promise.all(Array.from({ length: 150 }, () => alice.request(bob.address, "api")));
    assert.equal(most, 64);
    await Promise.all([alice.close(), bob.close()]);
  });
});

describe("a device that takes no messages", () => {
  it("gets answers with receive: streams, and leaves messages in its mailbox", async () => {
    const name = `${fresh("alice")}/pc`;
    const [alice, bob] = [await at(name, { receive: "streams" }), await at(`${fresh("bob")}/pc`)];
    bob.respond("api", () => ({ body: "yes" }));
    await bob.send(name, "a message");
    assert.equal((await alice.request(bob.address, "api")).text(), "yes");
    await alice.close();
    const again = await at(name);
    assert.equal((await receive(again, 1))[0]?.text(), "a message");
    await Promise.all([again.close(), bob.close()]);
  });

  it("cannot ask with receive: false", async () => {
    const alice = await at(`${fresh("alice")}/pc`, { receive: false });
    assert.equal(await code(alice.request("bob/pc", "api")), "InvalidOption");
    await alice.close();
  });
});

it("what cannot be asked or served is refused with what to change", async () => {
  const alice = await at(`${fresh("alice")}/pc`);
  const bad: Parameters<Device["request"]>[] = [
    ["bob/pc", "a b"],
    ["bob/pc", ""],
    ["bob/pc", "api", { method: "G T" }],
    ["bob/pc", "api", { path: "status" }],
    ["bob/pc", "api", { path: "/a b" }],
    ["bob/pc", "api", { headers: { "a b": "c" } }],
    ["bob/pc", "api", { deadline: 0 }],
    ["bob/pc", "api", { deadline: 15 * 24 * 3600_000 }],
    ["a/b/c", "api"],
  ];
  for (const asked of bad) assert.equal(await code(alice.request(...asked)), "InvalidOption", JSON.stringify(asked));
  assert.equal(await code(alice.request("bob/pc", "api", { signal: AbortSignal.abort() })), "Aborted");
  assert.throws(() => alice.respond("a b", () => ({})), { code: "InvalidOption" });
  const end = alice.respond("api", () => ({}));
  assert.throws(() => alice.respond("api", () => ({})), { code: "InvalidOption" });
  end();
  alice.respond("api", () => ({}));
  const ending = new AbortController();
  const asked = alice.request("bob/pc", "api", { signal: ending.signal });
  ending.abort();
  assert.equal(await code(asked), "Aborted");
  const pending = code(alice.request("bob/pc", "api"));
  await alice.close();
  assert.equal(await pending, "Closed");
});
