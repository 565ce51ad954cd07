/** What collectors keep of the last day, and how they list objects. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HISTORY_INTERVAL, HISTORY_SLOTS } from "../../../src/edge/metrics/limits.ts";
import { ABSENT, type Report } from "../../../src/edge/metrics/object-states.ts";
import type {
  CollectorReading,
  HistoryInterval,
  MetricsBatch,
  ObjectQuery,
  ObjectRow,
} from "../../../src/edge/rpc/collector-rpc.ts";
import { newObjects } from "../new-objects.ts";

interface CollectorStub {
  add(batch: MetricsBatch): Promise<void>;
  read(): Promise<CollectorReading>;
  history(): Promise<HistoryInterval[]>;
  objects(query: ObjectQuery): Promise<ObjectRow[]>;
  pass(milliseconds: number): Promise<void>;
  addEach(batches: readonly MetricsBatch[], milliseconds: number): Promise<void>;
  historyRows(): Promise<number>;
  forgetWho(): Promise<void>;
  crash(): Promise<void>;
}

const collector = newObjects<CollectorStub>("COLLECTOR");

let number = 0;
function batch(increments: Record<string, number>, ...reports: Report[]): MetricsBatch {
  number += 1;
  return { isolate: "one", number, increments, reports };
}

function total(history: readonly HistoryInterval[]): number {
  return history.reduce((sum, { increments }) => sum + (increments.throttleWaits ?? 0), 0);
}

describe("the history of a collector", () => {
  it("has what was counted in each interval, also in the current one", async () => {
    const { stub } = await collector();
    await stub.add(batch({ throttleWaits: 1 }));
    await stub.add(batch({ throttleWaits: 2, streamBytes: 5 }));
    await stub.pass(HISTORY_INTERVAL);
    await stub.add(batch({ throttleWaits: 4 }));
    const history = (await stub.history()).toSorted((one, other) => one.interval - other.interval);
    assert.deepEqual(
      history.map(({ increments }) => ({ ...increments })),
      [{ throttleWaits: 3, streamBytes: 5 }, { throttleWaits: 4 }],
    );
    assert.equal((history[1]?.interval ?? 0) - (history[0]?.interval ?? 0), 1);
    assert.equal((await stub.read()).totals.throttleWaits, 7);
  });

  it("costs a row for an interval in which something was counted, and none for the others", async () => {
    const { stub } = await collector();
    for (let at = 0; at < 5; at += 1) {
      for (let more = 0; more < 3; more += 1) await stub.add(batch({ throttleWaits: 1 }));
      await stub.pass(10 * HISTORY_INTERVAL);
    }
    assert.equal(await stub.historyRows(), 4, "the last interval is with the totals");
    assert.equal(total(await stub.history()), 15);
  });

  it("goes back a day, and has no more rows than that, however long it counts", async () => {
    const { stub } = await collector();
    // In one call: as many calls as there are intervals would take longer than all other tests of collectors.
    await stub.addEach(
      Array.from({ length: HISTORY_SLOTS + 30 }, () => batch({ throttleWaits: 1 })),
      HISTORY_INTERVAL,
    );
    // The test itself takes time: an interval may begin meanwhile.
    const isAllBut = (few: number, count: number) => count <= HISTORY_SLOTS && count >= HISTORY_SLOTS - few;
    assert.ok(isAllBut(1, await stub.historyRows()), String(await stub.historyRows()));
    assert.ok(isAllBut(2, total(await stub.history())), String(total(await stub.history())));
    await stub.pass(HISTORY_SLOTS * HISTORY_INTERVAL);
    assert.deepEqual(await stub.history(), []);
  });

  it("adds up an interval to which a clock that was set back comes again", async () => {
    const { stub } = await collector();
    await stub.add(batch({ throttleWaits: 1 }));
    await stub.pass(HISTORY_INTERVAL);
    await stub.add(batch({ throttleWaits: 1 }));
    await stub.pass(-HISTORY_INTERVAL);
    await stub.add(batch({ throttleWaits: 1 }));
    await stub.pass(HISTORY_INTERVAL);
    await stub.add(batch({ throttleWaits: 1 }));
    const sums = new Map<number, number>();
    for (const { interval, increments } of await stub.history()) {
      sums.set(interval, (sums.get(interval) ?? 0) + (increments.throttleWaits ?? 0));
    }
    assert.deepEqual([...sums.values()], [2, 2]);
  });
});

describe("objects of a collector", () => {
  const mailbox = (name: string, count: number, more: Partial<Report> = {}): Report => ({
    ...ABSENT,
    kind: "mailbox",
    name,
    count,
    octets: 10 * count,
    oldest: 1000 - count,
    ...more,
  });
  const query: ObjectQuery = { kind: "mailbox", contains: "", order: "count", after: undefined, limit: 2 };

  it("come in pages, in any order, each once", async () => {
    const { stub } = await collector();
    const names = ["a", "b", "c", "d", "e"];
    await stub.add(batch({}, ...names.map((name, at) => mailbox(name, 1 + (at % 2)))));
    for (const order of ["count", "octets", "age"] as const) {
      const seen: string[] = [];
      for (let after: ObjectQuery["after"]; ; ) {
        const rows: ObjectRow[] = await stub.objects({ ...query, order, after });
        seen.push(...rows.map(({ name }) => name));
        const last = rows.at(-1);
        if (last === undefined) break;
        after = last;
      }
      assert.deepEqual(seen, ["b", "d", "a", "c", "e"], order);
    }
  });

  it("are found by name, label and whom they are for, whatever is in the text", async () => {
    const { stub } = await collector();
    const connection: Report = {
      ...ABSENT,
      kind: "connection",
      name: "guid",
      label: "Polling",
      count: 1,
      who: "x://Bob%2FQ",
    };
    await stub.add(batch({}, mailbox("x://mailbox%40y", 1), connection));
    const found = async (kind: "mailbox" | "connection", contains: string) =>
      (await stub.objects({ ...query, kind, contains })).map(({ name }) => name);
    assert.deepEqual(await found("mailbox", "MAILBOX@"), ["x://mailbox%40y"]);
    assert.deepEqual(await found("mailbox", "mailbox x"), [], "the kind is no part of the name");
    for (const text of ["bob/q", "polling", "GUID"]) assert.deepEqual(await found("connection", text), ["guid"], text);
    for (const text of ["%x", "_", "'", '"; DROP TABLE objects; --', "*"]) {
      assert.deepEqual(await found("mailbox", text), [], text);
    }
  });

  it("are there after an upgrade from a release that did not know whom connections are for", async () => {
    const { stub, ...one } = await collector();
    await stub.add(batch({ throttleWaits: 1 }, mailbox("kept", 3)));
    await stub.forgetWho();
    await stub.crash().catch(() => undefined);
    const again = await one.again();
    assert.deepEqual(
      (await again.objects(query)).map((row) => [row.name, row.who]),
      [["kept", ""]],
    );
    await again.add(batch({}, mailbox("new", 1, { who: "somebody" })));
    assert.equal((await again.objects(query)).length, 2);
  });
});
