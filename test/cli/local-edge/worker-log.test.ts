/** The log of a local edge: JSON with levels. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { LEVELS, logLine } from "../../../src/cli/local-edge/worker-log.ts";
import { runHere } from "../support.ts";

describe("a line of the log", () => {
  it("has the worker's reason, with time and level", () => {
    const line = logLine("warn", "error", '{"reason":"InternalError","request":"8f1"}', 0);
    assert.deepEqual(JSON.parse(line ?? ""), {
      time: "1970-01-01T00:00:00.000Z",
      level: "error",
      reason: "InternalError",
      request: "8f1",
    });
  });

  it("is there only from its level on", () => {
    const printed = (least: (typeof LEVELS)[number]) =>
      ["error", "warn", "info", "log", "debug", "else"].filter((level) => logLine(least, level, "x", 0) !== undefined);
    assert.deepEqual(LEVELS.map(printed), [
      [],
      ["error"],
      ["error", "warn"],
      ["error", "warn", "info", "log"],
      ["error", "warn", "info", "log", "debug", "else"],
    ]);
  });

  it("is one line of JSON with its own time and level, whatever is logged", () => {
    const message = fc.oneof(fc.string({ unit: "binary" }), fc.json(), fc.constant('{"time":1,"level":2}'));
    fc.assert(
      fc.property(message, (text) => {
        const line = logLine("debug", "warn", text, 1000) ?? "";
        assert.ok(!line.includes("\n"));
        const { time, level } = JSON.parse(line);
        assert.deepEqual([time, level], ["1970-01-01T00:00:01.000Z", "warn"]);
      }),
    );
  });

  it("has a level that exists", async () => {
    const { code, stderr } = await runHere(["edge", "--port", "0", "--log-level", "loud"]);
    assert.equal(code, 2);
    assert.match(stderr, /--log-level "loud" is not one of off, error, warn, info, debug/);
  });
});
