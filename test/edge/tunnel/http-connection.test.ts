/** A KeepAlive virtual connection with bodies over 32768 octets, whose requests break off, repeat and are not read. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HttpConnection } from "../../../src/edge/tunnel/http-connection.ts";
import { REPEAT_PATIENCE } from "../../../src/edge/tunnel/limits.ts";
import {
  ECHO_STRING,
  type KeepAliveTarget,
  openVirtualConnection,
  parseTarget,
  STREAMED_BODY,
  type VirtualConnection,
} from "../../../src/encapsulation/index.ts";
import { type FakeTunnel, fakeTunnel } from "./connections.ts";

// The platform's stream, which holds nothing: a write waits until it is read.
Object.assign(globalThis, { IdentityTransformStream: TransformStream });

const GUID = "0123456789abcdef0123456789abcdef";

function nth(n: number, query = ""): KeepAliveTarget {
  const parsed = parseTarget(`/2.0/a/${GUID},ConnType=KeepAlive,ID=gw-${n}${query}`);
  assert(parsed.type === "target" && parsed.target.encapsulation === "KeepAlive");
  return parsed.target;
}

interface Grown {
  readonly tunnel: FakeTunnel;
  readonly connection: HttpConnection;
  readonly state: VirtualConnection;
}

/** An established virtual connection. Its next requests have the number 2. */
async function grown(): Promise<Grown> {
  const tunnel = fakeTunnel();
  const first = nth(1, `?Body=${STREAMED_BODY}`);
  const state = openVirtualConnection(first, Date.now());
  const connection = new HttpConnection(tunnel.context, state);
  tunnel.connection = connection;
  await connection.exchange(nth(1), ECHO_STRING);
  await connection.get(first);
  assert.equal(state.connectionState, "Established");
  return { tunnel, connection, state };
}

/** A body that comes in pieces, at the test's pace. */
function body(): { readonly stream: ReadableStream<Uint8Array>; push(octets: Uint8Array): void; end(): void } {
  let controller: ReadableByteStreamController | undefined;
  const stream = new ReadableStream({
    type: "bytes",
    start(given) {
      controller = given;
    },
  });
  return {
    stream,
    push: (octets) => controller?.enqueue(new Uint8Array(octets)),
    end() {
      controller?.close();
      // A read that waits must learn of it.
      controller?.byobRequest?.respond(0);
    },
  };
}

async function until(holds: () => boolean): Promise<void> {
  // Not a timer, which may be mocked.
  while (!holds()) await new Promise(setImmediate);
}

/** Lets everything that waits for no timer run. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
}

function came({ tunnel }: Grown): string {
  return Buffer.concat(tunnel.relay.came).toString();
}

describe("a POST that comes in parts", () => {
  const OCTETS = Buffer.alloc(60_000, 7);

  /** A POST of which 50,000 bytes have come, and its virtual connection. */
  async function begun() {
    const all = await grown();
    const first = body();
    const answer = all.connection.exchangeStream(nth(2), OCTETS.length, first.stream);
    first.push(OCTETS.subarray(0, 50_000));
    await until(() => all.state.bodyLength === 50_000);
    return { ...all, first, answer };
  }

  it("is not taken for gone while a repeat brings what came before", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { connection, tunnel, first, answer } = await begun();
    const again = body();
    const repeat = connection.exchangeStream(nth(2), OCTETS.length, again.stream);
    first.end();
    await answer;
    for (let at = 0; at < 40_000; at += 10_000) {
      again.push(OCTETS.subarray(at, at + 10_000));
      await turns();
      t.mock.timers.tick(REPEAT_PATIENCE);
      await turns();
      assert.equal(tunnel.ended, undefined);
    }
    again.push(OCTETS.subarray(40_000));
    again.end();
    assert.deepEqual(await repeat, { ok: true });
    assert.equal(Buffer.concat(tunnel.relay.came).length, OCTETS.length);
  });

  it("is taken for gone when only what was in flight has come after it broke off", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { connection, tunnel, first } = await begun();
    connection.brokeOff(nth(2));
    first.push(OCTETS.subarray(0, 1000));
    for (let time = 0; time < 2; time += 1) {
      assert.equal(tunnel.ended, undefined);
      await turns();
      t.mock.timers.tick(REPEAT_PATIENCE);
      await turns();
    }
    assert.equal(tunnel.ended, "DeviceGone");
  });

  it("is not completed by a shorter repeat, of which less has come", async () => {
    const all = await grown();
    const { connection, tunnel, state } = all;
    const long = body();
    const longer = connection.exchangeStream(nth(2), 12, long.stream);
    long.push(Buffer.from("abc"));
    await until(() => state.bodyLength === 3);
    const { promise, resolve } = Promise.withResolvers<void>();
    tunnel.relay.blocked = promise;
    const shorter = connection.exchange(nth(2), Buffer.from("abcdef"));
    // Its device has cut it: the rest of it comes again with the next number.
    long.push(Buffer.from("defghijkl"));
    long.end();
    resolve();
    assert.deepEqual([await shorter, await longer], [{ ok: true }, { ok: false, reason: "OldRequest" }]);
    assert.deepEqual(await connection.exchange(nth(3), Buffer.from("ghijkl")), { ok: true });
    assert.equal(came(all), "abcdefghijkl");
  });

  it("that is complete is not repeated with another length", async () => {
    for (const other of ["abc", "abcdefghi"]) {
      const { connection, tunnel } = await grown();
      assert.ok((await connection.exchange(nth(2), Buffer.from("abcdef"))).ok);
      assert.ok((await connection.exchange(nth(2), Buffer.from("abcdef"))).ok);
      const verdict = await connection.exchange(nth(2), Buffer.from(other));
      assert.deepEqual([verdict.ok, tunnel.ended], [false, "BadSequence"]);
    }
  });

  it("whose relay is slow is not repeated with a longer body", async () => {
    const all = await grown();
    const { connection, tunnel } = all;
    const { promise, resolve } = Promise.withResolvers<void>();
    tunnel.relay.blocked = promise;
    const first = connection.exchange(nth(2), Buffer.from("abcdef"));
    const longer = body();
    const repeat = connection.exchangeStream(nth(2), 9, longer.stream);
    longer.push(Buffer.from("abcdefghi"));
    longer.end();
    assert.deepEqual(await repeat, { ok: false, reason: "OldRequest" });
    resolve();
    assert.deepEqual(await first, { ok: true });
    assert.equal(came(all), "abcdef");
  });
});

it("a GET that is repeated again and again waits for the relay once", async (t) => {
  const { Response: real } = globalThis;
  t.after(() => Object.assign(globalThis, { Response: real }));
  Object.assign(globalThis, {
    WebSocketPair: class {
      readonly 0 = { close: () => undefined };
      readonly 1 = { close: () => undefined, send: () => undefined };
    },
    // Node's refuses the status of an upgrade.
    Response: class {},
  });
  const { connection, tunnel } = await grown();
  for (let time = 0; time < 100; time += 1) await connection.get(nth(2));
  assert.ok(tunnel.relay.waiting < 5, `${tunnel.relay.waiting} calls wait`);
});

describe("an answer that is streamed", () => {
  const MUCH = Buffer.alloc(256 * 1024, 7);

  /** A GET whose answer has begun with 256 KiB. */
  async function streamed(): Promise<Grown & { readonly answer: Response }> {
    const all = await grown();
    all.state.down = { limit: STREAMED_BODY, next: 1024 * 1024 };
    all.tunnel.relay.send(MUCH);
    return { ...all, answer: await all.connection.get(nth(2)) };
  }

  async function read({ body }: Response): Promise<number> {
    let length = 0;
    for await (const octets of body ?? []) length += octets.length;
    return length;
  }

  it("breaks off when the virtual connection ends, even if its device does not read", async () => {
    const { connection, answer } = await streamed();
    connection.end("TokenExpired");
    await assert.rejects(read(answer));
  });

  it("does not count the pause at its end as slowness of the device", async () => {
    const { connection, state, answer } = await streamed();
    const noted = state.downAt;
    assert.equal(await read(answer), MUCH.length);
    await until(() => connection.save() !== "unsettled");
    assert.ok(state.downAt - noted >= 200, `${state.downAt - noted} ms`);
  });

  it("is read before the next one begins", async () => {
    const { connection, tunnel, answer } = await streamed();
    const next = connection.get(nth(3));
    tunnel.relay.send(MUCH);
    const begun = await Promise.race([next, sleep(200)]);
    assert.equal(begun, undefined);
    assert.equal(await read(answer), 2 * MUCH.length);
    tunnel.relay.send(MUCH);
    assert.equal(await read(await next), MUCH.length);
  });
});
