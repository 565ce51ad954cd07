/** QUOTA: what may wait for one peer. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseQuota, readQuota } from "../../../src/edge/policy/quota-setting.ts";
import { QUOTA } from "../../../src/store-and-forward/sender-share.ts";

describe("QUOTA", () => {
  it("overrides the defaults it names", () => {
    const named = fc.record(
      {
        octets: fc.integer({ min: 1024 ** 2, max: 10 ** 12 }),
        messages: fc.integer({ min: 16, max: 10 ** 9 }),
        share: fc.integer({ min: 10, max: 900 }).map((thousandths) => thousandths / 1000),
        sender: fc.integer({ min: 32 * 1024 ** 2, max: 10 ** 12 }),
      },
      { requiredKeys: [], noNullPrototype: true },
    );
    fc.assert(
      fc.property(named, fc.constantFrom(" ", ",", ", ", "\n"), (quota, between) => {
        const text = Object.entries(quota).map(([name, value]) => `${name}=${value}`);
        assert.deepEqual(parseQuota(text.join(between)), { ...QUOTA, ...quota });
      }),
    );
    assert.deepEqual(parseQuota(""), QUOTA);
  });

  it("accepts sizes with units", () => {
    for (const [text, octets] of [
      ["octets=2048KiB", 2 * 1024 ** 2],
      ["octets=64MiB", 64 * 1024 ** 2],
      ["octets=3GiB", 3 * 1024 ** 3],
    ] as const) {
      assert.equal(parseQuota(text).octets, octets);
    }
  });

  it("names the invalid entry and the fix", () => {
    for (const [text, entry] of [
      ["octets=64MiB octet=3", "octet=3"],
      ["octets", "octets"],
      ["octets=", "octets="],
      ["octets=1e9", "octets=1e9"],
      ["octets=64MB", "octets=64MB"],
      ["octets=67108864 MiB", "MiB"],
      ["octets=1048575", "octets=1048575"],
      ["octets=999999999999GiB", "octets=999999999999GiB"],
      ["messages=15", "messages=15"],
      ["messages=100MiB", "messages=100MiB"],
      ["messages=-1", "messages=-1"],
      ["share=1", "share=1"],
      ["share=0", "share=0"],
      ["share=0.95", "share=0.95"],
      ["share=.5", "share=.5"],
      ["share=50%", "share=50%"],
      ["sender=31MiB", "sender=31MiB"],
      ["sender=0.5", "sender=0.5"],
      ["share=0.5 share=0.5", "share=0.5"],
      ["toString=1", "toString=1"],
    ] as const) {
      const read = readQuota(text);
      assert.ok(!read.ok, text);
      const [{ setting, problem, cure }] = read.problems;
      assert.equal(setting, "QUOTA");
      assert.ok(problem.includes(JSON.stringify(entry)), problem);
      assert.match(cure, /^(write|leave) /);
    }
  });

  it("is parsed or rejected, for any input", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(octets|messages|share)=[0-9.KMGiB]{0,20}$/)), (text) => {
        const read = readQuota(text);
        if (!read.ok) return;
        const { octets, messages, share } = read.value;
        assert.ok(octets > 0 && messages > 0 && share > 0 && share < 1);
      }),
    );
  });
});
