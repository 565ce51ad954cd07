/** How many TCP connections the channels of one principal may have: the Meter's part, and a channel's. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { STREAM_STEP } from "../../../src/edge/admission/limits.ts";
import { StreamHolders } from "../../../src/edge/admission/stream-holders.ts";
import { StreamReservation } from "../../../src/edge/admission/stream-reservation.ts";
import { holderIn, holderName } from "../../../src/edge/rpc/meter-rpc.ts";

/** Storage in memory. */
class Rows extends Map<string, unknown> {
  put(key: string, value: unknown): void {
    this.set(key, value);
  }
  list({ prefix }: { readonly prefix: string }): [string, unknown][] {
    return [...this].filter(([key]) => key.startsWith(prefix));
  }
}

function holders(limit: number, rows = new Rows()) {
  return { rows, all: new StreamHolders(rows as never, limit) };
}

describe("the holders of connections", () => {
  it("never have more than the limit, and are found again after eviction", () => {
    const calls = fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.nat(12)), { maxLength: 40 });
    fc.assert(
      fc.property(calls, fc.integer({ min: 1, max: 20 }), (calls, limit) => {
        const { rows, all } = holders(limit);
        const held = new Map<string, number>();
        for (const [holder, streams] of calls) {
          const others = [...held].reduce((sum, [name, count]) => sum + (name === holder ? 0 : count), 0);
          const may = streams <= (held.get(holder) ?? 0) || others + streams <= limit;
          assert.equal(all.hold(holder, streams), may);
          if (may) held.set(holder, streams);
          assert.equal(
            all.total,
            [...held.values()].reduce((sum, count) => sum + count, 0),
          );
          assert.ok(all.total <= limit);
        }
        const { all: again } = holders(limit, rows);
        assert.equal(again.total, all.total);
        assert.deepEqual(again.names.sort(), all.names.sort());
      }),
    );
  });

  it("leave no row when they hold nothing, and rows of another format count nothing", () => {
    const { rows, all } = holders(10);
    rows.set("holder:odd", "text");
    assert.equal(holders(10, rows).all.total, 0);
    rows.delete("holder:odd");
    all.hold("a", 3);
    all.hold("a", 0);
    assert.equal(rows.size, 0);
  });

  it("are named by device and route", () => {
    const device = "grooveDevice://alice/laptop";
    assert.deepEqual(holderIn(holderName(device, 4_294_967_295)), { device, route: 4_294_967_295 });
  });
});

describe("a channel's reservation", () => {
  it("asks in steps, and keeps the last until its end", async () => {
    const { all } = holders(100);
    const asked: number[] = [];
    const meter = {
      hold: async (holder: string, streams: number) => {
        asked.push(streams);
        return all.hold(holder, streams);
      },
    };
    const reservation = new StreamReservation(meter as never, "a");
    const many = 5 * STREAM_STEP;
    for (let n = 0; n < many; n += 1) assert.ok(await reservation.enter());
    assert.deepEqual(
      asked,
      [1, 2, 3, 4, 5].map((step) => step * STREAM_STEP),
    );
    for (let n = 0; n < many; n += 1) await reservation.leave();
    assert.ok(asked.length < 10, `${asked}`);
    assert.ok(all.total > 0 && all.total <= 3 * STREAM_STEP);
    await reservation.end();
    assert.equal(all.total, 0);
  });

  it("is refused at the limit exactly, also where a step does not fit", async () => {
    const { all } = holders(STREAM_STEP + 2);
    const meter = { hold: async (holder: string, streams: number) => all.hold(holder, streams) };
    const one = new StreamReservation(meter as never, "a");
    const other = new StreamReservation(meter as never, "b");
    for (let n = 0; n < STREAM_STEP; n += 1) assert.ok(await one.enter());
    assert.deepEqual([await other.enter(), await other.enter(), await other.enter()], [true, true, false]);
    assert.equal(all.total, STREAM_STEP + 2);
    await one.end();
    assert.ok(await other.enter());
  });

  it("is granted if the Meter fails, and free where nobody is metered", async () => {
    const meter = { hold: () => Promise.reject(new Error("reset")) };
    assert.ok(await new StreamReservation(meter as never, "a").enter());
    assert.ok(await new StreamReservation(undefined, "a").enter());
  });
});
