/** HTTP requests and answers as messages: what is written is read again, and nothing else is. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  type Header,
  type HttpRequest,
} from "../../src/requests/index.ts";

const token = fc.stringMatching(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}$/);
const value = fc.stringMatching(/^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]{0,20}[!-~\x80-\xff])?)?$/);
const header: fc.Arbitrary<Header> = fc.tuple(token, value);
const body = fc.uint8Array({ maxLength: 300 });
const request: fc.Arbitrary<HttpRequest> = fc.record({
  method: token,
  path: fc.stringMatching(/^\/[!"$->@-~]{0,30}$/),
  query: fc.option(fc.stringMatching(/^[!"$-~]{0,30}$/), { nil: undefined }),
  headers: fc.array(header, { maxLength: 10 }),
  body,
});

describe("a request as a message", () => {
  it("is read as it was written: method, path, query, headers, and the body octet for octet", () => {
    fc.assert(
      fc.property(request, (written) => {
        const read = decodeRequest(encodeRequest(written));
        assert.deepEqual(read, { ok: true, value: { ...written } });
      }),
    );
  });

  it("is written as RFC 9112 has it", () => {
    const octets = encodeRequest({
      method: "POST",
      path: "/github",
      query: "a=1",
      headers: [["content-type", "application/json"]],
      body: Buffer.from("{}\r\n\r\n"),
    });
    const expected = "POST /github?a=1 HTTP/1.1\r\ncontent-type: application/json\r\n\r\n{}\r\n\r\n";
    assert.equal(Buffer.from(octets).toString(), expected);
  });

  it("tells an empty query from none", () => {
    for (const query of ["", undefined]) {
      const read = decodeRequest(
        encodeRequest({ method: "GET", path: "/", query, headers: [], body: new Uint8Array() }),
      );
      assert.equal(read.ok && read.value.query, query);
    }
  });

  it("is not written if a part of it would end the head, or its first line", () => {
    const good: HttpRequest = { method: "GET", path: "/", query: undefined, headers: [], body: new Uint8Array() };
    const bad: Partial<HttpRequest>[] = [
      { method: "GET /" },
      { method: "" },
      { path: "x" },
      { path: "/a b" },
      { path: "/a\r\nx: y" },
      { path: "/a?b" },
      { path: "/\u0100" },
      { query: "a#b" },
      { query: "a b" },
      { headers: [["a b", "c"]] },
      { headers: [["a", "b\r\nc: d"]] },
      { headers: [["a", "\u0100"]] },
      { headers: Array.from({ length: 201 }, () => ["a", "b"] as const) },
      { headers: [["a", "b".repeat(65_536)]] },
    ];
    for (const part of bad) assert.throws(() => encodeRequest({ ...good, ...part }), RangeError, JSON.stringify(part));
  });

  it("is refused with a reason if it has another form, whatever the octets", () => {
    const table = [
      "",
      "GET / HTTP/1.1\r\n",
      "GET / HTTP/1.0\r\n\r\n",
      "GET  / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1 x\r\n\r\n",
      "GET http://other/ HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\n\n",
      "GET / HTTP/1.1\r\n a: folded\r\n\r\n",
      "GET / HTTP/1.1\r\na : b\r\n\r\n",
      "GET / HTTP/1.1\r\nnothing\r\n\r\n",
      "GET / HTTP/1.1\r\na: \0\r\n\r\n",
      "GET /\x80 HTTP/1.1\r\n\r\n",
      `GET / HTTP/1.1\r\na: ${"b".repeat(70_000)}\r\n\r\n`,
    ];
    for (const text of table) {
      const read = decodeRequest(Buffer.from(text, "latin1"));
      assert.ok(!read.ok && read.problems !== "", JSON.stringify(text.slice(0, 40)));
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        const read = decodeRequest(octets);
        // What is read can be written again.
        if (read.ok) encodeRequest(read.value);
      }),
    );
  });
});

describe("an answer as a message", () => {
  it("is read as it was written", () => {
    const status = fc.integer({ min: 200, max: 599 });
    const answer = fc.record({ status, headers: fc.array(header), body }, { noNullPrototype: true });
    fc.assert(
      fc.property(answer, (written) => {
        assert.deepEqual(decodeAnswer(encodeAnswer(written)), { ok: true, value: written });
      }),
    );
  });

  it("has a status from 200 to 599", () => {
    for (const status of [199, 600, 200.5, Number.NaN]) {
      assert.throws(() => encodeAnswer({ status, headers: [], body: new Uint8Array() }), RangeError);
    }
    for (const first of ["HTTP/1.1 199 ", "HTTP/1.1 600 ", "HTTP/1.1 20 ", "HTTP/1.0 200 OK", "200 OK"]) {
      assert.equal(decodeAnswer(Buffer.from(`${first}\r\n\r\n`)).ok, false, first);
    }
    assert.equal(decodeAnswer(Buffer.from("HTTP/1.1 404 Not Found\r\n\r\n")).ok, true);
  });
});
