/** Requests of the Durable Streams protocol. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { isContentType, isJson, isSameType, isText } from "../../../src/edge/durable-streams/content-type.ts";
import { SEQUENCE_CHARACTERS } from "../../../src/edge/durable-streams/limits.ts";
import { type ReadResult, readAppend, readCreate, readRead } from "../../../src/edge/durable-streams/requests.ts";

function reasonOf(read: ReadResult<unknown>): string {
  return read.ok ? "ok" : read.problems.reason;
}

function read<T>(result: ReadResult<T>): T {
  return result.ok ? result.value : assert.fail(result.problems.detail);
}

const headers = (all: Record<string, string>) => new Headers(all);
const query = (text: string) => new URLSearchParams(text);

describe("a PUT", () => {
  it("has a content type, unless it is a fork that takes its source's", () => {
    assert.equal(read(readCreate(headers({}))).contentType, "application/octet-stream");
    assert.equal(read(readCreate(headers({ "Stream-Forked-From": "/a/b/c" }))).contentType, undefined);
    assert.equal(read(readCreate(headers({ "Content-Type": "Text/Plain" }))).contentType, "Text/Plain");
    for (const type of [
      "text",
      "text/",
      "/plain",
      "text/plain; charset",
      "text/plain\u00e9",
      `text/${"x".repeat(300)}`,
    ]) {
      assert.equal(reasonOf(readCreate(headers({ "Content-Type": type }))), "MalformedContentType", type);
    }
  });

  it("is a fork only with a source", () => {
    assert.equal(reasonOf(readCreate(headers({ "Stream-Fork-Sub-Offset": "0" }))), "MalformedStreamHeader");
    assert.equal(reasonOf(readCreate(headers({ "Stream-Fork-Offset": "now" }))), "MalformedStreamHeader");
    const from = { "Stream-Forked-From": "/a/b/c" };
    assert.equal(reasonOf(readCreate(headers({ ...from, "Stream-Fork-Offset": "7" }))), "MalformedOffset");
    for (const beyond of ["", "-1", "1.5", "01", "x"]) {
      assert.equal(
        reasonOf(readCreate(headers({ ...from, "Stream-Fork-Sub-Offset": beyond }))),
        "MalformedStreamHeader",
      );
    }
    assert.equal(read(readCreate(headers({ ...from, "Stream-Fork-Sub-Offset": "3" }))).fork?.beyond, 3);
  });

  it("closes the stream only by the word true", () => {
    for (const [text, closed] of [
      ["true", true],
      ["TRUE", true],
      ["1", false],
      ["yes", false],
      ["false", false],
      ["", false],
    ] as const) {
      assert.equal(read(readCreate(headers({ "Stream-Closed": text }))).closed, closed, text);
    }
  });
});

describe("a POST", () => {
  const text = { "Content-Type": "text/plain" };
  const producer = { "Producer-Id": "p", "Producer-Epoch": "1", "Producer-Seq": "2" };

  it("needs a body, unless it closes the stream", () => {
    assert.equal(reasonOf(readAppend(headers(text), 0)), "EmptyAppend");
    assert.equal(reasonOf(readAppend(headers({ "Content-Type": "!", "Stream-Closed": "true" }), 0)), "ok");
    assert.equal(reasonOf(readAppend(headers({}), 5)), "MalformedContentType");
  });

  it("names its producer whole, or not at all", () => {
    assert.deepEqual(read(readAppend(headers({ ...text, ...producer }), 1)).producer, { id: "p", epoch: 1, seq: 2 });
    assert.equal(read(readAppend(headers(text), 1)).producer, undefined);
    for (const name of Object.keys(producer)) {
      const { [name]: _, ...some } = producer as Record<string, string>;
      assert.equal(reasonOf(readAppend(headers({ ...text, ...some }), 1)), "MalformedStreamHeader", name);
      assert.equal(
        reasonOf(readAppend(headers({ ...text, ...producer, [name]: "" }), 1)),
        "MalformedStreamHeader",
        name,
      );
    }
    for (const number of ["-1", "1abc", "1e3", "0x1", "9007199254740992", "01", "1.0"]) {
      const wrong = headers({ ...text, ...producer, "Producer-Seq": number });
      assert.equal(reasonOf(readAppend(wrong, 1)), "MalformedStreamHeader", number);
    }
    assert.equal(
      read(readAppend(headers({ ...text, ...producer, "Producer-Seq": "9007199254740991" }), 1)).producer?.seq,
      Number.MAX_SAFE_INTEGER,
    );
  });

  it("has a sequence of limited length", () => {
    assert.equal(read(readAppend(headers({ ...text, "Stream-Seq": "09" }), 1)).sequence, "09");
    const long = headers({ ...text, "Stream-Seq": "x".repeat(SEQUENCE_CHARACTERS + 1) });
    assert.equal(reasonOf(readAppend(long, 1)), "MalformedStreamHeader");
  });

  it("is read or refused, whatever its headers say", () => {
    const names = ["Content-Type", "Stream-Seq", "Stream-Closed", ...Object.keys(producer)];
    const value = fc.string({ unit: fc.constantFrom(..."0129axTRUEtrue/;=- \u00ff") }).map((some) => some.trim());
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), value), fc.nat(1), (all, length) => {
        const read = readAppend(headers(all), length);
        assert.ok(read.ok || read.problems.detail.length > 10);
      }),
    );
  });
});

describe("a GET", () => {
  it("begins at the beginning, unless it says where", () => {
    assert.deepEqual(read(readRead(query(""), headers({}))), {
      offset: "-1",
      live: undefined,
      cursor: undefined,
      resumes: false,
    });
    for (const text of ["offset=", "offset=x", "offset=0%201", "live=sse", "live=long-poll"]) {
      assert.equal(reasonOf(readRead(query(text), headers({}))), "MalformedOffset", text);
    }
    for (const text of ["offset=-1&offset=now", "live=sse&live=sse&offset=now", "offset=-1&live=true"]) {
      assert.equal(reasonOf(readRead(query(text), headers({}))), "MalformedQuery", text);
    }
  });

  it("for events resumes where the browser was, whatever the URL says", () => {
    const kept = { "Last-Event-ID": "0000000000000001_0000000000000002" };
    const resumed = read(readRead(query("offset=now&live=sse"), headers(kept)));
    assert.deepEqual([resumed.offset, resumed.resumes], [kept["Last-Event-ID"], true]);
    assert.equal(read(readRead(query("offset=now&live=long-poll"), headers(kept))).offset, "now");
    assert.equal(
      reasonOf(readRead(query("offset=now&live=sse"), headers({ "Last-Event-ID": "x" }))),
      "MalformedOffset",
    );
  });
});

describe("content types", () => {
  it("are the same whatever their parameters and case", () => {
    assert.ok(isSameType("application/JSON; charset=utf-8", "application/json"));
    assert.ok(!isSameType("text/plain", "text/html"));
  });

  it("are JSON, text, or neither", () => {
    assert.ok(isJson("application/json;charset=utf-8") && isText("application/json"));
    assert.ok(!isJson("application/jsonl") && !isText("application/x-ndjson"));
    assert.ok(isText("text/html; charset=utf-8") && !isText("image/png"));
  });

  it("are checked in time that grows with their length only", () => {
    assert.equal(isContentType(`a/b${"; ".repeat(120)}@`), false);
    assert.equal(isContentType(`a/b${";\t ".repeat(80)}@`), false);
    assert.equal(isContentType("a/b; ;; x=y ; "), true);
    assert.equal(isContentType(`a/b; x="${"a ".repeat(100)}`), false);
    assert.equal(isContentType('a/b; x="a ; b"'), true);
  });
});
