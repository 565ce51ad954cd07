/** How counts come to the collectors: once each, soon, seldom, and still there when the edge was killed. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Device } from "../../../src/device/index.ts";
import { shardOf } from "../../../src/edge/collector/send-metrics.ts";
import { GATHER, SHARDS } from "../../../src/edge/metrics/limits.ts";
import { ABSENT, type Report } from "../../../src/edge/metrics/object-states.ts";
import { type CollectorReading, collectorName, type MetricsBatch } from "../../../src/edge/rpc/collector-rpc.ts";
import { start } from "../../cli/support.ts";
import type { Left } from "../../support/driven-worker.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { connect, receive, until } from "../mailbox/support.ts";
import { startDrivenEdge } from "../support.ts";

interface CollectorStub {
  add(batch: MetricsBatch): Promise<void>;
  read(): Promise<CollectorReading>;
  fail(fails: boolean): Promise<void>;
  calls(): Promise<number>;
  left(): Promise<Left>;
}

async function startDriven(t: TestContext): Promise<InspectedEdge> {
  const { edge, close } = await startDrivenEdge(0);
  t.after(close);
  return edge;
}

function collectorOf(edge: InspectedEdge, shard: number): Promise<CollectorStub> {
  return objectOf(edge.miniflare, "COLLECTOR", collectorName(shard));
}

function collectorsOf(edge: InspectedEdge): Promise<CollectorStub[]> {
  return Promise.all(Array.from({ length: SHARDS }, (_, shard) => collectorOf(edge, shard)));
}

/** What all collectors together have of a series, and of the objects of a kind. */
async function known(edge: InspectedEdge, series: string, kind: string): Promise<{ total: number; objects: number }> {
  const readings = await Promise.all((await collectorsOf(edge)).map((collector) => collector.read()));
  const kinds = readings.flatMap(({ kinds }) => kinds).filter((one) => one.kind === kind);
  return {
    total: readings.reduce((sum, { totals }) => sum + (totals[series] ?? 0), 0),
    objects: kinds.reduce((sum, { objects }) => sum + objects, 0),
  };
}

async function calls(edge: InspectedEdge): Promise<number> {
  const counts = await Promise.all((await collectorsOf(edge)).map((collector) => collector.calls()));
  return counts.reduce((sum, count) => sum + count, 0);
}

function report(name: string, count: number, more: Partial<Report> = {}): Report {
  return { kind: "mailbox", name, ...ABSENT, count, octets: 100 * count, oldest: count === 0 ? null : 5, ...more };
}

describe("a collector", () => {
  it("counts a batch that comes twice once, and each isolate's by itself", async (t) => {
    const collector = await collectorOf(await startDriven(t), 0);
    const batch = { isolate: "one", number: 1, increments: { throttleWaits: 2 }, reports: [] };
    await collector.add(batch);
    await collector.add(batch);
    assert.equal((await collector.read()).totals.throttleWaits, 2);
    await collector.add({ ...batch, isolate: "other" });
    await collector.add({ ...batch, number: 2 });
    await collector.add(batch);
    assert.equal((await collector.read()).totals.throttleWaits, 6);
    await collector.add({ ...batch, number: 3, increments: { madeUp: 7, throttleWaits: -5 } });
    assert.deepEqual((await collector.read()).totals, { throttleWaits: 6 });
  });

  it("has the last state of each object, and of memory only while it is fresh", async (t) => {
    const collector = await collectorOf(await startDriven(t), 0);
    let number = 0;
    const add = (...reports: Report[]) => collector.add({ isolate: "one", number: ++number, increments: {}, reports });
    await add(report("alice", 1), report("bob", 2, { oldest: 3 }));
    await add(report("alice", 4));
    const [sum] = (await collector.read()).kinds;
    assert.deepEqual(sum, { kind: "mailbox", label: "", objects: 2, count: 6, octets: 600, oldest: 3 });
    await add(report("alice", 0), report("bob", 0));
    assert.deepEqual((await collector.read()).kinds, []);
    await add(report("here", 3, { kind: "isolate", until: Date.now() + 60_000 }));
    await add(report("there", 9, { kind: "isolate", until: Date.now() - 1 }));
    assert.deepEqual(
      (await collector.read()).kinds.map(({ kind, count }) => [kind, count]),
      [["isolate", 3]],
    );
  });

  it("stores nothing when it is only read", async (t) => {
    const collector = await collectorOf(await startDriven(t), 3);
    const { totals, kinds } = await collector.read();
    assert.deepEqual([Object.keys(totals).length, kinds.length], [0, 0]);
    const { keys, tables, alarm } = await collector.left();
    assert.deepEqual([[...keys], tables, alarm], [[], 0, false]);
  });
});

describe("counts", () => {
  it("reach the collectors by themselves, in a few calls, and none while nothing happens", async (t) => {
    const edge = await startDriven(t);
    const alice = await connect(edge, "alice/laptop", "websocket");
    const bob = await connect(edge, "bob/phone", "websocket");
    await sleep(2 * GATHER);
    const before = await calls(edge);
    const began = Date.now();
    await Promise.all(Array.from({ length: 200 }, (_, at) => alice.send("bob/phone", `message ${at}`)));
    await receive(bob, 200);
    await until("all are counted", async () => {
      return (await known(edge, "messagesDelivered stored", "mailbox")).total === 200;
    });
    await sleep(2 * GATHER);
    const made = (await calls(edge)) - before;
    const gathered = Math.ceil((Date.now() - began) / GATHER);
    // One for the counts each time, and one for the mailbox, if messages were waiting in it just then.
    assert.ok(made <= 2 * gathered, `${made} calls in ${gathered} times`);
    const quiet = await calls(edge);
    await sleep(3 * GATHER);
    assert.equal(await calls(edge), quiet, "two idle devices send nothing");
    assert.equal((await known(edge, "", "connection")).objects, 2);
    await Promise.all([alice.close(), bob.close()]);
    await until("both are gone", async () => (await known(edge, "", "connection")).objects === 0);
  });

  it("count once when the answers of collectors are lost", async (t) => {
    const edge = await startDriven(t);
    const collectors = await collectorsOf(edge);
    await Promise.all(collectors.map((collector) => collector.fail(true)));
    const alice = await connect(edge, "alice/laptop", "websocket");
    for (const text of ["one", "two"]) {
      await alice.send("carol/desk", text);
      await sleep(1.5 * GATHER);
    }
    await Promise.all(collectors.map((collector) => collector.fail(false)));
    await alice.send("carol/desk", "three");
    await until("all are counted", async () => (await known(edge, "messagesReceived stored", "")).total >= 3);
    await sleep(2 * GATHER);
    const { total, objects } = await known(edge, "messagesReceived stored", "mailbox");
    assert.deepEqual([total, objects], [3, 1]);
    await alice.close();
  });

  it("say that nothing waits in a mailbox whose lifetime is over", async (t) => {
    const edge = await startDriven(t);
    const path = `${edge.url}/mailboxes/carol%2Fdesk`;
    const headers = { "Content-Type": "application/json", "Stream-TTL": "60" };
    const created = await fetch(path, { method: "PUT", headers });
    assert.equal(created.status, 201, await created.text());
    const alice = await connect(edge, "alice/laptop", "websocket");
    await alice.send("carol/desk", "waits");
    await alice.close();
    await until("it waits", async () => (await known(edge, "", "mailbox")).objects === 1);
    // Its alarm is not due by the platform's clock: a read notices it.
    await fetch(`${edge.url}/clock/120000`);
    await (await fetch(path)).arrayBuffer();
    await until("nothing waits", async () => (await known(edge, "", "mailbox")).objects === 0);
    assert.equal((await known(edge, "messagesDropped Expired", "")).total, 1);
  });

  it("are spread over all collectors by name, and always the same", () => {
    const shards = new Set(Array.from({ length: 400 }, (_, at) => shardOf(`mailbox grooveDevice://alice/d${at}`)));
    assert.equal(shards.size, SHARDS);
    assert.equal(shardOf("mailbox grooveDevice://alice/laptop"), shardOf("mailbox grooveDevice://alice/laptop"));
  });
});

describe("an edge that was killed", () => {
  it("has its counters and what waits again, and no connections of before", { timeout: 120_000 }, async (t) => {
    const args = ["edge", "--port", "0", "--json", "--dev", "--admin-token", "admin", "--state", temporaryFolder()];
    const begin = async () => {
      const running = start(t, args);
      const [, url = ""] = await running.line(/"url":"([^"]+)"/);
      const metric = async (series: string) => {
        const answer = await fetch(`${url}/metrics`, { headers: { Authorization: "Bearer admin" } });
        const line = (await answer.text()).split("\n").find((text) => text.startsWith(`${series} `));
        return Number(line?.split(" ").at(-1));
      };
      return { running, url, metric };
    };
    const first = await begin();
    const alice = await Device.connect({ edge: first.url, address: "alice/laptop", transport: "websocket" });
    t.after(() => alice.close());
    for (const text of ["one", "two"]) await alice.send("carol/desk", text);
    await until("they are counted", async () => (await first.metric("grooveway_waiting_messages")) === 2);
    assert.equal(await first.metric('grooveway_connections{encapsulation="WebSocket"}'), 1);
    first.running.process.kill("SIGKILL");
    await first.running.finished;
    // Elsewhere, so that the device does not come back to it.
    const second = await begin();
    assert.equal(await second.metric("grooveway_waiting_messages"), 2);
    assert.equal(await second.metric('grooveway_messages_received_total{class="stored"}'), 2);
    assert.equal(await second.metric('grooveway_connections_opened_total{encapsulation="WebSocket"}'), 1);
    assert.equal(await second.metric('grooveway_connections{encapsulation="WebSocket"}'), 0);
  });
});
