import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { release } from "../../src/lib/octets.ts";

describe("released bytes", () => {
  it("free their memory at once", () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let n = 0; n < 64; n += 1) release(new Uint8Array(1024 * 1024));
    assert.ok(process.memoryUsage().arrayBuffers - before < 2 * 1024 * 1024);
  });

  it("are empty, and so are their views", () => {
    const octets = new Uint8Array(8);
    const view = octets.subarray(2);
    release(octets);
    assert.deepEqual([octets.length, view.length], [0, 0]);
    release(octets);
  });

  it("stay if they are part of a larger buffer, which others may use", () => {
    const octets = new Uint8Array(8).subarray(1);
    release(octets);
    assert.equal(octets.length, 7);
  });
});
