/**
 * The edge under the oldest compatibility date that is promised, that of wrangler.toml, and under the newest that workerd
 * knows: what a new date changes in the runtime must not change what the edge does.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { describe, it } from "node:test";
import { startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { superviseWorkerd } from "../../src/cli/local-edge/supervise-workerd.ts";
import { wranglerConfig } from "../../src/cli/local-edge/wrangler-config.ts";
import { Device } from "../../src/device/index.ts";

const { compatibilityDate: newest } = createRequire(import.meta.url)("workerd") as { compatibilityDate: string };
const { compatibilityDate: oldest } = wranglerConfig();

describe("the edge", () => {
  for (const date of new Set([oldest, newest])) {
    it(`works under the compatibility date ${date}`, async (t) => {
      const logged: string[] = [];
      const edge = await startLocalEdge({
        port: 0,
        relayAllow: [],
        dev: "1",
        adminToken: "admin",
        log: (level, line) => logged.push(`${level} ${line}`),
        start: (given) => superviseWorkerd({ ...given, worker: { ...given.worker, compatibilityDate: date } }),
      });
      t.after(() => edge.close());
      const { url } = edge;
      for (const transport of ["websocket", "longlived", "keepalive", "polling"] as const) {
        const alice = await Device.connect({ edge: url, address: `alice/${transport}`, transport });
        await alice.send(`bob/${transport}`, "waits");
        const bob = await Device.connect({ edge: url, address: `bob/${transport}`, transport });
        bob.respond("api", ({ path }) => ({ body: `answer to ${path}` }));
        for await (const { body } of bob.messages()) {
          assert.equal(new TextDecoder().decode(body), "waits", transport);
          break;
        }
        // A message of many pieces.
        const long = "0123456789abcdef".repeat(20_000);
        await bob.send(alice.address, long);
        for await (const { body } of alice.messages()) {
          assert.equal(new TextDecoder().decode(body), long, transport);
          break;
        }
        const answer = await alice.request(bob.address, "api", { path: "/x" });
        assert.equal(answer.text(), "answer to /x", transport);
        await Promise.all([alice.close(), bob.close()]);
      }
      // Mailboxes over HTTP, live too, and streams that belong to no peer.
      const stream = `${url}/mailboxes/app/logs/today`;
      const headers = { "Content-Type": "text/plain" };
      assert.equal((await fetch(stream, { method: "PUT", headers })).status, 201);
      const live = fetch(`${stream}?offset=now&live=long-poll`);
      assert.ok((await fetch(stream, { method: "POST", headers, body: "one" })).ok);
      assert.equal(await (await fetch(`${stream}?offset=-1`)).text(), "one");
      assert.ok((await live).ok);
      const posted = await fetch(`${url}/send/carol%2Fpc?from=alice%2Fpc`, { method: "POST", headers, body: "posted" });
      assert.ok(posted.ok, await posted.text());
      const read = await fetch(`${url}/mailboxes/carol%2Fpc?offset=-1`);
      assert.equal(((await read.json()) as readonly unknown[]).length, 1);
      const admin = { headers: { Authorization: "Bearer admin" } };
      assert.match(await (await fetch(`${url}/metrics`, admin)).text(), /^grooveway_connections_opened_total\{/m);
      for (const path of ["/", "/ready", "/openapi.json"]) assert.equal((await fetch(url + path)).status, 200, path);
      assert.deepEqual(
        logged.filter((line) => line.startsWith("error")),
        [],
      );
    });
  }
});
