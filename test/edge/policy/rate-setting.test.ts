/** RATE, and the key under which a principal is metered. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { LEAST_RATE_OCTETS, RATE } from "../../../src/edge/policy/limits.ts";
import { meteredName, parseRate, readRate } from "../../../src/edge/policy/rate-setting.ts";

describe("RATE", () => {
  it("overrides the defaults it names", () => {
    const figure = (least: number) => fc.integer({ min: least, max: 10 ** 12 });
    const named = fc.record(
      {
        connections: figure(1),
        connects: figure(1),
        octets: figure(LEAST_RATE_OCTETS),
        messages: figure(1),
        recipients: figure(1),
      },
      { requiredKeys: [], noNullPrototype: true },
    );
    fc.assert(
      fc.property(named, fc.constantFrom(" ", ",", ", ", "\n"), (rate, between) => {
        const text = Object.entries(rate).map(([name, value]) => `${name}=${value}`);
        assert.deepEqual(parseRate(text.join(between)), { ...RATE, ...rate });
      }),
    );
    assert.deepEqual(parseRate(""), RATE);
  });

  it("names the invalid entry and the fix", () => {
    for (const [text, entry] of [
      ["connections=200 conects=3", "conects=3"],
      ["octets", "octets"],
      ["octets=", "octets="],
      ["octets=1e6", "octets=1e6"],
      ["messages=-1", "messages=-1"],
      ["messages=0", "messages=0"],
      ["messages=1.5", "messages=1.5"],
      [`octets=${LEAST_RATE_OCTETS - 1}`, `octets=${LEAST_RATE_OCTETS - 1}`],
      ["connects=1 connects=1", "connects=1"],
      ["toString=1", "toString=1"],
      ["messages=9999999999999999", "messages=9999999999999999"],
    ] as const) {
      const read = readRate(text);
      assert.ok(!read.ok, text);
      const [{ setting, problem, cure }] = read.problems;
      assert.equal(setting, "RATE");
      assert.ok(problem.includes(JSON.stringify(entry)), problem);
      assert.match(cure, /^(write|leave) /);
    }
  });

  it("meters nobody unless set, and then each address separately", () => {
    const source = "grooveDevice://alice/pc";
    assert.equal(meteredName(source, undefined, {}), undefined);
    assert.equal(meteredName(source, undefined, { RATE: "" }), undefined);
    assert.equal(meteredName("", undefined, { RATE: "messages=1" }), undefined);
    assert.equal(meteredName(source, "id", {}), "token:id");
    assert.equal(meteredName(source, undefined, { RATE: "messages=1" }), "address:grooveDevice://alice/pc");
  });
});
