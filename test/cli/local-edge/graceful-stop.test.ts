/** An edge that is stopped by SIGTERM tells its devices when to come back, and loses nothing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { Device, type TransportName } from "../../../src/device/index.ts";
import { RETURN_SECONDS } from "../../../src/edge/http/limits.ts";
import { receive, TRANSPORTS } from "../../edge/mailbox/support.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { start } from "../support.ts";

describe("an edge that gets SIGTERM", () => {
  it("tells devices of all transports when to come back, and has all messages then", {
    timeout: 120_000,
  }, async (t) => {
    const port = String(await freePort("127.0.0.1", 0));
    const options = ["edge", "--port", port, "--json", "--dev", "--admin-token", "admin"];
    const args = [...options, "--state", join(temporaryFolder(), "state")];
    const first = start(t, args);
    const [, url = ""] = await first.line(/"url":"([^"]+)"/);
    const lost = new Map<TransportName, string>();
    const devices = await Promise.all(
      TRANSPORTS.map(async (transport) => {
        const onReconnect = (error: Error) => lost.set(transport, lost.get(transport) ?? error.message);
        const device = await Device.connect({ edge: url, address: `bob/${transport}`, transport, onReconnect });
        t.after(() => device.close());
        return { transport, device };
      }),
    );
    const alice = await Device.connect({ edge: url, address: "alice/pc", transport: "websocket" });
    t.after(() => alice.close());
    await alice.send("carol/pc", "waits");
    const stopped = Date.now();
    first.process.kill("SIGTERM");
    const { code, stderr } = await first.finished;
    assert.equal(code, 0, stderr);
    const took = Date.now() - stopped;
    assert.ok(took < 10_000, `it took ${took} ms`);
    for (const transport of TRANSPORTS) {
      // By ConnectClose, or the answer to a poll that comes after it, not by a connection that breaks off.
      const told =
        transport === "polling" ? /ConnectClose with ReasonId 1|\[EdgeStopping\]/ : /ConnectClose with ReasonId 1/;
      assert.match(lost.get(transport) ?? "", told, `${transport}: ${lost.get(transport)}`);
    }
    const second = start(t, args);
    await second.line(/"url":"([^"]+)"/);
    await Promise.all(
      devices.map(async ({ transport, device }) => {
        const got = receive(device, 1, 60_000);
        await alice.send(`bob/${transport}`, `for ${transport}`);
        assert.equal((await got)[0]?.text(), `for ${transport}`);
      }),
    );
    t.diagnostic(`stopped in ${took} ms; devices back ${Date.now() - stopped} ms after the signal`);
    const carol = await Device.connect({ edge: url, address: "carol/pc", transport: "websocket" });
    t.after(() => carol.close());
    assert.equal((await receive(carol, 1))[0]?.text(), "waits");
    const metrics = await fetch(`${url}/metrics`, { headers: { Authorization: "Bearer admin" } });
    const text = await metrics.text();
    // Those of before the stop are counted as well.
    assert.match(text, /^grooveway_connections_opened_total\{encapsulation="Polling"\} 2$/m);
    assert.match(text, /^grooveway_messages_received_total\{class="stored"\} 5$/m);
    assert.ok(RETURN_SECONDS > 0);
  });
});
