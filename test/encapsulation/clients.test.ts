import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Authorization,
  type Challenge,
  type ClientOptions,
  type ClientOutput,
  DEFAULT_CONTENT_LENGTH,
  ECHO_TEXT,
  EncapsulationError,
  KeepAliveClient,
  LongLivedClient,
  OctetQueue,
  PollingClient,
} from "../../src/encapsulation/index.ts";
import { formatRefusal, formatResponse } from "./raw-server.ts";
import { DATE, GUID, join, octets, text } from "./support.ts";

const OPTIONS: ClientOptions = { serverHost: "server.domain.net", guid: GUID, userAgent: "Grooveway" };
const OK = (body: string) =>
  octets(`HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: ${body.length}\r\n\r\n${body}`);

/** One line per output: `open get`, `write post <octets>`, `data <octets>`, `lost Reason`. */
function lines(outputs: readonly ClientOutput[]): string[] {
  return outputs.map((output) => {
    if (output.type === "write") return `write ${output.session} ${text(output.octets)}`;
    if (output.type === "data") return `data ${text(output.data)}`;
    if (output.type === "lost") return `lost ${output.reason}`;
    return "session" in output ? `${output.type} ${output.session}` : output.type;
  });
}

function head(method: string, target: string, more: readonly string[]): string {
  const first = ["Accept: */*", "Content-Type: application/octet-stream", "User-Agent: Grooveway"];
  return [`${method} ${target} HTTP/1.0`, ...first, ...more, "", ""].join("\r\n");
}

const GET_LINES = (connection: string[]) => [
  "Host: server.domain.net",
  "Pragma: no-cache",
  "Cache-Control: no-cache",
  "Expires: 0",
  ...connection,
  "Cache-Control: max-age=0",
];
const POST_LINES = (length: number, connection: string[]) => [
  "Host: server.domain.net",
  ...connection,
  `Content-Length: ${length}`,
  "Pragma: no-cache",
  "Cache-Control: no-cache",
  "Expires: 0",
  "Cache-Control: max-age=0",
];
const KEPT = ["Connection: Keep-Alive"];
const KEEP = `/2.0/server.domain.net/${GUID},ConnType=KeepAlive`;
const LONG = `/2.0/server.domain.net/${GUID},ConnType=LongLived,ContentLength=100`;
/** The n-th GET and POST of a KeepAlive virtual connection. */
const KEEP_GET = (n: number) => `write get ${head("GET", `${KEEP},ID=gw-${n}`, GET_LINES(KEPT))}`;
const KEEP_POST = (n: number, body: string) =>
  `write post ${head("POST", `${KEEP},ID=gw-${n}`, POST_LINES(body.length, KEPT))}${body}`;

function establishedLong(options: Partial<ClientOptions> = {}): LongLivedClient {
  const client = new LongLivedClient({ ...OPTIONS, contentLength: 100, ...options });
  client.start(0);
  const response = formatResponse({ status: 200, now: DATE, contentLength: 100 });
  assert.deepEqual(lines(client.feed("get", join([response, octets(ECHO_TEXT)]), 0)), ["established"]);
  return client;
}

function establishedKeep(options: Partial<ClientOptions> = {}): KeepAliveClient {
  const client = new KeepAliveClient({ ...OPTIONS, ...options });
  client.start(0);
  client.feed("post", OK(""), 0);
  assert.equal(lines(client.feed("get", OK(ECHO_TEXT), 0)).at(-1), "established");
  return client;
}

test("[2.2.2.2, 3.1.4.1, 3.1.4.3] LongLived: golden octets; data MUST be buffered until 'Established'", () => {
  const client = new LongLivedClient({ ...OPTIONS, contentLength: 100 });
  assert.deepEqual(lines(client.start(0)), [
    "open get",
    `write get ${head("GET", LONG, GET_LINES([]))}`,
    "open post",
    `write post ${head("POST", LONG, POST_LINES(100, []))}${ECHO_TEXT}`,
  ]);
  assert.equal(client.state, "Connecting");
  assert.deepEqual(client.send(octets("early"), 0), []);
  assert.equal(client.pending, 5);
  const response = formatResponse({ status: 200, now: DATE, contentLength: 100 });
  assert.deepEqual(client.feed("get", response, 0), []);
  assert.deepEqual(client.feed("get", octets(ECHO_TEXT.slice(0, 7)), 0), []);
  const rest = client.feed("get", octets(`${ECHO_TEXT.slice(7)}down`), 0);
  assert.deepEqual(lines(rest), ["write post early", "established", "data down"]);
  assert.deepEqual(lines(client.send(octets("raw"), 0)), ["write post raw"]);
  assert.deepEqual([client.remainingUp, client.remainingDown, client.pending], [70, 74, 0]);
});

test("[2.2.2.1.1] absolute targets MUST be used towards a proxy, relative ones otherwise", () => {
  const options = { ...OPTIONS, serverPort: 8080, relay: "Relay.Example.com:2492", proxy: true, requestId: () => "r1" };
  const target = `http://server.domain.net:8080/2.0/relay.example.com:2492/${GUID},ConnType=`;
  const long = lines(new LongLivedClient(options).start(0));
  assert.ok(
    long[1]?.startsWith(`write get GET ${target}LongLived,ContentLength=${DEFAULT_CONTENT_LENGTH},ID=r1 HTTP/1.0`),
  );
  const keep = lines(new KeepAliveClient(options).start(0));
  assert.ok(keep[3]?.startsWith(`write post POST ${target}KeepAlive,ID=r1 HTTP/1.0\r\n`));
  assert.ok(keep[1]?.includes("\r\nHost: server.domain.net:8080\r\n"));
  assert.ok(keep[1]?.endsWith("\r\nProxy-Connection: Keep-Alive\r\n\r\n"));
  const secure = lines(new KeepAliveClient({ ...OPTIONS, secure: true, serverPort: 443 }).start(0));
  assert.ok(secure[1]?.includes("GET /2.0/") && secure[1]?.includes("\r\nHost: server.domain.net\r\n"));
});

test("LongLived: data passes in both directions without a copy", () => {
  const client = establishedLong();
  const up = octets("up");
  const [write] = client.send(up, 0);
  assert.ok(write?.type === "write" && write.octets[0] === up);
  const down = octets("down");
  const [data] = client.feed("get", down, 0);
  assert.ok(data?.type === "data" && data.data.buffer === down.buffer);
});

test("[3.1.4.3] LongLived: a write beyond ConnectionContentLength ends the virtual connection", () => {
  const client = establishedLong();
  client.send(new Uint8Array(78), 0);
  assert.equal(client.remainingUp, 0);
  assert.deepEqual(lines(client.send(octets("x"), 0)), ["close get", "close post", "lost ContentLengthReached"]);
  assert.deepEqual(client.send(octets("x"), 0), []);
});

test("[3.1] LongLived: the end of a session ends the virtual connection with the matching reason", () => {
  assert.deepEqual(lines(establishedLong().ended("get", 0)), ["close post", "lost SessionEnded"]);
  assert.deepEqual(lines(establishedLong().ended("post", 0)), ["close get", "lost SessionEnded"]);
  const used = establishedLong();
  const outputs = used.feed("get", new Uint8Array(78), 0);
  assert.deepEqual(lines(outputs).slice(1), ["close get", "close post", "lost ContentLengthReached"]);
  const answered = establishedLong().feed("post", OK(""), 0);
  assert.equal(lines(answered).at(-1), "lost SessionEnded");
  const chunked = new LongLivedClient({ ...OPTIONS, contentLength: 30 });
  chunked.start(0);
  const body = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n${ECHO_TEXT}123456789`;
  assert.equal(lines(chunked.feed("get", octets(body), 0)).at(-1), "lost ContentLengthExceeded");
});

test("LongLived and KeepAlive: a wrong echo, status or head ends the connection with the server's reason", () => {
  for (const make of [() => new LongLivedClient(OPTIONS), () => new KeepAliveClient(OPTIONS)]) {
    for (const [session, octetsIn, expected] of [
      ["get", OK("GroovePing: 1.0,Pong\r\n"), "BadEcho"],
      ["get", octets("HTTP/1.0 302 Moved Temporarily\r\n\r\n"), "UnexpectedStatus"],
      ["post", octets("HTTP/1.1 413 Payload Too Large\r\n\r\n"), "UnexpectedStatus"],
      ["get", octets("220 smtp\r\n\r\n"), "MalformedHead"],
      ["get", octets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "MalformedBody"],
      ["post", octets("HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\n\r\n"), "AuthenticationRequired"],
    ] as const) {
      const client = make();
      client.start(0);
      assert.equal(lines(client.feed(session, octetsIn, 0)).at(-1), `lost ${expected}`);
    }
    const client = make();
    client.start(0);
    const outputs = client.feed("post", formatRefusal("DataBeforeEstablished", DATE), 0);
    const why = outputs.at(-1);
    assert.ok(why?.type === "lost");
    if (why?.type !== "lost") return;
    assert.deepEqual([why.reason, why.status, why.code], ["UnexpectedStatus", 400, "DataBeforeEstablished"]);
    assert.deepEqual(client.close(), []);
    assert.equal(client.deadline, Number.POSITIVE_INFINITY);
  }
});

test("a refusal carries the server's Retry-After when it is a number", () => {
  for (const [value, seconds] of [
    ["7", 7],
    ["0", 0],
    ["Mon, 23 Nov 2026 08:00:00 GMT", undefined],
    ["-1", undefined],
    ["1e3", undefined],
    ["99999999999", undefined],
  ] as const) {
    for (const make of [() => new LongLivedClient(OPTIONS), () => new KeepAliveClient(OPTIONS)]) {
      const client = make();
      client.start(0);
      const refusal = octets(`HTTP/1.1 500 Busy\r\nRetry-After: ${value}\r\nContent-Length: 0\r\n\r\n`);
      const why = client.feed("post", refusal, 0).at(-1);
      assert.ok(why?.type === "lost");
      if (why?.type === "lost") assert.equal(why.retryAfter, seconds, value);
    }
  }
});

test("[4.2, 3.4.4.3] KeepAlive: golden octets of the handshake and of data in both directions", () => {
  const client = new KeepAliveClient(OPTIONS);
  assert.deepEqual(lines(client.start(0)), ["open get", KEEP_GET(1), "open post", KEEP_POST(1, ECHO_TEXT)]);
  client.send(octets("early"), 0);
  assert.equal(client.pending, 5);
  assert.deepEqual(lines(client.feed("post", OK(""), 0)), []);
  assert.deepEqual(lines(client.feed("get", OK(ECHO_TEXT), 0)), [KEEP_GET(2), "established", KEEP_POST(2, "early")]);
  assert.deepEqual(lines(client.feed("get", OK("down"), 0)), ["data down", KEEP_GET(3)]);
  assert.deepEqual(lines(client.send(octets("more"), 0)), []);
  assert.deepEqual(lines(client.feed("post", OK(""), 0)), [KEEP_POST(3, "more")]);
  assert.deepEqual(lines(client.feed("post", OK(""), 0)), []);
  assert.deepEqual(lines(client.close()), ["close get", "close post"]);
});

test("[3.3.4.5] KeepAlive: the POST session MUST NOT be reopened after the virtual connection is closed", () => {
  const client = establishedKeep();
  client.close();
  assert.deepEqual(client.send(octets("x"), 0), []);
  assert.deepEqual(client.feed("get", OK("x"), 0), []);
  assert.deepEqual(client.ended("post", 0), []);
  assert.deepEqual(client.expire(1e9), []);
});

test("KeepAlive: an empty 200 is followed by the next GET at once", () => {
  assert.deepEqual(lines(establishedKeep().feed("get", OK(""), 0)), [KEEP_GET(3)]);
});

test("[3.4.4.3] KeepAlive: bodies are filled up to 32768 octets, without a copy", () => {
  const client = establishedKeep();
  client.send(octets("first"), 0);
  const big = new Uint8Array(40_000);
  client.send(big, 0);
  client.send(octets("last"), 0);
  assert.equal(client.pending, 40_004);
  const [write] = client.feed("post", OK(""), 0);
  assert.ok(write?.type === "write");
  if (write?.type !== "write") return;
  assert.match(text(write.octets[0] ?? new Uint8Array(0)), /^Content-Length: 32768\r$/m);
  assert.equal(write.octets[1]?.buffer, big.buffer);
  assert.equal(write.octets[1]?.length, 32768);
  const [next] = client.feed("post", OK(""), 0);
  assert.ok(next?.type === "write" && next.octets.length === 3 && join(next.octets.slice(1)).length === 7236);
});

test("KeepAlive: a response over 32768 octets is rejected", () => {
  const client = establishedKeep();
  const outputs = client.feed("get", OK("x".repeat(32769)), 0);
  assert.equal(lines(outputs).at(-1), "lost BodyTooLong");
});

test("[3.3.4.5] KeepAlive: a session that ended between requests is reopened for the next", () => {
  const client = establishedKeep();
  assert.deepEqual(client.ended("post", 0), []);
  assert.deepEqual(lines(client.send(octets("x"), 0)), ["open post", KEEP_POST(2, "x")]);
  // A response that closes the connection
  const closing = octets("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
  client.send(octets("y"), 0);
  assert.deepEqual(lines(client.feed("post", closing, 0)), ["close post", "open post", KEEP_POST(3, "y")]);
  assert.deepEqual(lines(client.feed("get", closing, 0)), ["close get", "open get", KEEP_GET(3)]);
  // A response without a length ends with its connection
  client.feed("get", octets("HTTP/1.0 200 OK\r\n\r\ndata"), 0);
  assert.deepEqual(lines(client.ended("get", 0)), ["open get", KEEP_GET(4)]);
});

test("KeepAlive: a session that ends within an exchange ends the virtual connection", () => {
  assert.deepEqual(lines(establishedKeep().ended("get", 0)), ["close post", "lost SessionEnded"]);
  const cut = establishedKeep();
  cut.feed("get", octets("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\ncut"), 0);
  assert.deepEqual(lines(cut.ended("get", 0)), ["close post", "lost SessionEnded"]);
  const post = establishedKeep();
  post.send(octets("x"), 0);
  assert.deepEqual(lines(post.ended("post", 0)), ["close get", "lost SessionEnded"]);
});

test("KeepAlive: a 408 from a proxy on the idle POST connection only closes that connection", () => {
  const client = establishedKeep();
  assert.deepEqual(lines(client.feed("post", octets("HTTP/1.0 408 Request Time-out\r\n\r\n"), 0)), ["close post"]);
  assert.deepEqual(lines(client.send(octets("x"), 0)), ["open post", KEEP_POST(2, "x")]);
});

test("[3.3.5.2.3] 401 and 407 are answered over several rounds, on the same connection if it is kept", () => {
  const seen: Challenge[] = [];
  const authorize = (challenge: Challenge) => {
    seen.push(challenge);
    if (challenge.round > 2) return undefined;
    return { headers: [["Proxy-Authorization", `NTLM ${challenge.round}`]] } satisfies Authorization;
  };
  const client = new KeepAliveClient({ ...OPTIONS, authorize });
  client.start(0);
  const ask = (kept: boolean) =>
    octets(
      `HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n${kept ? "" : "Connection: close\r\n"}Content-Length: 3\r\n\r\nno!`,
    );
  const first = lines(client.feed("get", ask(false), 20_000));
  assert.deepEqual(first.slice(0, 2), ["close get", "open get"]);
  assert.ok(first[2]?.endsWith("\r\nProxy-Authorization: NTLM 1\r\n\r\n"));
  assert.equal(client.deadline, 50_000);
  const second = lines(client.feed("get", ask(true), 21_000));
  assert.equal(second.length, 1);
  assert.ok(second[0]?.endsWith("\r\nProxy-Authorization: NTLM 2\r\n\r\n"));
  assert.deepEqual(seen[0]?.challenges, ["Negotiate", "NTLM"]);
  assert.equal(lines(client.feed("get", ask(true), 22_000)).at(-1), "lost AuthenticationRequired");

  const long = new LongLivedClient({ ...OPTIONS, contentLength: 100, authorize });
  long.start(0);
  const repeated = lines(long.feed("post", ask(true), 0));
  assert.deepEqual(repeated.slice(0, 2), ["close post", "open post"]);
  assert.ok(repeated[2]?.endsWith(`\r\nProxy-Authorization: NTLM 1\r\n\r\n${ECHO_TEXT}`));
  assert.ok(lines(long.feed("get", octets("HTTP/1.0 407 x\r\n\r\nbody to the end"), 0)).length === 0);
  assert.deepEqual(lines(long.ended("get", 0)).slice(0, 1), ["open get"]);
});

test("KeepAlive asks with each GET for the hold time that the way allows", () => {
  const client = new KeepAliveClient({ ...OPTIONS, hold: 5 });
  const [, get = "", , post = ""] = lines(client.start(0));
  assert.match(get, /ID=gw-1\?Hold=5 HTTP/);
  assert.match(post, /ID=gw-1 HTTP/);
  assert.match(lines(client.feed("get", OK(ECHO_TEXT), 0))[0] ?? "", /ID=gw-2\?Hold=5 HTTP/);
});

/** A proxy's 407, which keeps the connection. */
const ASKED = octets("HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n");
/** NTLM: the first answer is followed by another challenge. */
const ntlm = ({ round }: Challenge): Authorization => ({
  headers: [["Proxy-Authorization", `NTLM ${round}`]],
  isUnfinished: round === 1,
});

test("a body is sent only with the last of several answers on a connection", () => {
  const client = new LongLivedClient({ ...OPTIONS, contentLength: 100, proxy: true, authorize: ntlm });
  client.start(0);
  const begun = lines(client.feed("post", ASKED, 0));
  assert.deepEqual(begun.slice(0, 2), ["close post", "open post"]);
  assert.match(begun[2] ?? "", /\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n.*: NTLM 1\r\n\r\n$/s);
  const [finished, ...more] = lines(client.feed("post", ASKED, 0));
  assert.deepEqual(more, []);
  assert.match(finished ?? "", /\r\nContent-Length: 100\r\n.*: NTLM 2\r\n\r\nGroovePing/s);
});

test("what authenticates a connection is not said on another", () => {
  for (const cut of ["before the answer", "after another answer"]) {
    const client = new PollingClient({ ...OPTIONS, proxy: true, authorize: ntlm });
    client.start(0);
    client.feed("post", ASKED, 0);
    assert.match(lines(client.feed("post", ASKED, 0)).join(), /NTLM 2/);
    if (cut === "after another answer") client.feed("post", octets("HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n"), 0);
    client.ended("post", 0);
    const again = lines(client.expire(client.deadline));
    assert.deepEqual(again[0], "open post", cut);
    assert.doesNotMatch(again.join(), /NTLM/, cut);
    assert.match(lines(client.feed("post", ASKED, 0)).join(), /NTLM 1/, cut);
  }
});

test("[3.1.6.1, 3.1.6.2, 3.1.6.3] the clients run their timers", () => {
  for (const make of [() => new LongLivedClient(OPTIONS), () => new KeepAliveClient(OPTIONS)]) {
    const client = make();
    client.start(0);
    assert.equal(client.deadline, 30_000);
    assert.deepEqual(client.expire(29_999), []);
    assert.equal(lines(client.expire(30_000)).at(-1), "lost EstablishmentTimeout");
  }
  for (const client of [establishedLong(), establishedKeep()]) {
    assert.equal(client.deadline, 45_000);
    assert.deepEqual(lines(client.expire(45_000)), ["keepAlive"]);
    assert.equal(client.deadline, 60_000);
    assert.equal(lines(client.expire(60_000)).at(-1), "lost ReceiveTimeout");
  }
  const post = establishedKeep();
  post.send(octets("x"), 10_000);
  post.feed("get", OK(""), 65_000);
  assert.equal(lines(post.expire(70_000)).at(-1), "lost ReceiveTimeout");
  const off = Number.POSITIVE_INFINITY;
  assert.equal(establishedKeep({ timers: { establishment: 1, receive: off, keepAlive: off } }).deadline, off);
});

test("the constructor rejects invalid options", () => {
  assert.throws(() => new KeepAliveClient({ ...OPTIONS, guid: "short" }), EncapsulationError);
  assert.throws(() => new KeepAliveClient({ ...OPTIONS, serverHost: "a b" }), EncapsulationError);
  assert.throws(() => new LongLivedClient({ ...OPTIONS, contentLength: 21 }), EncapsulationError);
  assert.throws(() => new LongLivedClient({ ...OPTIONS, contentLength: 2147479553 }), EncapsulationError);
  const client = new KeepAliveClient(OPTIONS);
  client.start(0);
  assert.throws(() => client.start(0), EncapsulationError);
});

test("the byte queue returns views in order and releases them", () => {
  const queue = new OctetQueue();
  for (let index = 0; index < 300; index++) queue.push(octets(`${index},`));
  const all = Array.from({ length: 300 }, (_, index) => `${index},`).join("");
  assert.equal(queue.length, all.length);
  let out = "";
  for (let size = 1; queue.length > 0; size = (size % 17) + 1) out += text(queue.take(size));
  assert.equal(out, all);
  assert.deepEqual(queue.take(5), []);
});
