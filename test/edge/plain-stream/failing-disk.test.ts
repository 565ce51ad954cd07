/** A stream on a disk that has no room for one write or the other. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";
import fc from "fast-check";
import type { AppendOrder, CreateOrder, Stored } from "../../../src/edge/rpc/plain-stream-rpc.ts";
import { reportDisk } from "../report-machine.ts";
import { type DrivenStream, driveStream } from "./object.ts";

const TEXT = "text/plain";

function creation(changes: Partial<CreateOrder> = {}): CreateOrder {
  const lifetime = { type: "idle", seconds: 3600 } as const;
  const rest = { closed: false, fork: undefined, owner: undefined, body: new Uint8Array(0) };
  return { contentType: TEXT, lifetime, ...rest, ...changes };
}

function order(text: string, changes: Partial<AppendOrder> = {}): AppendOrder {
  const rest = { closes: false, producer: undefined, sequence: undefined, source: "alice" };
  return { contentType: TEXT, body: new TextEncoder().encode(text), ...rest, ...changes };
}

function reasonOf(stored: Stored): string {
  return stored.ok ? "ok" : stored.reason;
}

async function made(): Promise<DrivenStream> {
  const driven = driveStream();
  const created = await driven.stream.create(creation());
  assert.ok(created.ok);
  return driven;
}

before(() => reportDisk("free"));
beforeEach(() => reportDisk("free"));

describe("a stream on a full disk", () => {
  it("refuses an append by name, whichever write fails, and stores nothing of it", async (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    for (const failAt of ["INSERT INTO log", "INTO producers", "CREATE TABLE IF NOT EXISTS producers", "INTO facts"]) {
      await reportDisk("free");
      const driven = await made();
      const producer = { id: "p", epoch: 0, seq: 0 };
      // So long after its creation that its end is written too.
      t.mock.timers.tick(3000_000);
      driven.db.failAt = failAt;
      const append = () => driven.stream.append(order("x", { producer, sequence: "1", closes: true }));
      assert.equal(reasonOf(await append()), "StorageFull", failAt);
      driven.db.failAt = undefined;
      await reportDisk("free");
      for (let time = 0; time < 2; time += 1) {
        assert.equal(await driven.text(), "", failAt);
        driven.wake();
      }
      assert.equal(reasonOf(await append()), "ok", failAt);
      driven.wake();
      assert.equal(reasonOf(await append()), "ok", "it is known as a repeat");
      assert.equal(await driven.text(), "x", failAt);
    }
  });

  it("stores nothing of an append that it refuses because its use cannot be noted", async (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    const driven = await made();
    t.mock.timers.tick(3000_000);
    driven.db.failAt = "INTO facts";
    assert.equal(reasonOf(await driven.stream.append(order("x"))), "StorageFull");
    driven.db.failAt = undefined;
    await reportDisk("free");
    assert.equal(reasonOf(await driven.stream.append(order("x"))), "ok");
    assert.equal(await driven.text(), "x");
  });

  it("is created whole or not at all", async () => {
    for (const failAt of ["CREATE TABLE IF NOT EXISTS log", "INSERT INTO log", "INTO facts"]) {
      await reportDisk("free");
      const driven = driveStream();
      driven.db.failAt = failAt;
      const create = () => driven.stream.create(creation({ body: new TextEncoder().encode("first") }));
      const refused = await create();
      assert.equal(refused.ok || refused.reason, "StorageFull", failAt);
      driven.db.failAt = undefined;
      await reportDisk("free");
      driven.wake();
      assert.equal(reasonOf(await driven.stream.append(order("x"))), "StreamNotFound", failAt);
      const created = await create();
      assert.ok(created.ok && created.isNew, failAt);
      assert.equal(await driven.text(), "first");
    }
  });

  it("is read, though that cannot be noted; once it can, the stream lives as long as it should", async (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    const driven = await made();
    await driven.stream.append(order("x"));
    driven.db.failAt = "INTO facts";
    t.mock.timers.tick(3500_000);
    assert.equal(await driven.text(), "x");
    driven.db.failAt = undefined;
    await reportDisk("free");
    t.mock.timers.tick(1000_000);
    assert.equal(await driven.text(), "x");
    driven.wake();
    t.mock.timers.tick(3500_000);
    assert.equal(await driven.text(), "x", "the use before is stored");
    driven.wake();
    t.mock.timers.tick(5000_000);
    assert.equal(reasonOf(await driven.stream.append(order("x"))), "StreamNotFound");
  });

  it("has what was acknowledged once and in order, whatever fails and whenever it wakes", async () => {
    const writes = ["INSERT INTO log", "INTO producers", "INTO facts", "CREATE TABLE", undefined];
    const step = fc.record({
      producer: fc.constantFrom("p", "q", undefined),
      failAt: fc.constantFrom(...writes),
      wakes: fc.boolean(),
      repeats: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await reportDisk("free");
        const driven = await made();
        const next = { p: 0, q: 0 };
        let expected = "";
        let count = 0;
        for (const { producer: id, failAt, wakes, repeats } of steps) {
          count += 1;
          const text = `${id ?? "-"}${count} `;
          const producer = id && { id, epoch: 0, seq: next[id] };
          driven.db.failAt = failAt;
          const append = () => driven.stream.append(order(text, { producer }));
          const first = await append();
          driven.db.failAt = undefined;
          await reportDisk("free");
          if (wakes) driven.wake();
          assert.ok(first.ok || first.reason === "StorageFull", reasonOf(first));
          let isStored = first.ok;
          // A producer repeats what was refused, and may repeat what was not.
          if (id !== undefined && (repeats || !first.ok)) {
            const again = await append();
            assert.ok(again.ok, reasonOf(again));
            assert.equal(again.isDuplicate, first.ok);
            isStored = true;
          }
          if (isStored) expected += text;
          if (id !== undefined) next[id] += 1;
        }
        assert.equal(await driven.text(), expected);
        driven.wake();
        assert.equal(await driven.text(), expected);
      }),
      { numRuns: 60 },
    );
  });
});
