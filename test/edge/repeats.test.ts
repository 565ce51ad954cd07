/** Proxies between a device and the edge that repeat requests [RFC 9110 9.2.2] because an answer was lost. */
import assert from "node:assert/strict";
import { Agent, createServer, type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { TransportName } from "../../src/device/index.ts";
import { ECHO_TEXT } from "../../src/encapsulation/index.ts";
import { bodyOf, fresh, mailboxOf, RawClient, tunnelOf, until } from "./mailbox/support.ts";
import { target, upgrade } from "./operator.ts";
import { PollingDevice } from "./polling-device.ts";
import { assertNothingLeft, assertRefused, Device, RELAY_NAME, startTestEdge, type TestEdge } from "./support.ts";

const MESSAGES = 60;
const LENGTHS = [10, 700, 10, 40_000];

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

/** An HTTP proxy that loses answers and repeats their requests, and cuts requests off and repeats them. */
class RepeatingProxy {
  readonly url: string;
  /** Repeated requests, by what happened to the original. */
  readonly repeats = { "GET answered": 0, "GET cut": 0, "POST answered": 0, "POST beside": 0 };
  readonly #server: Server;
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true });
  #requests = 0;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.#port = port;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async before(port: number): Promise<RepeatingProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = new RepeatingProxy(server, port);
    server.on("request", async (incoming, outgoing) => {
      try {
        const pieces: Buffer[] = [];
        for await (const piece of incoming) pieces.push(piece);
        const { status, headers, body } = await proxy.#answer(incoming, Buffer.concat(pieces));
        outgoing.writeHead(status, { ...headers, "content-length": body.length });
        outgoing.end(body);
      } catch {
        outgoing.destroy();
      }
    });
    return proxy;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
  }

  /** Every second request is repeated, in one way after the other. */
  async #answer(incoming: IncomingMessage, body: Buffer): Promise<Answer> {
    this.#requests += 1;
    const turn = this.#requests % 4;
    if (incoming.method === "GET") {
      if (turn === 0) {
        this.repeats["GET cut"] += 1;
        await Promise.race([this.#send(incoming, body, AbortSignal.timeout(5)).catch(() => undefined), sleep(20)]);
      } else if (turn === 2) {
        this.repeats["GET answered"] += 1;
        const lost = await this.#send(incoming, body);
        const again = await this.#send(incoming, body);
        assert(again.body.equals(lost.body), "the repeated request gets a different answer");
        return again;
      }
    } else if (turn === 1) {
      this.repeats["POST answered"] += 1;
      await this.#send(incoming, body);
    } else if (turn === 3 && incoming.url !== "/") {
      this.repeats["POST beside"] += 1;
      const [, answer] = await Promise.all([this.#send(incoming, body), this.#send(incoming, body)]);
      return answer;
    }
    return this.#send(incoming, body);
  }

  #send({ method, url: path, headers }: IncomingMessage, body: Buffer, signal?: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port: this.#port, method, path, headers, agent: this.#agent, signal };
      const outgoing = request(options, async (answer) => {
        try {
          const pieces: Buffer[] = [];
          for await (const piece of answer) pieces.push(piece);
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(pieces) });
        } catch (error) {
          reject(error);
        }
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }
}

describe("a proxy that repeats requests", () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(3);
  });
  after(() => edge.close());

  async function clientBehind(t: TestContext, transport: TransportName, name: string) {
    const proxy = await RepeatingProxy.before(edge.port);
    t.after(() => proxy.close());
    const url = `grooveDevice://${name}/pc`;
    const client = new RawClient({ ...edge.edge, url: proxy.url }, transport, url, {}, RELAY_NAME);
    t.after(() => client.close());
    client.connect(RELAY_NAME);
    await client.event("connected");
    return { proxy, client, url };
  }

  for (const transport of ["keepalive", "polling"] as const) {
    it(`${transport}: causes no loss and no duplicates`, { timeout: 300_000 }, async (t) => {
      const sender = await clientBehind(t, transport, fresh("sender"));
      const receiver = await clientBehind(t, transport, fresh("receiver"));
      const identity = /\/\/(.*)\//.exec(receiver.url)?.[1] ?? "";
      const session = await sender.client.session("grooveway", `grooveIdentity://${identity}`, receiver.url);
      const bodies = Array.from({ length: MESSAGES }, (_, n) => bodyOf(LENGTHS[n % LENGTHS.length] ?? 0, `${n}`));
      for (const [n, body] of bodies.entries()) {
        sender.client.send(session, body);
        // Some one by one, each with its own exchange, and the others in bursts.
        if (n % 6 < 3) await until("it has come", () => receiver.client.messages.length > n);
      }
      await until("all have come", () => receiver.client.messages.length >= MESSAGES);
      const mailbox = await mailboxOf(edge.edge, receiver.url);
      await until("all are acknowledged", async () => (await mailbox.status()).messages === 0);
      assert.equal(receiver.client.messages.length, MESSAGES);
      for (const [n, { body }] of receiver.client.messages.entries()) {
        assert(body.equals(Buffer.from(bodies[n] ?? [])), `message ${n}`);
      }
      assert.deepEqual([sender.client.lost, receiver.client.lost], [undefined, undefined]);
      assert.equal((await mailbox.status()).dropped.DuplicateMessage ?? 0, 0, "no message was repeated");
      const ways = transport === "keepalive" ? Object.keys(sender.proxy.repeats) : ["POST answered"];
      for (const way of ways as (keyof RepeatingProxy["repeats"])[]) {
        const times = sender.proxy.repeats[way] + receiver.proxy.repeats[way];
        assert(times > 3, `${way}: ${times} times`);
      }
    });
  }

  it("LongLived: a GET repeated before the POST ends both with a reason", async () => {
    const device = new Device(edge, edge.relay(), "LongLived");
    await device.sendGet();
    await device.known();
    const again = await device.sendGet(device.target, await device.open());
    await assertRefused(again, "400 Bad Request", "SecondGet");
    await assertRefused(device.get, "400 Bad Request", "SecondGet");
    await assertNothingLeft(edge, undefined, device.guid);
  });

  it("LongLived: a POST repeated before the GET ends both with a reason", async () => {
    const device = new Device(edge, edge.relay(), "LongLived");
    await device.sendPost(ECHO_TEXT);
    await device.known();
    const again = await device.sendPost(ECHO_TEXT, { on: await device.open() });
    await assertRefused(again, "400 Bad Request", "SecondPost");
    await assertRefused(device.post, "400 Bad Request", "SecondPost");
    await assertNothingLeft(edge, undefined, device.guid);
  });

  it("WebSocket: a repeated upgrade is refused with a reason, and the first connection continues", async (t) => {
    const url = `grooveDevice://${fresh("upgraded")}/pc`;
    const client = new RawClient(edge.edge, "websocket", url, {}, RELAY_NAME);
    t.after(() => client.close());
    client.connect(RELAY_NAME);
    await client.event("connected");
    const { consumer = "" } = await (await mailboxOf(edge.edge, url)).status();
    const again = await upgrade(edge.edge, target("WebSocket", RELAY_NAME, consumer), {});
    assert.equal(again, "DuplicateConnection");
    assert((await (await tunnelOf(edge.edge, consumer)).status()).live);
    const session = await client.session("grooveway", "grooveIdentity://nobody");
    assert(session > 0, "it is answered as before");
  });

  it("Polling: a repeated request gets the same octets, and its data is passed on once", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    for (const text of ["one", "two", "three"]) {
      origin.write(`re: ${text}`);
      const body = device.next(text);
      const first = await device.answer(await device.send(body));
      for (let time = 0; time < 2; time += 1) {
        assert((await device.answer(await device.send(body))).body.equals(first.body));
      }
    }
    assert.equal((await origin.take(11)).toString(), "onetwothree");
    assert.equal(origin.received.length, 0);
    origin.reset();
  });
});
