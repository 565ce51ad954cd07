/** The protocol's own suite for servers, run by vitest against the URL in STREAMS_URL. See ../conformance.test.ts. */
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

// The suite sends no tokens by itself.
const plainFetch = globalThis.fetch;
globalThis.fetch = (input, init) => {
  const request = new Request(input, init);
  request.headers.set("Authorization", `Bearer ${process.env.STREAMS_TOKEN}`);
  return plainFetch(request);
};

runConformanceTests({
  baseUrl: process.env.STREAMS_URL ?? "",
  // Longer than an edge holds a long-poll.
  longPollTimeoutMs: 30_000,
});
