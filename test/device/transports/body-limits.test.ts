import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BODY_LIMIT_TIME, BODY_LIMITS } from "../../../src/device/limits.ts";
import { bodyLimits } from "../../../src/device/transports/body-limits.ts";
import { STREAMED_BODY } from "../../../src/encapsulation/index.ts";

describe("body limits", () => {
  it("hold for the edge and the network that refused a body", () => {
    let network = "office";
    const limits = bodyLimits(
      () => network,
      () => 0,
    );
    limits.shrink("https://edge.test", 65536);
    assert.equal(limits.limit("https://edge.test"), 65536);
    assert.equal(limits.limit("https://other.test"), STREAMED_BODY);
    network = "home";
    assert.equal(limits.limit("https://edge.test"), STREAMED_BODY);
  });

  it("end after an hour", () => {
    let now = 0;
    const limits = bodyLimits(
      () => "",
      () => now,
    );
    limits.shrink("https://edge.test", 65536);
    now = BODY_LIMIT_TIME - 1;
    assert.equal(limits.limit("https://edge.test"), 65536);
    now = BODY_LIMIT_TIME;
    assert.equal(limits.limit("https://edge.test"), STREAMED_BODY);
  });

  it("are remembered for a bounded number of edges, the last ones", () => {
    const limits = bodyLimits(
      () => "",
      () => 0,
    );
    for (let n = 0; n <= BODY_LIMITS; n += 1) limits.shrink(`https://edge${n}.test`, 65536);
    assert.equal(limits.limit("https://edge0.test"), STREAMED_BODY);
    assert.equal(limits.limit(`https://edge${BODY_LIMITS}.test`), 65536);
  });
});
