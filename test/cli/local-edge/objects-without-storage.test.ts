/** On a machine of its own the edge keeps virtual connections in memory: nothing of them is on disk, and they hibernate. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { Device } from "../../../src/device/index.ts";
import { receive } from "../../edge/mailbox/support.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { until } from "../../support/watch.ts";

const TRANSPORTS = ["websocket", "longlived", "keepalive", "polling"] as const;

/** Longer than workerd keeps an idle object in memory. */
const EVICTED = 14_000;

async function start(t: TestContext) {
  const state = join(temporaryFolder(), "state");
  const edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open", adminToken: "admin", state });
  t.after(() => edge.close());
  return { url: edge.url, state };
}

async function metric(url: string, series: RegExp): Promise<number> {
  const answer = await fetch(`${url}/metrics`, { headers: { Authorization: "Bearer admin" } });
  return Number(series.exec(await answer.text())?.[1] ?? 0);
}

/** Passes connections on, until it is cut: then it takes no more. */
async function startPassage(to: number) {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one.on("error", () => other.destroy()).on("close", () => other.destroy()));
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" ? (address?.port ?? 0) : 0,
    cut() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

it("devices get messages after their objects have left memory, and no object of theirs has a database", {
  timeout: 120_000,
}, async (t) => {
  const { url, state } = await start(t);
  const devices = await Promise.all(
    TRANSPORTS.map(async (transport) => {
      const lost: string[] = [];
      const onReconnect = (error: Error) => lost.push(error.message);
      const device = await Device.connect({ edge: url, address: `bob/${transport}`, transport, onReconnect });
      t.after(() => device.close());
      return { device, transport, lost };
    }),
  );
  await sleep(EVICTED);
  const alice = await Device.connect({ edge: url, address: "alice/pc", transport: "websocket" });
  t.after(() => alice.close());
  for (const { device, transport, lost } of devices) {
    const got = receive(device, 1, 30_000);
    await alice.send(`bob/${transport}`, transport);
    assert.equal((await got)[0]?.text(), transport);
    assert.deepEqual(lost, [], transport);
  }
  const kinds = readdirSync(join(state, "do"));
  assert.ok(kinds.includes("grooveway-Mailbox"));
  for (const kind of ["Tunnel", "ConnectionMeter", "Clock"]) {
    assert.ok(!existsSync(join(state, "do", `grooveway-${kind}`)), kind);
  }
});

it("the end of a device that polls is noticed, although nothing wakes its object but the clock", {
  timeout: 150_000,
}, async (t) => {
  const { url } = await start(t);
  const passage = await startPassage(Number(new URL(url).port));
  t.after(() => passage.cut());
  const edge = `http://127.0.0.1:${passage.port}`;
  const device = await Device.connect({ edge, address: "bob/pc", transport: "keepalive" });
  t.after(() => device.close());
  const opened = /^grooveway_connections\{encapsulation="KeepAlive"\} (\d+)$/m;
  await until("it is connected", async () => (await metric(url, opened)) === 1);
  passage.cut();
  const closed = /^grooveway_connections_closed_total\{reason="\w+"\} (1)$/m;
  await until("its end is noticed", async () => (await metric(url, closed)) === 1, 100_000);
});
