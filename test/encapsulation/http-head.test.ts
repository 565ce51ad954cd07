import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ResponseHead } from "../../src/encapsulation/index.ts";
import {
  BodyReader,
  ECHO_STRING,
  EncapsulationError,
  formatRequest,
  framingOf,
  HEAD_LIMIT,
  headerOf,
  keepsConnection,
  REASONS,
  REGISTRY,
  ResponseHeadReader,
  ResponseReader,
  STATUS_PAIRS,
} from "../../src/encapsulation/index.ts";
import { GUID, join, octets, text } from "./support.ts";

const TARGET = `/2.0/server.domain.net/${GUID},ConnType=KeepAlive`;

/** Example [4.2], GET connection. */
const EXAMPLE_GET = [
  `GET ${TARGET} HTTP/1.0`,
  "Accept: */*",
  "Content-Type: application/octet-stream",
  "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
  "Host: 10.150.1.226",
  "Pragma: no-cache",
  "Cache-Control: no-cache",
  "Expires: 0",
  "Connection: Keep-Alive",
  "Cache-Control: max-age=0",
  "",
  "",
].join("\r\n");

/** Example [4.2], POST connection. */
const EXAMPLE_POST = [
  `POST ${TARGET} HTTP/1.0`,
  "Accept: */*",
  "Content-Type: application/octet-stream",
  "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
  "UserAgent: server.domain.net",
  "Connection: Keep-Alive",
  "Content-Length: 22",
  "Pragma: no-cache",
  "Cache-Control: no-cache",
  "Expires: 0",
  "Cache-Control: max-age=0",
  "",
  "GroovePing: 1.0,Ping\r\n",
].join("\r\n");

function responseOf(input: string): ResponseHead {
  const read = new ResponseHeadReader().feed(octets(input));
  assert.equal(read.type, "head", input);
  if (read.type !== "head") throw new Error("no head");
  return read.head;
}

function faultOf(input: string): string {
  const read = new ResponseHeadReader().feed(octets(input));
  return read.type === "fault" ? read.reason : read.type;
}

test("[4.2] the KeepAlive GET matches the example octet for octet", () => {
  const made = formatRequest({ method: "GET", encapsulation: "KeepAlive", target: TARGET, host: "10.150.1.226" });
  assert.equal(text(made), EXAMPLE_GET);
});

test("[4.2] the KeepAlive POST matches the example octet for octet, except for the error in the Host line", () => {
  const fields = { method: "POST", encapsulation: "KeepAlive", target: TARGET, contentLength: 22 } as const;
  const made = text(join([formatRequest({ ...fields, host: "server.domain.net" }), ECHO_STRING]));
  assert.equal(made, EXAMPLE_POST.replace("UserAgent: server", "Host: server"));
});

/** Example [4.2], the response to the POST. */
const EXAMPLE_RESPONSE =
  "HTTP/1.0 200 OK\r\nDate: Wed, 26 Dec 2007 19:50:26 GMT\r\nServer: Groove-Relay/12.0\r\n" +
  "Connection: Keep-Alive\r\nContent-Length: 22\r\n\r\nGroovePing: 1.0,Ping\r\n";

test("[4.2] a client accepts the example of a response", () => {
  const read = new ResponseHeadReader().feed(octets(EXAMPLE_RESPONSE));
  assert.ok(read.type === "head");
  assert.deepEqual([read.head.status, read.head.phrase, read.head.minor], [200, "OK", 0]);
  assert.deepEqual(framingOf(read.head), { type: "length", length: 22 });
  assert.equal(headerOf(read.head.headers, "Connection"), "Keep-Alive");
  assert.deepEqual(read.rest, ECHO_STRING);
});

test("[2.2.1.2.8] both Cache-Control directives MUST be sent, each in its own header", () => {
  for (const method of ["GET", "POST"] as const) {
    for (const encapsulation of ["LongLived", "KeepAlive", "Polling"] as const) {
      const made = text(formatRequest({ method, encapsulation, target: "/", host: "a" }));
      assert.equal(made.match(/^Cache-Control: no-cache\r$/gm)?.length, 1);
      assert.equal(made.match(/^Cache-Control: max-age=0\r$/gm)?.length, 1);
    }
  }
});

test("[2.2.2.1, 2.2.4.1] LongLived and Polling requests have no Connection header", () => {
  const longLived = text(formatRequest({ method: "GET", encapsulation: "LongLived", target: "/", host: "a" }));
  assert.ok(!/^Connection/m.test(longLived));
  const polling = formatRequest({ method: "POST", encapsulation: "Polling", target: "/", host: "a", contentLength: 5 });
  assert.ok(!/^Connection/m.test(text(polling)));
  assert.match(text(polling), /^Content-Length: 5\r$/m);
});

test("[2.2.3.1] Proxy-Connection is sent only to a proxy, and the version MUST be HTTP/1.0", () => {
  const fields = { method: "GET", encapsulation: "KeepAlive", target: TARGET, host: "a" } as const;
  assert.ok(!text(formatRequest(fields)).includes("Proxy-Connection"));
  const proxied = text(formatRequest({ ...fields, proxy: true, headers: [["Proxy-Authorization", "Basic eA=="]] }));
  assert.ok(proxied.includes("Proxy-Connection: Keep-Alive\r\nProxy-Authorization: Basic eA==\r\n\r\n"));
  assert.match(proxied, /^GET [^ ]+ HTTP\/1\.0\r\n/);
});

test("[2.2.1.4] a server MUST use only the twelve status pairs", () => {
  const pairs = Object.entries(STATUS_PAIRS).map(([code, phrase]) => `${code} ${phrase}`);
  assert.deepEqual(pairs, [
    "200 OK",
    "302 Moved Temporarily",
    "304 Not Modified",
    "400 Bad Request",
    "401 Unauthorized",
    "403 Not Valid",
    "404 Not Found",
    "407 ProxyAuthentication Required",
    "408 Request Time-out",
    "500 Internal Server Error",
    "501 Not Implemented",
    "505 HTTP Version Not Supported",
  ]);
  for (const [code, phrase] of Object.entries(STATUS_PAIRS)) {
    const head = responseOf(`HTTP/1.0 ${code} ${phrase}\r\n\r\n`);
    assert.deepEqual([head.status, head.phrase], [Number(code), phrase]);
  }
});

test("every reason has one of the twelve status pairs or is local to the client, and has a cause and a cure", () => {
  for (const [name, rule] of Object.entries(REASONS)) {
    assert.ok(rule.status === null || rule.status in STATUS_PAIRS, name);
    assert.ok(rule.cause.endsWith(".") && rule.cure.endsWith("."), name);
  }
});

test("every fact in the registry cites a section, and unreadable ones are marked", () => {
  for (const [name, fact] of Object.entries(REGISTRY)) assert.match(fact.section, /^[1-4]\.\d/, name);
  const assumed = Object.entries(REGISTRY).filter(([, fact]) => fact.assumed);
  const names = assumed.map(([name]) => name);
  for (const name of ["echoString", "keepAlivePostAnswer", "pollingPath", "pollParameters", "checksum"]) {
    assert.ok(names.includes(name), name);
  }
});

test("[2.2.1.1.3] the echo string is 22 octets", () => {
  assert.equal(ECHO_STRING.length, 22);
  assert.equal(Buffer.from(ECHO_STRING).toString("hex"), "47726f6f766550696e673a20312e302c50696e670d0a");
});

test("heads split at any octet parse the same", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(EXAMPLE_RESPONSE.length), { maxLength: 20 }), (cuts) => {
      const all = octets(EXAMPLE_RESPONSE);
      const reader = new ResponseHeadReader();
      const at = [0, ...cuts.sort((a, b) => a - b), all.length];
      const rest: Uint8Array[] = [];
      let head: ResponseHead | undefined;
      for (let index = 1; index < at.length; index++) {
        const piece = all.subarray(at[index - 1], at[index]);
        if (head !== undefined) {
          rest.push(piece);
          continue;
        }
        const read = reader.feed(piece);
        assert.notEqual(read.type, "fault");
        if (read.type === "head") {
          head = read.head;
          rest.push(read.rest);
        }
      }
      assert.deepEqual(head, responseOf(EXAMPLE_RESPONSE));
      assert.deepEqual(join(rest), ECHO_STRING);
    }),
    { numRuns: 200 },
  );
});

test("a bare LF ends a line, and leading empty lines are skipped", () => {
  const head = responseOf("\r\n\nHTTP/1.1 200 OK\nHost:  a \nX: \n\n");
  assert.deepEqual([head.status, head.minor], [200, 1]);
  assert.deepEqual(head.headers, [
    ["host", "a"],
    ["x", ""],
  ]);
});

test("ambiguous heads are rejected", () => {
  for (const bad of [
    "HTTP/1.0\r\n\r\n",
    "HTTP/1.0  200 OK\r\n\r\n",
    " HTTP/1.0 200 OK\r\n\r\n",
    "HTTP/1.0 200 OK\r\nA: b\r\n folded\r\n\r\n",
    "HTTP/1.0 200 OK\r\nA: b\r\n\tfolded\r\n\r\n",
    "HTTP/1.0 200 OK\r\nA : b\r\n\r\n",
    "HTTP/1.0 200 OK\r\n: b\r\n\r\n",
    "HTTP/1.0 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.0 200 OK\r\nA: b\rc\r\n\r\n",
    "HTTP/1.0 200 OK\r\nA: b\0c\r\n\r\n",
    "HTTP/1.0 200 O\x01K\r\n\r\n",
    "\x16\x03\x01\x00\n\n",
    "SSH-2.0-x\r\n\r\n",
    "HTTP/1.0 20 OK\r\n\r\n",
    "HTTP/1.0 099 x\r\n\r\n",
    "HTTP/1.2 200 OK\r\n\r\n",
    "HTTP/3.0 200 OK\r\n\r\n",
  ]) {
    assert.equal(faultOf(bad), "MalformedHead", JSON.stringify(bad));
  }
  assert.equal(responseOf("HTTP/1.1 200\r\n\r\n").phrase, "");
});

test("a head is limited to 16 KiB and 100 headers", () => {
  const start = "HTTP/1.0 200 OK\r\n";
  assert.equal(faultOf(`${start}${"a: b\r\n".repeat(100)}\r\n`), "head");
  assert.equal(faultOf(`${start}${"a: b\r\n".repeat(101)}\r\n`), "HeadTooLong");
  const room = HEAD_LIMIT - start.length - "a: \r\n\r\n".length;
  assert.equal(faultOf(`${start}a: ${"x".repeat(room)}\r\n\r\n`), "head");
  assert.equal(faultOf(`${start}a: ${"x".repeat(room + 1)}\r\n\r\n`), "HeadTooLong");
  assert.equal(faultOf("\n".repeat(HEAD_LIMIT + 1)), "HeadTooLong");
});

test("unsafe header values are not formatted", () => {
  const fields = { method: "GET", encapsulation: "KeepAlive", target: "/", host: "a" } as const;
  for (const bad of [
    { ...fields, target: "/a b" },
    { ...fields, target: "" },
    { ...fields, host: "a\r\nX: y" },
    { ...fields, userAgent: "ü" },
    { ...fields, headers: [["X Y", "z"]] as const },
  ]) {
    assert.throws(() => formatRequest(bad), EncapsulationError);
  }
});

test("a connection is kept according to version and headers", () => {
  const rows: [string, boolean][] = [
    ["HTTP/1.0 200 OK\r\n\r\n", false],
    ["HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true],
    ["HTTP/1.0 200 OK\r\nProxy-Connection: keep-alive\r\n\r\n", true],
    ["HTTP/1.1 200 OK\r\n\r\n", true],
    ["HTTP/1.1 200 OK\r\nConnection: foo, Close\r\n\r\n", false],
  ];
  for (const [input, kept] of rows) assert.equal(keepsConnection(responseOf(input)), kept, input);
});

test("bodies are framed by length, chunks or the end of the connection", () => {
  const framing = (headers: string, status = "200 OK") => framingOf(responseOf(`HTTP/1.1 ${status}\r\n${headers}\r\n`));
  assert.deepEqual(framing(""), { type: "close" });
  assert.deepEqual(framing("", "304 Not Modified"), { type: "length", length: 0 });
  assert.deepEqual(framing("Transfer-Encoding: chunked\r\n"), { type: "chunked" });
  assert.deepEqual(framing("Content-Length: 5\r\nContent-Length: 5\r\n"), { type: "length", length: 5 });
  assert.deepEqual(framing("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), { type: "chunked" });
  for (const bad of [
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 9999999999999999\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
  ]) {
    assert.equal(framing(bad).type, "fault", bad);
  }
});

test("bodies of every framing, split at any octet, are returned as views", () => {
  const cases = fc.record({
    data: fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 }),
    framing: fc.constantFrom("length", "chunked", "close"),
    sizes: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 30 }),
  });
  fc.assert(
    fc.property(cases, ({ data, framing, sizes }) => {
      const whole = join(data);
      const chunks = data.flatMap((part) => [octets(`${part.length.toString(16)};a=b\r\n`), part, octets("\r\n")]);
      const wire = framing === "chunked" ? join([...chunks, octets("0\r\nTrailer: x\r\n\r\n")]) : whole;
      const trail = framing === "close" ? new Uint8Array(0) : octets("NEXT");
      const all = join([wire, trail]);
      const reader = new BodyReader(
        framing === "length" ? { type: "length", length: whole.length } : { type: framing as "chunked" | "close" },
      );
      const out: Uint8Array[] = [];
      const rest: Uint8Array[] = [];
      for (let at = 0, index = 0; at < all.length; index++) {
        const piece = all.subarray(at, at + (sizes[index % sizes.length] ?? 1));
        at += piece.length;
        const read = reader.read(piece);
        assert.equal(read.type, "body");
        if (read.type !== "body") return;
        for (const part of read.data) assert.equal(part.buffer, all.buffer);
        out.push(...read.data);
        rest.push(read.rest);
      }
      assert.ok(reader.ended());
      assert.deepEqual(join(out), whole);
      assert.deepEqual(join(rest), trail);
    }),
    { numRuns: 300 },
  );
});

test("malformed chunks are rejected, and truncated bodies are detected", () => {
  for (const bad of [
    "x\r\n",
    "\r\n",
    "1\rX",
    "fffffffffffff\r\n",
    "1\r\nab\r\n",
    "-1\r\n",
    ";\r\n",
    "0".repeat(2000),
  ]) {
    assert.equal(new BodyReader({ type: "chunked" }).read(octets(bad)).type, "fault", bad);
  }
  const trailers = octets(`0\r\n${"x".repeat(20000)}`);
  assert.equal(new BodyReader({ type: "chunked" }).read(trailers).type, "fault");
  const reader = new BodyReader({ type: "length", length: 5 });
  reader.read(octets("1234"));
  assert.equal(reader.ended(), false);
  assert.equal(new BodyReader({ type: "chunked" }).ended(), false);
});

test("responses follow one another; interim ones are skipped, unsolicited octets are an error", () => {
  const reader = new ResponseReader();
  reader.expect();
  const first = reader.feed(
    octets("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi"),
  );
  assert.deepEqual(
    first.map((event) => event.type),
    ["head", "data", "end"],
  );
  assert.equal(reader.outstanding, false);
  assert.equal(reader.feed(octets("x"))[0]?.type, "fault");
  reader.expect();
  assert.deepEqual(
    reader.feed(octets("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")).map((event) => event.type),
    ["head", "end"],
  );
  reader.expect();
  reader.feed(octets("HTTP/1.0 200 OK\r\n\r\nto the end"));
  assert.deepEqual(reader.ended(), [{ type: "end" }]);
  reader.expect();
  reader.feed(octets("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\ncut"));
  assert.deepEqual(reader.ended(), []);
  assert.equal(reader.outstanding, true);
});
