/** Errors as codes, without their texts. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DeviceError } from "../../../src/device/device-error.ts";
import { failureOf } from "../../../src/device/diagnosis/failure.ts";

describe("an error", () => {
  it("has the code of the system, however deep", () => {
    const system = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
    const dialled = new DeviceError("ConnectFailed", "no", { cause: new AggregateError([system]) });
    const proxied = new DeviceError("ConnectFailed", "the proxy", { cause: dialled });
    assert.deepEqual(failureOf(proxied), { code: "ConnectFailed", system: "ECONNREFUSED", reason: undefined });
  });

  it("has a reason of edges, and no other word in its place", () => {
    const reason = (text: string) => failureOf(new DeviceError("Refused", text)).reason;
    assert.equal(reason("the edge refused: no [UpgradeNeeded]"), "UpgradeNeeded");
    assert.equal(reason("the edge refused: no [Secret]"), undefined);
    assert.equal(reason("the edge refused: no [constructor]"), undefined);
  });

  it("keeps nothing else of what it is made of", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 3 }), (secret) => {
        const cause = Object.assign(new Error(secret), { code: `x${secret}`, path: secret });
        const seen = failureOf(new DeviceError("NotAnEdge", secret, { cause }));
        assert.deepEqual(seen, { code: "NotAnEdge", system: undefined, reason: undefined });
      }),
    );
  });

  it("that refers to itself ends", () => {
    const error = new Error("loop");
    error.cause = error;
    assert.equal(failureOf(error).system, undefined);
  });
});
