/** The default address of a device, and the error for a lost edge. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultAddress, edgeLost } from "../../src/cli/device-options.ts";
import { DeviceError } from "../../src/device/index.ts";
import { partsOf } from "../support/address.ts";

function fails(): string {
  throw new Error("uv_os_get_passwd returned ENOENT");
}

test("the default address is valid even without a user or machine name", (context) => {
  const before = { USER: process.env.USER, LOGNAME: process.env.LOGNAME };
  context.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  delete process.env.USER;
  delete process.env.LOGNAME;
  const numbered = `user${process.getuid?.() ?? ""}`;
  const table: readonly (readonly [() => string, () => string, string])[] = [
    [() => "alice", () => "laptop.example.com", "alice/laptop"],
    [fails, () => "laptop", `${numbered}/laptop`],
    [() => "", () => "", `${numbered}/device`],
    [() => "CORP\\alice b", () => ".local", "CORP%5Calice%20b/device"],
    [() => "alice", fails, "alice/device"],
  ];
  for (const [user, host, expected] of table) {
    assert.equal(defaultAddress({ user, host }), expected);
    assert.ok(partsOf(expected).device !== undefined);
  }
  process.env.USER = "bob";
  assert.equal(defaultAddress({ user: fails, host: () => "pc" }), "bob/pc");
});

test("the error for a lost edge has one code, the edge's own if it gave one", () => {
  const lost = (message: string) => edgeLost("https://one.example.com", new DeviceError("TokenRefused", message));
  assert.equal(
    lost("get a new token [TokenExpired]"),
    "one.example.com: get a new token [TokenExpired]; going on without this edge",
  );
  assert.equal(lost("get a new token"), "one.example.com: get a new token [TokenRefused]; going on without this edge");
});
