/** What the transports of browsers make of `fetch` and `WebSocket`, which are scripted here. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import type { DeviceError } from "../../../src/device/device-error.ts";
import { CLOSE_TIMEOUT, UNREAD_MESSAGES } from "../../../src/device/limits.ts";
import type { LineEvents } from "../../../src/device/transports/client-transport.ts";
import { fetchLines } from "../../../src/device/transports/fetch-line.ts";
import { openWebTransport } from "../../../src/device/transports/open-web-transport.ts";
import { webWebSockets } from "../../../src/device/transports/web-websocket.ts";
import { ResponseReader } from "../../../src/encapsulation/http-body.ts";
import { failure } from "../support.ts";

const EDGE = new URL("http://127.0.0.1:1/groove");
const encoder = new TextEncoder();

interface ScriptedAnswer {
  readonly type?: string;
  readonly status: number;
  readonly statusText: string;
  readonly headers: Iterable<readonly [string, string]>;
  readonly body: ReadableStream<Uint8Array> | null;
}

/** Replaces a global until the end of the test. */
function replace(t: TestContext, name: "fetch" | "WebSocket", value: unknown): void {
  const before = globalThis[name];
  Object.assign(globalThis, { [name]: value });
  t.after(() => Object.assign(globalThis, { [name]: before }));
}

/** A line whose output is recorded. */
function opened(headers: Record<string, string> = {}) {
  const came: Uint8Array[] = [];
  const ends: (Error | undefined)[] = [];
  const events: LineEvents = {
    onConnected: () => undefined,
    onData: (octets) => void came.push(octets),
    onDrain: () => undefined,
    onEnd: (error) => void ends.push(error),
  };
  return { line: fetchLines({ edge: EDGE, headers })(events), came, ends };
}

function request(method: "GET" | "POST", ...body: string[]): Uint8Array[] {
  return [`${method} /groove/2.0/x HTTP/1.0\r\nHost: x\r\n\r\n`, ...body].map((text) => encoder.encode(text));
}

describe("a line of fetch calls", () => {
  it("makes a call of each request, without headers that a browser would ask about first", async (t) => {
    const calls: { url: string; body?: string; headers: unknown; credentials: unknown; redirect: unknown }[] = [];
    replace(t, "fetch", async (url: URL, options: Record<string, unknown>) => {
      const body = options.body === undefined ? {} : { body: Buffer.from(options.body as Uint8Array).toString() };
      const { headers, credentials, redirect } = options;
      calls.push({ url: url.href, headers, credentials, redirect, ...body });
      return new Response(null);
    });
    const { line } = opened();
    line.write(request("GET"));
    line.write(request("POST", "one ", "two"));
    const common = { url: "http://127.0.0.1:1/groove/2.0/x", headers: {}, credentials: "omit", redirect: "manual" };
    assert.deepEqual(calls, [common, { ...common, body: "one two" }]);
  });

  it("gives back any answer as HTTP that reads the same", async (t) => {
    const line = fc.string({ unit: fc.constantFrom(..."abc XYZ-/;=,09"), maxLength: 20 }).map((text) => text.trim());
    const names = fc.constantFrom("grooveway-reason", "retry-after", "content-type", "content-length", "connection");
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 200, max: 599 }).filter((status) => status !== 204 && status !== 304),
        line,
        fc.dictionary(names, line),
        fc.array(fc.uint8Array({ maxLength: 300 })),
        async (status, statusText, headers, pieces) => {
          const answer: ScriptedAnswer = {
            status,
            statusText,
            headers: Object.entries(headers),
            body: new ReadableStream<Uint8Array>({
              start(controller) {
                for (const piece of pieces) controller.enqueue(piece);
                controller.close();
              },
            }),
          };
          replace(t, "fetch", async () => answer);
          const { line: tested, came } = opened();
          tested.write(request("GET"));
          const reader = new ResponseReader();
          reader.expect();
          const body: Uint8Array[] = [];
          while (reader.outstanding) {
            await turn();
            for (const event of came.splice(0).flatMap((octets) => reader.feed(octets))) {
              assert.notEqual(event.type, "fault");
              if (event.type === "head") {
                assert.equal(event.head.status, status);
                const read = new Map(event.head.headers);
                assert.equal(read.get("retry-after"), headers["retry-after"]);
                assert.equal(read.get("content-length"), undefined);
              }
              if (event.type === "data") body.push(event.data);
              if (event.type === "end") assert.deepEqual(Buffer.concat(body), Buffer.concat(pieces));
            }
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it("reads nothing more while it is paused", async (t) => {
    let pulls = 0;
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulls += 1;
          controller.enqueue(new Uint8Array(1000));
          if (pulls === 50) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
    replace(t, "fetch", async () => new Response(body));
    const { line, came } = opened();
    line.write(request("GET"));
    line.pause();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    assert.equal(pulls, 0);
    line.resume();
    while (pulls < 50) await turn();
    await turn();
    assert.equal(came.filter(({ length }) => length === 1000).length, 50);
  });

  it("ends a GET at once, and a POST once it has had time to arrive", async (t) => {
    const aborted: string[] = [];
    replace(t, "fetch", (_url: URL, { method, signal }: { method: string; signal: AbortSignal }) => {
      signal.addEventListener("abort", () => aborted.push(method));
      return new Promise(() => undefined);
    });
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { line } = opened();
    line.write(request("GET"));
    line.write(request("POST", "the last words"));
    line.close();
    assert.deepEqual(aborted, ["GET"]);
    t.mock.timers.tick(CLOSE_TIMEOUT - 1);
    assert.deepEqual(aborted, ["GET"]);
    t.mock.timers.tick(1);
    assert.deepEqual(aborted, ["GET", "POST"]);
  });

  it("follows no redirect, wherever it leads", async (t) => {
    replace(t, "fetch", async () => ({ type: "opaqueredirect", status: 0, statusText: "", headers: [], body: null }));
    const transport = openWebTransport({ transport: "keepalive", relay: "127.0.0.1", edge: EDGE.href });
    await assert.rejects(transport.established, failure("NotAnEdge"));
  });
});

/** A WebSocket of which the test plays the other side. */
class ScriptedSocket extends EventTarget {
  static last: ScriptedSocket | undefined;
  binaryType = "";
  bufferedAmount = 0;
  readonly sent: unknown[] = [];
  isClosed = false;

  constructor() {
    super();
    ScriptedSocket.last = this;
  }

  send(data: unknown): void {
    this.sent.push(data);
  }

  close(): void {
    this.isClosed = true;
  }

  say(type: "open" | "message" | "error" | "close", what: object = {}): void {
    this.dispatchEvent(Object.assign(new Event(type), what));
  }
}

describe("a browser's WebSocket", () => {
  function connected(t: TestContext) {
    replace(t, "WebSocket", ScriptedSocket);
    const closed: (DeviceError | undefined)[] = [];
    const received: (Uint8Array | string)[] = [];
    let sent = 0;
    const socket = webWebSockets(EDGE)(new URL("ws://127.0.0.1:1"), {
      onOpen: () => undefined,
      onMessage: (data) => void received.push(data),
      onSent: () => {
        sent += 1;
      },
      onClose: (_code, _reason, why) => void closed.push(why),
    });
    const platform = ScriptedSocket.last;
    assert(platform);
    return { socket, platform, closed, received, sent: () => sent };
  }

  it("that brings more than an honest edge may while nobody reads is ended", (t) => {
    const { socket, platform, closed, received } = connected(t);
    platform.say("open");
    const data = new ArrayBuffer(UNREAD_MESSAGES / 2);
    socket.pause();
    for (let count = 0; count < 2; count += 1) platform.say("message", { data });
    assert.deepEqual(closed, []);
    socket.resume();
    socket.pause();
    for (let count = 0; count < 2; count += 1) platform.say("message", { data });
    assert.deepEqual(closed, []);
    platform.say("message", { data: new ArrayBuffer(1) });
    assert.ok(closed.length === 1 && failure("ConnectFailed")(closed[0]));
    assert.ok(platform.isClosed);
    // Nothing after the end counts.
    platform.say("message", { data });
    platform.say("close", { code: 1000, reason: "" });
    assert.equal(received.length, 5);
    assert.equal(closed.length, 1);
  });

  it("that brings more text than an honest edge may is ended too", (t) => {
    const { socket, platform, closed } = connected(t);
    platform.say("open");
    socket.pause();
    platform.say("message", { data: "x".repeat(UNREAD_MESSAGES) });
    assert.deepEqual(closed, []);
    platform.say("message", { data: "x" });
    assert.ok(closed.length === 1 && failure("ConnectFailed")(closed[0]));
  });

  it("that fails without saying that it is closed is ended", (t) => {
    const { platform, closed } = connected(t);
    platform.say("error");
    assert.match(closed[0]?.message ?? "", /no connection by websocket/);
  });

  it("reports when its output has left", (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const { socket, platform, sent } = connected(t);
    platform.say("open");
    platform.bufferedAmount = 10 << 20;
    socket.send(new Uint8Array(1));
    t.mock.timers.tick(1000);
    assert.equal(sent(), 0);
    platform.bufferedAmount = 0;
    t.mock.timers.tick(1000);
    assert.equal(sent(), 1);
  });

  it("that is refused names what can be checked", (t) => {
    const { platform, closed } = connected(t);
    platform.say("close", { code: 1006, reason: "" });
    assert.match(closed[0]?.message ?? "", /browsers do not say why: check the URL; .*connect-src/);
  });
});
