/** What a command says about ways without TLS. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { plainNotice } from "../../src/cli/plain-notice.ts";

test("a way without TLS is told, with what can be read on it", () => {
  const edge = plainNotice({ edges: ["http://edge.example.com/groove"], hasToken: true });
  assert.equal(edge, "the way to edge.example.com has no TLS: others on it can read the token and the messages");
  const relay = plainNotice({ edges: [], relay: "relay.example.com:2492", hasToken: false });
  assert.equal(relay, "the way to relay.example.com has no TLS: others on it can read the messages");
  const allowed = plainNotice({ edges: ["https://edge.example.com"], allowPlain: true, hasToken: true });
  assert.match(allowed ?? "", /^--allow-plain: where TLS does not get through, .* the token and the messages$/);
});

test("nothing is said where TLS is used, or nothing leaves the machine", () => {
  for (const edges of [
    ["https://edge.example.com"],
    ["http://127.0.0.1:8787"],
    ["http://[::1]:1", "http://[::ffff:127.0.0.1]"],
    ["http://localhost"],
  ]) {
    assert.equal(plainNotice({ edges, hasToken: true }), undefined, edges.join());
  }
  for (const relay of ["127.0.0.1:2492", "[::1]:2492", "localhost"]) {
    assert.equal(plainNotice({ edges: [], relay, hasToken: true }), undefined, relay);
  }
});
