/** What a device does about each reason. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type EdgeReasonRule, REASONS } from "../../src/edge/reasons.ts";

import { adviceOf, REASON_ADVICE } from "../../src/store-and-forward/reason-advice.ts";

describe("advice", () => {
  it("is given for every reason, and for nothing else", () => {
    assert.deepEqual(Object.keys(REASON_ADVICE).sort(), Object.keys(REASONS).sort());
  });

  it("is to give up when the edge does not let the device in", () => {
    for (const [reason, { status }] of Object.entries<EdgeReasonRule>(REASONS)) {
      if (status === 401 || status === 403) assert.equal(adviceOf(reason), "give up", reason);
    }
  });

  it("follows the status when the reason is one of a newer edge", () => {
    assert.deepEqual(
      [401, 403, 404, 500, undefined].map((status) => adviceOf("toString", status)),
      ["give up", "give up", "retry", "retry", "retry"],
    );
  });
});
