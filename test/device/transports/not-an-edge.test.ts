/** A foreign answer at an edge's URL is reported in one sentence, the same for every transport. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { Device, DeviceError, openTransport, type TransportName } from "../../../src/device/index.ts";
import { askEdge } from "../../../src/device/transports/ask-edge.ts";
import { foreignAnswer, notHttp } from "../../../src/device/transports/not-an-edge.ts";
import { listen } from "../../support/sockets.ts";

/** Answers everything with these octets, then closes. */
async function answering(t: TestContext, answer: string | Uint8Array): Promise<string> {
  const server = await listen((socket) => {
    socket.once("data", () => socket.end(answer));
  });
  t.after(() => server.close());
  return `http://127.0.0.1:${server.port}/groove`;
}

function response(status: string, headers: Readonly<Record<string, string>> = {}, body = ""): string {
  const lines = Object.entries({ ...headers, "Content-Length": String(body.length), Connection: "close" });
  return `HTTP/1.1 ${status}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`;
}

const HTML = { "Content-Type": "text/html; charset=utf-8" };
const PAGE = "<!doctype html><html><head><title>Hotel &#8211; Welcome</title></head><body>Log in</body></html>";
const WITH_PAGE = `with the page "Hotel &#8211; Welcome"`;

const CASES: readonly (readonly [
  name: string,
  answer: string | Uint8Array,
  code: DeviceError["code"],
  message: string,
])[] = [
  [
    "a captive portal that redirects to its login page",
    response("302 Found", { Location: "http://portal.example.net/login?from=edge" }),
    "NotAnEdge",
    `URL answered 302 Found, a redirect to "http://portal\\.example\\.net/login\\?from=edge", which no edge does; .*login page`,
  ],
  [
    "a login page in place of the answer",
    response("200 OK", HTML, PAGE),
    "NotAnEdge",
    `URL answered 200 OK ${WITH_PAGE}, which no edge does; .*login page`,
  ],
  ["204 without a body", response("204 No Content"), "NotAnEdge", "URL answered 204 No Content with an empty body, "],
  [
    "the status for networks that require a login [RFC 6585 6]",
    response("511 Network Authentication Required", HTML, PAGE),
    "NotAnEdge",
    `URL answered 511 Network Authentication Required ${WITH_PAGE}, .*login page`,
  ],
  [
    "another server's JSON",
    response("200 OK", { "Content-Type": "application/json" }, '{"status":"ok"}'),
    "NotAnEdge",
    'URL answered 200 OK with "application/json", which no edge does; ',
  ],
  [
    "another server without this path",
    response("404 Not Found", HTML, PAGE),
    "NotAnEdge",
    `URL answered 404 Not Found ${WITH_PAGE}, which no edge does; check the URL and its path`,
  ],
  [
    "a firewall's page",
    response("403 Forbidden", HTML, PAGE),
    "NotAnEdge",
    `URL answered 403 Forbidden ${WITH_PAGE}, .*a proxy or firewall`,
  ],
  [
    "a server that redirects to TLS",
    response("301 Moved Permanently", { Location: "https://127.0.0.1/groove/x" }),
    "NotAnEdge",
    'URL answered 301 Moved Permanently, a redirect to "https://127\\.0\\.0\\.1/groove/x"; write https://127\\.0\\.0\\.1/groove$',
  ],
  [
    "a server that requires TLS and says so",
    response("400 Bad Request", HTML, "<title>400 The plain HTTP request was sent to HTTPS port</title>"),
    "TlsFailed",
    "URL is plain HTTP, but the server speaks TLS on this port; write https://127\\.0\\.0\\.1:\\d+/groove$",
  ],
  [
    "a server that requires TLS and answers in TLS",
    Uint8Array.of(0x15, 3, 3, 0, 2, 2, 0x32),
    "TlsFailed",
    "URL is plain HTTP, but the server speaks TLS on this port; write https://127\\.0\\.0\\.1:\\d+/groove$",
  ],
  [
    "a server of another protocol",
    "SSH-2.0-OpenSSH_9.6\r\n",
    "NotAnEdge",
    'URL does not speak HTTP: it said "SSH-2\\.0-OpenSSH_9\\.6"; check host and port',
  ],
  ["nothing", "", "ConnectFailed", "URL closed the connection without an answer; .*if it speaks TLS, write https://"],
  [
    "headers that violate HTTP",
    "HTTP/1.1 302 Found\r\nLocation: \u001b[2K\r\n\r\n",
    "NotAnEdge",
    'URL answered "HTTP/1\\.1 302 Found" and invalid HTTP headers; ',
  ],
  [
    "a proxy in front of an edge that is down",
    response("502 Bad Gateway", HTML, PAGE),
    "ConnectFailed",
    `URL answered 502 Bad Gateway ${WITH_PAGE}, which is not the edge's: a proxy in front of it failed, or the edge is down`,
  ],
  [
    "a proxy that requires a password",
    response("407 Proxy Authentication Required", { "Proxy-Authenticate": "Basic" }),
    "ConnectFailed",
    "URL answered 407 Proxy Authentication Required: a proxy in between requires a password",
  ],
  [
    "a character that would affect a terminal",
    response("302 Found", { Location: "http://portal.example.net/\u202e" }),
    "NotAnEdge",
    'a redirect to "http://portal\\.example\\.net/[%0-9A-F]+"',
  ],
];

function isHttp(answer: string | Uint8Array): boolean {
  return String(answer).startsWith("HTTP/");
}

const WAYS: readonly TransportName[] = ["websocket", "longlived", "keepalive", "polling"];

describe("an answer that is not from an edge", () => {
  for (const [name, answer, code, message] of CASES) {
    it(name, async (t) => {
      const edge = await answering(t, answer);
      const judge = (way: string) => (error: unknown) => {
        assert.ok(error instanceof DeviceError, `${way}: ${error}`);
        const text = error.message.replaceAll(edge, "URL");
        assert.match(text, new RegExp(message), way);
        assert.deepEqual([error.code, error.retryable], [code, true], way);
        return true;
      };
      for (const transport of WAYS) {
        // Polling retries a possibly temporary failure four times within seconds.
        if (transport === "polling" && (!isHttp(answer) || /^HTTP.{5}50/.test(String(answer)))) continue;
        const opened = openTransport({ transport, relay: "edge.example.com", edge });
        await assert.rejects(opened.established, judge(transport));
        assert.equal(opened.failure?.code, code, transport);
      }
      const question = { edge: new URL(edge), path: "/admin/mailboxes", expects: Array.isArray };
      await assert.rejects(askEdge(question), judge("askEdge"));
    });
  }

  it("is reported to a connecting device", async (t) => {
    const edge = await answering(t, response("302 Found", { Location: "/login" }));
    await assert.rejects(Device.connect({ edge, address: "alice/laptop" }), (error: DeviceError) => {
      assert.equal(error.code, "NotAnEdge");
      assert.match(error.message, /a redirect to "http:\/\/127\.0\.0\.1:\d+\/login"/);
      return true;
    });
  });
});

it("a captive portal ends an established connection with NotAnEdge", async (t) => {
  let requests = 0;
  const echo = "GroovePing: 1.0,Ping\r\n";
  const server = await listen((socket) => {
    socket.on("data", (octets: Buffer) => {
      // The KeepAlive handshake succeeds; then the network requires a login.
      requests += 1;
      const isPost = octets.subarray(0, 4).toString() === "POST";
      const head = (length: number) =>
        `HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: Keep-Alive\r\nContent-Length: ${length}\r\n\r\n`;
      if (requests > 2) socket.end(response("302 Found", { Location: "http://portal.example.net/" }));
      else socket.write(isPost ? head(0) : `${head(echo.length)}${echo}`);
    });
  });
  t.after(() => server.close());
  const edge = `http://127.0.0.1:${server.port}`;
  const opened = openTransport({ transport: "keepalive", relay: "edge.example.com", edge });
  await opened.established;
  assert.equal(await opened.read(), undefined);
  assert.equal(opened.failure?.code, "NotAnEdge");
  assert.match(opened.lost?.detail ?? "", /a redirect to "http:\/\/portal\.example\.net\/"/);
});

it("any foreign answer becomes one line without control characters", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("text/html", "https://127.0.0.1/", "//x", "\u001b[2K"),
  );
  const body = fc.oneof(
    fc.uint8Array(),
    text.map((title) => Buffer.from(`<title>${title}</title>`)),
  );
  const headers = fc.dictionary(fc.constantFrom("location", "content-type", "content-length"), text);
  const told = (error: DeviceError) => {
    assert.match(error.message, /^http:\/\/127\.0\.0\.1:8787\/groove \P{C}+$/u);
    assert.ok(["NotAnEdge", "TlsFailed", "ConnectFailed"].includes(error.code));
  };
  const edge = new URL("http://name:password@127.0.0.1:8787/groove/");
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 999 }), text, headers, body, (status, phrase, named, octets) => {
      told(foreignAnswer(edge, { status, phrase, header: (name) => named[name], body: octets }));
      told(notHttp(edge, octets));
    }),
  );
});

describe("a request to an edge", () => {
  const question = (edge: string) => ({ edge: new URL(edge), path: "/admin/x", expects: Array.isArray });

  it("returns the value", async (t) => {
    const edge = await answering(t, response("200 OK", { "Content-Type": "application/json" }, "[1]"));
    assert.deepEqual(await askEdge(question(edge)), { ok: true, value: [1] });
  });

  it("returns the edge's reason and cure, with control characters escaped", async (t) => {
    const body = JSON.stringify({ code: "TooManyMisses", detail: "Too many.\u001b[2K", cure: "Wait." });
    const headers = { "Grooveway-Reason": "TooManyMisses", "Retry-After": "7" };
    const edge = await answering(t, response("500 Internal Server Error", headers, body));
    assert.deepEqual(await askEdge(question(edge)), {
      ok: false,
      status: 500,
      code: "TooManyMisses",
      detail: "Too many.\\e[2K",
      cure: "Wait.",
      retryAfter: 7,
      edgeName: undefined,
    });
  });

  it("sends the path prefix, the token and the body, and does not keep the connection alive", async (t) => {
    let request = "";
    const server = await listen((socket) => {
      socket.on("data", (octets) => {
        request += octets;
        if (request.endsWith("{}")) socket.end(response("200 OK", {}, "[]"));
      });
    });
    t.after(() => server.close());
    const edge = `http://127.0.0.1:${server.port}/groove/`;
    await askEdge({ ...question(edge), method: "PUT", token: "a.b.c", body: {} });
    assert.match(request, /^PUT \/groove\/admin\/x HTTP\/1\.1\r\n/);
    assert.match(request, new RegExp(`^host: 127\\.0\\.0\\.1:${server.port}\r$`, "im"));
    assert.match(request, /^authorization: Bearer a\.b\.c\r$/im);
    assert.match(request, /^connection: close\r$/im);
  });

  it("reports an answer that is cut off or far too long", async (t) => {
    const cut = await answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[");
    await assert.rejects(askEdge(question(cut)), /cut its answer off/);
    const long = "x".repeat(5 * 1024 * 1024);
    const endless = await answering(t, response("200 OK", { "Content-Type": "text/plain" }, long));
    await assert.rejects(askEdge(question(endless)), { code: "NotAnEdge" });
  });

  it("ends when its signal aborts", async (t) => {
    const server = await listen((socket) => socket.resume().on("end", () => socket.end()));
    t.after(() => server.close());
    const abort = new AbortController();
    const asking = askEdge({ ...question(`http://127.0.0.1:${server.port}`), signal: abort.signal });
    while (server.connections.size === 0) await new Promise((resolve) => setImmediate(resolve));
    abort.abort(new Error("closed"));
    await assert.rejects(asking, /closed/);
  });
});

it("an error about a foreign answer omits credentials that the answer echoes", async (t) => {
  const [token, basic] = [
    "eyJhbGciOiJFZERTQSJ9.eyJhdWQiOiJlZGdlIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbi1oZXJl",
    "YWxpY2U6cHc=",
  ];
  const heard = [`Bearer ${token}`, `Basic ${basic}`, token, Buffer.from(token).toString("base64")].join(" ");
  const pages = [
    response(`403 ${heard}`),
    response("200 OK", HTML, `<title>${heard}</title>`),
    response("302 Found", { Location: `http://portal.example.net/?${encodeURIComponent(heard)}` }),
    response("200 OK", { "Content-Type": heard }),
    response("403 Forbidden", { "Grooveway-Reason": "LockedOut", "Grooveway-Detail": heard, "Grooveway-Cure": heard }),
    response("403 Forbidden", { "Grooveway-Reason": "LockedOut" }, JSON.stringify({ detail: heard, cure: heard })),
  ];
  for (const page of pages) {
    const edge = await answering(t, page);
    const asked = await askEdge({ edge: new URL(edge), path: "/x", token, expects: () => true }).catch(String);
    const opened = openTransport({ transport: "keepalive", edge, relay: "edge" });
    await assert.rejects(opened.established);
    const told = JSON.stringify([asked, opened.lost?.detail, opened.lost?.cure, opened.failure?.message]);
    assert.ok(told.length > 20);
    for (const secret of [basic, ...token.split("."), Buffer.from(token).toString("base64")]) {
      assert.ok(!told.includes(secret), `${secret} in ${told}`);
    }
  }
});
