/** What the cost model makes of counted use, and how the command prints it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  ASSUMPTIONS,
  type DeviceKind,
  deviceKinds,
  monthlyCost,
  PRICES,
  USE,
} from "../../../src/cli/deploy/cost-model.ts";
import { DEVICE_COUNTS } from "../../../src/cli/deploy/cost-table.ts";
import { runHere } from "../support.ts";

const NOTHING = { requests: 0, objectCalls: 0, objectMessages: 0, wakes: 0, rowsWritten: 0 };
const HOURS = 720;

function kind(use: Partial<DeviceKind["use"]>, residentSeconds = 0): DeviceKind {
  return { name: "", use: { ...NOTHING, ...use }, residentSeconds };
}

describe("the cost of a month", () => {
  it("is that of the plan while nothing goes beyond what is included", () => {
    assert.equal(monthlyCost(kind({}), 100_000).total, PRICES.plan);
    assert.equal(monthlyCost(kind({ requests: 10_000_000 / HOURS }), 1).requests, 0);
  });

  it("has each thing at its price beyond that", () => {
    const million = 1_000_000 / HOURS;
    assert.equal(round(monthlyCost(kind({ requests: 10 * million + million }), 1).requests), 0.3);
    assert.equal(round(monthlyCost(kind({ objectCalls: 2 * million }), 1).objectRequests), 0.15);
    assert.equal(round(monthlyCost(kind({ rowsWritten: 53 * million }), 1).rowsWritten), 3);
    // Twenty messages are one request.
    assert.equal(round(monthlyCost(kind({ objectMessages: 60 * million }), 1).objectRequests), 0.3);
  });

  it("has an object that never leaves memory as the platform's own price list does: $4.15 a month", () => {
    const many = monthlyCost(kind({}, 3600), 1001).objectTime - monthlyCost(kind({}, 3600), 1).objectTime;
    const included = (PRICES.objectTime.included / 1_000_000) * PRICES.objectTime.perMillion;
    assert.ok(Math.abs((many + included) / 1001 - 4.147) < 0.01, String(many));
  });

  it("never bills an object for more than all the time", () => {
    const busy = monthlyCost(kind({ wakes: 100_000 }), 1000);
    assert.equal(busy.objectTime, monthlyCost(kind({}, 3600), 1000).objectTime);
  });

  it("grows with the number of devices, for each kind", () => {
    for (const one of deviceKinds()) {
      const costs = DEVICE_COUNTS.map((devices) => monthlyCost(one, devices).total);
      assert.deepEqual(
        costs,
        costs.toSorted((first, second) => first - second),
        one.name,
      );
    }
  });
});

describe("grooveway deploy cost", () => {
  it("prints each kind of device for 10, 1,000 and 100,000 devices, with its assumptions", async () => {
    const { stdout, code } = await runHere(["deploy", "cost"]);
    assert.equal(code, 0);
    const [head = "", ...lines] = stdout.split("\n");
    assert.match(head, /10 devices +1,000 devices +100,000 devices$/);
    for (const { name } of deviceKinds())
      assert.ok(
        lines.some((line) => line.startsWith(`${name} `)),
        name,
      );
    assert.match(stdout, /November 2026/);
  });

  it("prints the model as JSON, for any number of devices", async () => {
    const { stdout } = await runHere(["deploy", "cost", "--devices", "500", "--json"]);
    const { use, assumptions, costs } = JSON.parse(stdout);
    assert.deepEqual([use, assumptions], [USE, ASSUMPTIONS]);
    assert.ok(
      costs.every(
        ({ devices, atMost, cost }: { devices: number; atMost: number; cost: { total: number } }) =>
          devices === 500 && atMost >= cost.total,
      ),
    );
    for (const devices of ["0", "many", "1e3"]) {
      assert.equal((await runHere(["deploy", "cost", "--devices", devices])).code, 2);
    }
  });
});

function round(dollars: number): number {
  return Math.round(dollars * 1000) / 1000;
}
