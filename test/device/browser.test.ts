/** The entry for browsers: what is in it, and what it does on a page in Chromium. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { after, before, describe, type TestContext, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device as WebDevice } from "../../src/device/browser.ts";
import { Device } from "../../src/device/index.ts";
import { openWebTransport } from "../../src/device/transports/open-web-transport.ts";
import { type Relay, startRelay } from "../../src/relay/index.ts";
import { hs256, type Issuer, jwks } from "../edge/issuer.ts";
import { listen } from "../support/sockets.ts";
import { pattern, soon } from "../support/watch.ts";
import { bundled, NO_CHROMIUM, openPage } from "./page.ts";
import { failure, take } from "./support.ts";

test("it is bundled for browsers from this package's own files and the ciphers, without a module of Node", async () => {
  const { text, metafile } = await bundled();
  const files = Object.keys(metafile.inputs);
  assert.ok(files.includes("src/device/browser.ts") && files.includes("src/encapsulation/keepalive-client.ts"));
  assert.deepEqual(
    files.filter((file) => !file.startsWith("src/") && !file.startsWith("node_modules/@noble/")),
    [],
  );
  assert.deepEqual(
    Object.values(metafile.outputs).flatMap(({ imports }) => imports),
    [],
  );
  assert.doesNotMatch(text, /\brequire\(|node:/);
});

test("on a page that came by https, an edge by plain http elsewhere is refused by name", async (t) => {
  const page = globalThis as { location?: unknown };
  page.location = { protocol: "https:" };
  t.after(() => delete page.location);
  for (const transport of ["auto", "websocket", "keepalive"] as const) {
    const refused = WebDevice.connect({ edge: "http://edge.example.com", address: "a/page", transport });
    await assert.rejects(refused, failure("MixedContent"));
  }
  // Its own machine is not elsewhere: the connection fails, or not, for other reasons.
  for (const edge of ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"]) {
    const transport = openWebTransport({ transport: "keepalive", edge, relay: "localhost" });
    await assert.rejects(transport.established, failure("ConnectFailed"));
  }
});

test("transports that a page cannot make are refused", async () => {
  const refused = WebDevice.connect({ edge: "http://127.0.0.1:1", address: "a/page", transport: "longlived" as never });
  await assert.rejects(refused, failure("InvalidOption"));
});

test("an edge that cannot be reached is named with what can be checked", async () => {
  const refused = WebDevice.connect({ edge: "http://127.0.0.1:1", address: "a/page" });
  await assert.rejects(refused, (error: Error) => {
    assert.match(error.message, /http:\/\/127\.0\.0\.1:1, and browsers do not say why: check the URL/);
    return failure("ConnectFailed")(error);
  });
});

test("KeepAlive is tried where a proxy refuses WebSockets", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
  const asked = Promise.withResolvers<string>();
  server.on("request", ({ url = "" }) => asked.resolve(url));
  const closing = new AbortController();
  const edge = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const connecting = WebDevice.connect({ edge, address: "a/page", signal: closing.signal });
  connecting.catch((error: Error) => asked.reject(error));
  t.after(() => {
    closing.abort();
    server.close();
    server.closeAllConnections();
  });
  assert.match(await soon(asked.promise, "a request"), /ConnType=KeepAlive/);
});

/** Talks to whoever is named in the hash, and sends back what it gets. */
const PAGE = `<!doctype html><title>page</title><script type="module">
  import { Device } from "/device.js";
  const { options, to } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  let result;
  try {
    const device = await Device.connect(options);
    await device.send(to, "hello from the page");
    for await (const message of device.messages()) {
      await device.send(message.from, message.body);
      message.done();
      if (message.text() === "end") break;
    }
    result = { transport: device.transport };
    await device.close();
  } catch (error) {
    result = { code: error.code, message: error.message };
  }
  await fetch("/result", { method: "POST", body: JSON.stringify(result) });
</script>`;

interface Result {
  readonly transport?: string;
  readonly code?: string;
  readonly message?: string;
}

describe("on a page in Chromium", { skip: NO_CHROMIUM }, () => {
  let relay: Relay;
  let edge: LocalEdge;
  let issuer: Issuer;
  let script: string;

  before(async () => {
    relay = await startRelay({ port: 0 });
    issuer = await hs256();
    const relayAllow = [`127.0.0.1:${relay.port}`];
    edge = await startLocalEdge({ port: 0, relayAllow, dev: "private", keys: jwks(issuer) });
    script = (await bundled()).text;
  });

  after(async () => {
    await edge.close();
    await relay.close();
  });

  /** Passes connections on to the edge, and records the methods of requests. */
  async function recorded(t: TestContext): Promise<{ readonly url: string; readonly methods: Set<string> }> {
    const methods = new Set<string>();
    const server = await listen((socket) => {
      const up = connect(Number(new URL(edge.url).port), "127.0.0.1");
      up.on("error", () => socket.destroy());
      socket.on("data", (octets: Buffer) => {
        const [, method] = /^([A-Z]+) \/\S* HTTP\/1\.1\r\n/.exec(octets.toString("latin1")) ?? [];
        if (method !== undefined) methods.add(method);
      });
      socket.pipe(up).pipe(socket);
    });
    t.after(() => server.close());
    return { url: `http://127.0.0.1:${server.port}`, methods };
  }

  for (const [transport, passed, methods] of [
    ["websocket", false, ["GET"]],
    ["keepalive", false, ["GET", "POST"]],
    // The edge itself wants the token, in a header that a page must ask for.
    ["keepalive", true, ["GET", "OPTIONS", "POST"]],
  ] as const) {
    const to = passed ? "through the edge to a relay" : "to the edge";
    test(`messages and 5 MiB both ways by ${transport} ${to}`, async (t) => {
      const through = await recorded(t);
      const token = await issuer.issue({ address: "*" });
      const way = passed ? { relay: `127.0.0.1:${relay.port}` } : {};
      const peer = await Device.connect({ ...way, edge: edge.url, address: "node/pc", transport: "longlived", token });
      t.after(() => peer.close());
      const options = { ...way, edge: through.url, address: "page/chromium", transport, token };
      const { result } = await openPage<Result>(t, { script, html: PAGE, task: { options, to: peer.address } });
      const [hello] = await soon(
        Promise.race([take(peer, 1), result.then((early) => assert.fail(JSON.stringify(early)))]),
        "the page's message",
      );
      assert.equal(hello?.text(), "hello from the page");
      assert.equal(hello?.from, "page/chromium");
      const bodies = [...Array.from({ length: 20 }, (_, n) => Buffer.from(`message ${n}`)), pattern(5 << 20, 1)];
      const sent = [...bodies, Buffer.from("end")];
      const sending = Promise.all(sent.map((body) => peer.send("page/chromium", body)));
      const back = await soon(take(peer, sent.length), "what the page sends back");
      assert.ok(back.every((message, n) => Buffer.from(message.body).equals(sent[n] ?? Buffer.alloc(0))));
      await sending;
      assert.deepEqual(await soon(result, "the result"), { transport });
      assert.deepEqual([...through.methods].sort(), methods);
    });
  }

  test("a token that an edge refuses is refused by the edge, not by a relay", async () => {
    const refused = WebDevice.connect({ edge: edge.url, address: "page/node", token: "h.e30.s" });
    await assert.rejects(refused, { code: "TokenRefused", message: /^the edge cannot verify the token/ });
  });

  test("a refused token is named, by the best way that works", async (t) => {
    const token = await issuer.issue({ address: "someone/else" });
    const options = { edge: edge.url, address: "page/chromium", token };
    const { result } = await openPage<Result>(t, { script, html: PAGE, task: { options, to: "node/pc" } });
    const { code } = await soon(result, "the refusal");
    assert.equal(code, "TokenRefused");
  });
});
