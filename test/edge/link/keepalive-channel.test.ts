/** A link over KeepAlive through a busy proxy. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeepAliveChannel, type Wire } from "../../../src/edge/link/keepalive-channel.ts";
import { KeepAliveClient } from "../../../src/encapsulation/index.ts";

test("a link honours Retry-After from a proxy in front of its relay", async () => {
  const answer = new TextEncoder().encode("HTTP/1.1 429 Busy\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n");
  const busy = (): Wire => ({
    write: async () => undefined,
    ready: async () => undefined,
    take: () => ({ kind: "octets", octets: answer }),
    close: () => undefined,
  });
  const client = new KeepAliveClient({ serverHost: "relay.example.com", guid: "G".repeat(39) });
  const link = new KeepAliveChannel(client, async () => busy());
  assert.equal(link.retryAfter, 0);
  await link.ready();
  assert.equal(link.take(1000)?.kind, "ended");
  assert.equal(link.retryAfter, 90);
});
