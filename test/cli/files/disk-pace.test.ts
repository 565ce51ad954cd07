import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DiskPace } from "../../../src/cli/files/disk-pace.ts";

describe("the disk", () => {
  it("is asked on threads for a while after it was slow, and then at once again", async (context) => {
    let now = 0;
    context.mock.method(performance, "now", () => now);
    const pace = new DiskPace();
    const ask = (milliseconds: number) =>
      pace.call(
        () => {
          now += milliseconds;
          return "at once";
        },
        (done) => done(null, "on a thread"),
      );
    assert.equal(await ask(0.1), "at once");
    assert.equal(await ask(5), "at once");
    const next = await Promise.all(Array.from({ length: 40 }, () => ask(0.1)));
    assert.equal(next[0], "on a thread");
    assert.equal(next.at(-1), "at once");
  });

  it("that fails at once is not asked again for the same", async () => {
    const failing = new DiskPace().call<string>(
      () => {
        throw new Error("gone");
      },
      (done) => done(null, "on a thread"),
    );
    await assert.rejects(failing, /gone/);
  });
});
