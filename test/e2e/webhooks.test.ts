/**
 * Webhooks from providers through an inbox to a local server: signed by the providers' libraries, while the receiver is
 * off, and past a server that fails.
 */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer, type RequestListener } from "node:http";
import { buffer } from "node:stream/consumers";
import { describe, it, type TestContext } from "node:test";
import { sign, verify as verifyGitHub } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";
import { askServer } from "../../src/cli/http/ask-server.ts";
import { type ForwardEvent, RequestForwarder } from "../../src/cli/http/request-forwarder.ts";
import { Device } from "../../src/device/index.ts";
import { type HttpRequest, INBOX_RESOURCE, parseServer } from "../../src/requests/index.ts";
import { InboxApi, post } from "../edge/inboxes/support.ts";
import { PATIENCE } from "../support/sockets.ts";
import { eventually } from "../support/watch.ts";
import { startWorker } from "../support/worker.ts";

const HOUR = 3600_000;

/** What a server that hangs is waited for, in milliseconds: others answer in time on a busy machine, too. */
const HANG = 3000;
const stripe = new Stripe("sk_test_x");
const standardSecret = `whsec_${Buffer.from("twenty-four bytes of key").toString("base64")}`;

interface Place {
  readonly origin: string;
  readonly api: InboxApi;
  /** Lets time pass at the edge. */
  ahead(milliseconds: number): Promise<void>;
}

async function startPlace(t: TestContext): Promise<Place> {
  const miniflare = await startWorker({ RELAY_NAME: "127.0.0.1", DEV: "1" });
  t.after(() => miniflare.dispose());
  const { origin } = await miniflare.ready;
  let passed = 0;
  return {
    origin,
    api: new InboxApi(origin),
    async ahead(milliseconds) {
      passed += milliseconds;
      await fetch(`${origin}/clock/${passed}`);
    },
  };
}

interface Came {
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** A local server, which keeps what has come. */
async function startServer(t: TestContext, answer: (came: Came, count: number) => number | "hang" | "break", port = 0) {
  const came: Came[] = [];
  const listener: RequestListener = async (request, response) => {
    const one = { url: request.url ?? "", headers: request.headers, body: await buffer(request) };
    came.push(one);
    const status = answer(one, came.length);
    if (status === "break") request.socket.destroy();
    else if (status !== "hang") response.writeHead(status).end();
  };
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return { server, came, url: `http://127.0.0.1:${address.port}` };
}

/** What `grooveway recv --forward` does, with pauses that do not last. */
async function startReceiver(
  t: TestContext,
  { origin, api }: Place,
  {
    to,
    tries = 3,
    isStrict = false,
    timeout = PATIENCE,
  }: { to: string; tries?: number; isStrict?: boolean; timeout?: number },
) {
  const device = await Device.connect({ edge: origin, address: "bob/laptop" });
  t.after(() => device.close());
  const server = parseServer(to);
  assert.ok(server.ok);
  const events: ForwardEvent[] = [];
  const ending = new AbortController();
  const forwarder = new RequestForwarder({
    ask: (request: HttpRequest) => askServer(server.value, request, { timeout }),
    setAside: async ({ inbox, id, reason, detail, tries: tried }, octets) => {
      const query = new URLSearchParams({ inbox: inbox.name, id, reason, detail, tries: String(tried) });
      const { status } = await api.ask("POST", `bob%2Flaptop/failed?${query}`, octets);
      assert.equal(status, 200);
    },
    suspend: () => device.suspend(INBOX_RESOURCE),
    pause: () => new Promise((resolve) => setTimeout(resolve, 5)),
    isStrict,
    tries,
    report: async (event) => {
      events.push(event);
    },
    tell: () => undefined,
    signal: ending.signal,
  });
  const others: string[] = [];
  const taking = (async () => {
    for await (const message of device.messages()) {
      if (forwarder.takes(message)) void forwarder.take(message);
      else {
        others.push(message.text());
        message.done();
      }
    }
  })();
  const stop = async () => {
    ending.abort();
    await device.close();
    await taking;
  };
  return { events, others, stop };
}

describe("webhooks of providers", () => {
  it("arrive at a local server whose own check of the signature passes, an hour later, in order, each once", async (t) => {
    const place = await startPlace(t);
    const { api } = place;
    const make = (verify: string, secret: string) => api.make("bob/laptop", { verify, secret });
    const [github, paid, standard] = [
      await make("github", "It's a Secret"),
      await make("stripe", "whsec_test"),
      await make("standard", standardSecret),
    ];
    const now = () => Math.floor(Date.now() / 1000);
    const sent: [string, string, Record<string, string>][] = [];
    for (let n = 0; n < 20; n += 1) {
      const payload = JSON.stringify({ n, text: "Zoë".repeat(n * 50) });
      sent.push([
        `${github.url}/github`,
        payload,
        { "X-Hub-Signature-256": await sign("It's a Secret", payload), "X-GitHub-Delivery": `d${n}` },
      ]);
      const header = stripe.webhooks.generateTestHeaderString({ payload, secret: "whsec_test", timestamp: now() });
      sent.push([`${paid.url}/stripe`, payload, { "Stripe-Signature": header }]);
      const [id, date] = [`msg_${n}`, new Date()];
      const signature = new Webhook(standardSecret).sign(id, date, payload);
      const time = String(Math.floor(date.getTime() / 1000));
      sent.push([
        `${standard.url}/standard`,
        payload,
        { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signature },
      ]);
    }
    for (const [url, body, headers] of sent) {
      assert.equal((await post(url, body, headers)).status, 202);
      // A provider that has lost the answer sends it again.
      assert.equal((await post(url, body, headers)).status, 202);
    }
    const [url = "", , headers = {}] = sent[1] ?? [];
    assert.equal((await post(url, "{}", headers)).code, "SignatureWrong");
    await place.ahead(HOUR);
    assert.equal((await post(url, sent[1]?.[1] ?? "", headers)).code, "SignatureNotCurrent");

    const server = await startServer(t, () => 200);
    const receiver = await startReceiver(t, place, { to: `${server.url}/hooks` });
    await eventually(() => receiver.events.length >= sent.length, "all webhooks");
    await receiver.stop();
    for (const provider of ["github", "stripe", "standard"]) {
      const came = server.came.filter((one) => one.url === `/hooks/${provider}`);
      const numbers = came.map(({ body }) => (JSON.parse(body.toString()) as { n: number }).n);
      assert.deepEqual(
        numbers,
        Array.from({ length: 20 }, (_, n) => n),
        provider,
      );
    }
    for (const { url: path, headers: got, body } of server.came) {
      const text = (name: string) => String(got[name]);
      if (path.endsWith("github")) {
        assert.ok(await verifyGitHub("It's a Secret", body.toString(), text("x-hub-signature-256")));
      } else if (path.endsWith("stripe")) {
        stripe.webhooks.constructEvent(body, text("stripe-signature"), "whsec_test");
      } else {
        const named = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => [name, text(name)]);
        new Webhook(standardSecret).verify(body.toString(), Object.fromEntries(named));
      }
    }
  });

  it("with Slack's signature arrive too", async (t) => {
    const place = await startPlace(t);
    const { url } = await place.api.make("bob/laptop", { verify: "slack", secret: "8f742231b10e8888abcd99yyyzzz85a5" });
    const time = String(Math.floor(Date.now() / 1000));
    const body = "token=x&command=%2Fweather&text=94070";
    const mac = createHmac("sha256", "8f742231b10e8888abcd99yyyzzz85a5").update(`v0:${time}:${body}`).digest("hex");
    const headers = { "X-Slack-Request-Timestamp": time, "X-Slack-Signature": `v0=${mac}` };
    assert.equal((await post(url, body, headers)).status, 202);
    const server = await startServer(t, () => 200);
    const receiver = await startReceiver(t, place, { to: server.url });
    await eventually(() => server.came.length === 1, "the command");
    assert.equal(server.came[0]?.body.toString(), body);
    await receiver.stop();
  });
});

describe("a local server that fails", () => {
  for (const [how, answer] of [
    ["answers 500", 500],
    ["hangs", "hang"],
    ["breaks connections", "break"],
  ] as const) {
    it(`and ${how} loses nothing: what it does not take is set aside, what is behind goes on, and it can be replayed`, async (t) => {
      const place = await startPlace(t);
      const { api } = place;
      const { url } = await api.make("bob/laptop", { verify: "none" });
      for (const path of ["/1", "/bad", "/2"]) await post(`${url}${path}`, path);
      let isBroken = true;
      const server = await startServer(t, ({ url: path }) => (path === "/bad" && isBroken ? answer : 200));
      const receiver = await startReceiver(t, place, {
        to: server.url,
        tries: 2,
        ...(answer === "hang" && { timeout: HANG }),
      });
      await eventually(() => receiver.events.length === 3, "all three");
      assert.deepEqual(
        server.came.map((one) => one.url),
        ["/1", "/bad", "/bad", "/2"],
      );
      const { said } = await api.ask("GET", "bob%2Flaptop/failed");
      const failed = said.failed as { target: string; tries: number }[];
      assert.deepEqual(
        failed.map(({ target, tries }) => [target, tries]),
        [["POST /bad", 2]],
      );
      isBroken = false;
      assert.deepEqual((await api.ask("POST", "bob%2Flaptop/failed/replay")).said, { replayed: 1 });
      await eventually(() => receiver.events.length === 4, "the replayed one");
      const last = server.came.at(-1);
      assert.deepEqual([last?.url, last?.body.toString()], ["/bad", "/bad"]);
      assert.deepEqual((await api.ask("GET", "bob%2Flaptop/failed")).said, { failed: [] });
      await receiver.stop();
    });
  }

  it("acknowledges nothing early: what it has not taken comes to the next receiver", async (t) => {
    const place = await startPlace(t);
    const { url } = await place.api.make("bob/laptop", { verify: "none" });
    for (const path of ["/1", "/2"]) await post(`${url}${path}`, path);
    const bad = await startServer(t, ({ url: path }) => (path === "/1" ? 200 : 500));
    const first = await startReceiver(t, place, { to: bad.url, isStrict: true });
    await eventually(() => bad.came.length >= 5, "several tries");
    await first.stop();
    const good = await startServer(t, () => 200);
    const second = await startReceiver(t, place, { to: good.url });
    await eventually(() => good.came.length === 1, "the other one");
    assert.equal(good.came[0]?.url, "/2");
    await second.stop();
  });

  it("that is not there is waited for, and nothing is set aside", async (t) => {
    const place = await startPlace(t);
    const { url } = await place.api.make("bob/laptop", { verify: "none" });
    await post(url, "x");
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(0, "127.0.0.1", resolve));
    const address = gone.address();
    assert.ok(address !== null && typeof address === "object");
    await new Promise((resolve) => gone.close(resolve));
    const receiver = await startReceiver(t, place, { to: `http://127.0.0.1:${address.port}`, tries: 1 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(receiver.events.length, 0);
    let count = 0;
    const back = createServer((_, response) => {
      count += 1;
      response.end();
    });
    await new Promise<void>((resolve) => back.listen(address.port, "127.0.0.1", resolve));
    t.after(() => back.close());
    await eventually(() => receiver.events.length === 1, "it is back");
    assert.deepEqual([count, receiver.events[0]?.event], [1, "forwarded"]);
    await receiver.stop();
  });

  it("that is not there holds up no other messages, however much waits for it, and gets all in order, each once", async (t) => {
    const place = await startPlace(t);
    const inboxes = [
      await place.api.make("bob/laptop", { name: "one", verify: "none" }),
      await place.api.make("bob/laptop", { name: "two", verify: "none" }),
    ];
    const bodies = Array.from({ length: 60 }, (_, n) => `${n} ${"x".repeat(100_000)}`);
    const postAll = async (some: readonly string[]) => {
      for (const { url, inbox } of inboxes) {
        for (const body of some) assert.equal((await post(`${url}/${inbox.name}`, body)).status, 202);
      }
    };
    await postAll(bodies.slice(0, 40));
    const before = await startServer(t, () => 200);
    await new Promise((resolve) => before.server.close(resolve));
    const receiver = await startReceiver(t, place, { to: before.url });
    const alice = await Device.connect({ edge: place.origin, address: "alice/pc", receive: false });
    t.after(() => alice.close());
    await alice.send("bob/laptop", "hello");
    await eventually(() => receiver.others.length === 1, "the message");
    // What comes meanwhile holds up nothing either.
    await postAll(bodies.slice(40));
    await alice.send("bob/laptop", "again");
    await eventually(() => receiver.others.length === 2, "the next message");
    assert.deepEqual([receiver.others, receiver.events], [["hello", "again"], []]);
    const back = await startServer(t, () => 200, Number(new URL(before.url).port));
    await eventually(() => receiver.events.length === 2 * bodies.length, "all requests");
    for (const path of ["/one", "/two"]) {
      const came = back.came.filter(({ url }) => url === path).map(({ body }) => body.toString());
      assert.ok(came.length === bodies.length && came.every((body, n) => body === bodies[n]), path);
    }
    await receiver.stop();
  });
});

it("a device that says that it is an inbox is not forwarded", async (t) => {
  const place = await startPlace(t);
  await place.api.make("bob/laptop", { verify: "none" });
  const alice = await Device.connect({ edge: place.origin, address: "alice/pc", receive: false });
  t.after(() => alice.close());
  const body = "POST /forged HTTP/1.1\r\n\r\n";
  await alice.send("bob/laptop", body, { resource: "webhook" });
  const server = await startServer(t, () => 200);
  const receiver = await startReceiver(t, place, { to: server.url });
  const { url } = await place.api.make("bob/laptop", { name: "real", verify: "none" });
  await post(`${url}/real`, "x");
  await eventually(() => server.came.length > 0, "the real one");
  assert.deepEqual(
    server.came.map((one) => one.url),
    ["/real"],
  );
  await receiver.stop();
});
