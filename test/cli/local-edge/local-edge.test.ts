/** How an edge fails to start. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { errorLine } from "../../../src/cli/error-line.ts";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";

async function failure(why: Error): Promise<string> {
  const options = { port: 0, relayAllow: [], dev: "open", code: "", start: () => Promise.reject(why) };
  return startLocalEdge(options).then(() => assert.fail("it started"), errorLine);
}

it("an edge that does not start says what its runtime said", async () => {
  assert.match(await failure(new Error("bad certificate")), /the edge did not start: bad certificate \[EdgeFailed\]$/);
});

it("an edge without its runtime's package is not installed, which is another failure", async () => {
  const why = new Error('The package "@cloudflare/workerd-linux-64" could not be found, and is needed by workerd.');
  assert.match(await failure(why), /the package @cloudflare\/workerd-linux-64 is not installed: .*\[NotInstalled\]$/);
});
