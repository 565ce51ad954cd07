/** Which headers of a request are passed on. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { forwardedHeaders, type Header } from "../../src/requests/index.ts";

it("headers of one connection, host and length are left out, and so are those that Connection names", () => {
  const headers: Header[] = [
    ["Host", "hooks.example.com"],
    ["Content-Length", "3"],
    ["Transfer-Encoding", "chunked"],
    ["connection", "keep-alive, X-Hop"],
    ["Keep-Alive", "timeout=5"],
    ["x-hop", "1"],
    ["Upgrade", "h2c"],
    ["TE", "trailers"],
    ["Proxy-Authorization", "Basic x"],
    ["Expect", "100-continue"],
    ["content-type", "application/json"],
    ["Content-Encoding", "gzip"],
    ["x-forwarded-for", "192.0.2.1"],
  ];
  assert.deepEqual(forwardedHeaders(headers), headers.slice(-3));
});

it("Connection takes away neither the signature nor what says how to read the body", () => {
  const headers: Header[] = [
    ["connection", "x-hub-signature-256, content-type, authorization, stripe-signature"],
    ["x-hub-signature-256", "sha256=00"],
    ["content-type", "text/plain"],
    ["authorization", "Bearer x"],
    ["stripe-signature", "t=1"],
  ];
  assert.deepEqual(forwardedHeaders(headers), headers.slice(1));
});
