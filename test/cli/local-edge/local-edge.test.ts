/** How an edge fails to start. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { it } from "node:test";
import { errorLine } from "../../../src/cli/error-line.ts";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { superviseWorkerd } from "../../../src/cli/local-edge/supervise-workerd.ts";

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

it("an edge on any free port tries another when its port is taken before it listens", async (t) => {
  const others: Server[] = [];
  const edge = await startLocalEdge({
    port: 0,
    relayAllow: [],
    dev: "open",
    start: async (options) => {
      if (others.length === 0) {
        const other = createServer().listen(options.front.port, options.front.host);
        others.push(other);
        await once(other, "listening");
      }
      return superviseWorkerd(options);
    },
  });
  t.after(async () => {
    await edge.close();
    for (const other of others) other.close();
  });
  assert.equal((await fetch(`${edge.url}/health`)).status, 200);
});
