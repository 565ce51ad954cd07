import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WAY_LIMIT_TIME, WAY_LIMITS } from "../../../src/device/limits.ts";
import { wayLimits } from "../../../src/device/transports/way-limits.ts";
import { STREAMED_BODY } from "../../../src/encapsulation/index.ts";

describe("the limits of a way", () => {
  it("hold for the edge and the network that refused a body", () => {
    let network = "office";
    const { body: limits } = wayLimits(
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
    const { body: limits } = wayLimits(
      () => "",
      () => now,
    );
    limits.shrink("https://edge.test", 65536);
    now = WAY_LIMIT_TIME - 1;
    assert.equal(limits.limit("https://edge.test"), 65536);
    now = WAY_LIMIT_TIME;
    assert.equal(limits.limit("https://edge.test"), STREAMED_BODY);
  });

  it("are remembered for a bounded number of edges, the last ones", () => {
    const { body: limits } = wayLimits(
      () => "",
      () => 0,
    );
    for (let n = 0; n <= WAY_LIMITS; n += 1) limits.shrink(`https://edge${n}.test`, 65536);
    assert.equal(limits.limit("https://edge0.test"), STREAMED_BODY);
    assert.equal(limits.limit(`https://edge${WAY_LIMITS}.test`), 65536);
  });
});
