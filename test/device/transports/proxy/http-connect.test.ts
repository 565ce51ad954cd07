/** Asking an HTTP proxy for a tunnel: every answer at every split. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type ConnectEvent, DRAINED_BODY, HttpConnect } from "../../../../src/device/transports/proxy/http-connect.ts";

const REQUEST = { method: "CONNECT", target: "edge.example.com:443", host: "edge.example.com:443" } as const;

/** What comes of an answer, in pieces cut at some places. */
function outcome(answer: Uint8Array, cuts: readonly number[], request: "CONNECT" | "GET" = "CONNECT") {
  const connect = new HttpConnect({ ...REQUEST, method: request });
  connect.request();
  const places = [...new Set(cuts.map((cut) => cut % (answer.length + 1)))].sort((a, b) => a - b);
  let at = 0;
  for (const end of [...places, answer.length]) {
    const event = connect.receive(answer.subarray(at, end));
    at = end;
    if (event?.type === "accepted") {
      // The rest and what has not been fed are the beginning of the tunnel.
      return { type: event.type, tunnel: Buffer.concat([event.rest, answer.subarray(at)]).toString("latin1") };
    }
    if (event !== undefined) return plain(event);
  }
  return plain(connect.ended());
}

function plain(event: ConnectEvent) {
  if (event.type === "refused") return { type: event.type, status: event.head.status };
  if (event.type === "challenged") {
    const { type, challenges, isOpen } = event;
    return { type, challenges: [...challenges], isOpen };
  }
  return { type: event.type };
}

const BASIC = 'Proxy-Authenticate: Basic realm="a"\r\n';
const challenged = (isOpen: boolean) => ({ type: "challenged", challenges: ['Basic realm="a"'], isOpen });

const ANSWERS: Readonly<Record<string, readonly [answer: string, outcome: object]>> = {
  "200, with what came behind it": ["HTTP/1.1 200 OK\r\n\r\nhello", { type: "accepted", tunnel: "hello" }],
  "another 2xx": ["HTTP/1.0 204 Fine\r\n\r\n", { type: "accepted", tunnel: "" }],
  "200 whose Content-Length means nothing": [
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    { type: "accepted", tunnel: "hello" },
  ],
  "interim answers first": ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", { type: "accepted", tunnel: "x" }],
  "101 is no tunnel": ["HTTP/1.1 101 Switching\r\n\r\nhello", { type: "refused", status: 101 }],
  "302 is no tunnel": ["HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", { type: "refused", status: 302 }],
  "403 with a page": ["HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\npage", { type: "refused", status: 403 }],
  "407 with a length": [`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 4\r\n\r\npage`, challenged(true)],
  "407 with an empty body": [`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 0\r\n\r\n`, challenged(true)],
  "407 in chunks": [
    `HTTP/1.1 407 Who\r\n${BASIC}Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n`,
    challenged(true),
  ],
  "407 whose body ends with the connection": [`HTTP/1.1 407 Who\r\n${BASIC}\r\npage`, challenged(false)],
  "407 that promises to keep the connection, without a body": [
    `HTTP/1.1 407 Who\r\n${BASIC}Proxy-Connection: keep-alive\r\n\r\n`,
    challenged(true),
  ],
  "407 that closes": [
    `HTTP/1.1 407 Who\r\n${BASIC}Connection: close\r\nContent-Length: 4\r\n\r\npage`,
    challenged(false),
  ],
  "407 in HTTP/1.0": [`HTTP/1.0 407 Who\r\n${BASIC}Content-Length: 4\r\n\r\npage`, challenged(false)],
  "407 in HTTP/1.0 that keeps the connection": [
    `HTTP/1.0 407 Who\r\n${BASIC}Connection: keep-alive\r\nContent-Length: 4\r\n\r\npage`,
    challenged(true),
  ],
  "407 that is cut off": [`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 9\r\n\r\npage`, challenged(false)],
  "407 with a broken body": [`HTTP/1.1 407 Who\r\n${BASIC}Transfer-Encoding: chunked\r\n\r\nz\r\n`, challenged(false)],
  "407 with contradicting lengths": [
    `HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 4\r\nContent-Length: 5\r\n\r\npage`,
    challenged(false),
  ],
  "no HTTP": ["SSH-2.0-OpenSSH_9.2\r\n\r\n", { type: "invalid" }],
  nothing: ["", { type: "closed" }],
  "half a head": ["HTTP/1.1 200 OK\r\nServer: x", { type: "invalid" }],
};

describe("asking an HTTP proxy for a tunnel", () => {
  it("sends the request with the credentials it is given", () => {
    const connect = new HttpConnect(REQUEST);
    const text = (octets: Uint8Array) => Buffer.from(octets).toString();
    const head =
      "CONNECT edge.example.com:443 HTTP/1.1\r\nHost: edge.example.com:443\r\nProxy-Connection: Keep-Alive\r\n";
    assert.equal(text(connect.request()), `${head}\r\n`);
    assert.equal(text(connect.request("Basic eDp5")), `${head}Proxy-Authorization: Basic eDp5\r\n\r\n`);
  });

  for (const [name, [answer, expected]] of Object.entries(ANSWERS)) {
    it(`reads ${name}, however it is split`, () => {
      const octets = Buffer.from(answer, "latin1");
      for (let cut = 0; cut <= octets.length; cut += 1) assert.deepEqual(outcome(octets, [cut]), expected);
      const everywhere = Array.from({ length: octets.length + 1 }, (_, i) => i);
      assert.deepEqual(outcome(octets, everywhere), expected);
      fc.assert(
        fc.property(fc.array(fc.nat(), { maxLength: 6 }), (cuts) => {
          assert.deepEqual(outcome(octets, cuts), expected);
        }),
        { numRuns: 50 },
      );
    });
  }

  it("continues on the same connection after a 407", () => {
    const connect = new HttpConnect(REQUEST);
    connect.request();
    const asked = connect.receive(Buffer.from(`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 4\r\n\r\npage`));
    assert.deepEqual(asked, challenged(true));
    connect.request("Basic eDp5");
    const accepted = connect.receive(Buffer.from("HTTP/1.1 200 OK\r\n\r\nhello"));
    assert.deepEqual(accepted && plain(accepted), { type: "accepted" });
  });

  it("reads no more of a page than its limit", () => {
    const length = DRAINED_BODY * 10;
    const head = Buffer.from(`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: ${length}\r\n\r\n`);
    const connect = new HttpConnect(REQUEST);
    connect.request();
    let event = connect.receive(head);
    let fed = 0;
    for (; event === undefined; fed += 4096) event = connect.receive(new Uint8Array(4096));
    assert.deepEqual(event, challenged(false));
    assert.ok(fed <= DRAINED_BODY + 8192, `${fed}`);
  });

  it("takes any answer to a question as acceptance, except 407", () => {
    assert.deepEqual(outcome(Buffer.from("HTTP/1.1 503 Down\r\n\r\n"), [], "GET"), { type: "accepted", tunnel: "" });
    const octets = Buffer.from(`HTTP/1.1 407 Who\r\n${BASIC}Content-Length: 0\r\n\r\n`);
    assert.deepEqual(outcome(octets, [], "GET"), challenged(true));
  });

  it("survives any bytes, with the same outcome at every split", () => {
    const words = fc.constantFrom(
      "HTTP/1.1 ",
      "200",
      "407",
      " OK",
      "\r\n",
      "\n",
      ": ",
      "Content-Length",
      "Transfer-Encoding",
      "chunked",
      "0",
      "7",
      BASIC,
      "Connection: close\r\n",
    );
    const noise = fc.uint8Array({ maxLength: 20 }).map((octets) => Buffer.from(octets).toString("latin1"));
    const answers = fc
      .array(fc.oneof({ weight: 4, arbitrary: words }, noise), { maxLength: 20 })
      .map((all) => Buffer.from(all.join(""), "latin1"));
    fc.assert(
      fc.property(answers, fc.array(fc.nat(), { maxLength: 5 }), (answer, cuts) => {
        const [whole, split] = [outcome(answer, []), outcome(answer, cuts)];
        // Bytes behind a 407 close the connection only if they come before the next request.
        if (whole.type === "challenged") assert.equal(split.type, "challenged");
        else assert.deepEqual(split, whole);
      }),
    );
  });
});
