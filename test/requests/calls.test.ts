/** Requests to services of devices, and their answers, as messages. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  decodeCall,
  decodeReply,
  encodeCall,
  encodeReply,
  type Header,
  isCallable,
  requestResource,
  serviceOf,
} from "../../src/requests/index.ts";

const ID = "abcdefghijklmnop";
const headers: Header[] = [["a", "1"]];
const request = { method: "GET", path: "/status", query: undefined, headers, body: new Uint8Array([1, 2]) };

describe("a request to a service", () => {
  it("has its id and deadline beside the request, which cannot set them", () => {
    const own: Header[] = [
      ["Grooveway-Id", "other"],
      ["grooveway-deadline", "1"],
      ["GROOVEWAY-From", "boss/pc"],
    ];
    const call = { id: ID, deadline: 1_700_000_000_000, request: { ...request, headers: [...own, ...headers] } };
    assert.deepEqual(decodeCall(encodeCall(call)), { ok: true, value: { ...call, request } });
  });

  it("is refused without an id that nobody guesses, or without a deadline, whatever the octets", () => {
    for (const own of [
      "grooveway-id: short\r\ngrooveway-deadline: 1",
      `grooveway-id: ${ID}`,
      "grooveway-deadline: 1",
    ]) {
      assert.equal(decodeCall(Buffer.from(`GET / HTTP/1.1\r\n${own}\r\n\r\n`)).ok, false, own);
    }
    fc.assert(
      fc.property(fc.uint8Array(), (octets) => {
        decodeCall(octets);
        decodeReply(octets);
      }),
    );
  });

  it("has a resource of its service", () => {
    assert.equal(serviceOf(requestResource("api.v1")), "api.v1");
    for (const resource of ["request/", "request/a/b", "request/-a", "message", "answer"]) {
      assert.equal(serviceOf(resource), undefined, resource);
    }
    assert.ok(isCallable("a".repeat(64)) && !isCallable("a".repeat(65)) && !isCallable("a b"));
  });
});

it("an answer names its request", () => {
  const answer = { status: 201, headers, body: new Uint8Array([3]) };
  const reply = encodeReply(ID, { ...answer, headers: [["grooveway-id", "x".repeat(20)], ...headers] });
  assert.deepEqual(decodeReply(reply), { ok: true, value: { id: ID, answer } });
  assert.equal(decodeReply(Buffer.from("HTTP/1.1 200 OK\r\n\r\n")).ok, false);
});
