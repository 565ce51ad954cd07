import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { noWay } from "../../src/device/climb.ts";
import { DeviceError } from "../../src/device/device-error.ts";

const refused = new DeviceError("ConnectFailed", "connection refused");
const portal = new DeviceError("NotAnEdge", "a login page answered");
const failure = (id: string, error?: DeviceError) => ({ id, stage: "connected" as const, error });

describe("the error of a device that found no way", () => {
  it("is that of the way that says most, and names the others", () => {
    const { code, message, retryable } = noWay([
      failure("tcp", refused),
      failure("websocket", portal),
      failure("polling"),
    ]);
    assert.deepEqual(
      [code, message, retryable],
      ["NotAnEdge", "a login page answered (tried: tcp, websocket, polling)", true],
    );
  });

  it("is the one error of a connection that all ways share", () => {
    assert.equal(noWay([failure("websocket", refused), failure("polling", refused)]), refused);
  });

  it("is the relay's refusal, whatever else was tried", () => {
    const token = new DeviceError("TokenRefused", "the token has expired");
    assert.equal(noWay([failure("websocket", portal), failure("longlived", token)]), token);
  });

  it("says whether connections could be made where nothing answers", () => {
    assert.match(noWay([failure("tcp")]).message, /nothing comes back on them/);
    assert.match(noWay([{ ...failure("tcp"), stage: "started" }]).message, /no connection could be made/);
  });

  it("is retryable if another way only failed to connect", () => {
    const inClear = new DeviceError("TokenInClear", "the token would go unencrypted");
    const mixed = noWay([failure("tcp", inClear), failure("tls", refused)]);
    assert.deepEqual([mixed.code, mixed.retryable], ["TokenInClear", true]);
    assert.equal(
      noWay([failure("tcp", inClear), failure("tcp443", new DeviceError("TokenInClear", "so would it"))]).retryable,
      false,
    );
  });
});
