/** STREAM_ORIGINS and STREAM_RESUME. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { judgeTarget } from "../../../src/edge/policy/destinations.ts";
import { RESUME_SECONDS, readStreamOrigins, readStreamResume } from "../../../src/edge/policy/stream-origins.ts";

describe("STREAM_ORIGINS", () => {
  it("lists destinations, separated by spaces, since ports may have commas", () => {
    const read = readStreamOrigins("  db.example.com:5432\n*.corp.example.com:80,443 10.1.0.0/16:8000-8099 ");
    assert.ok(read.ok);
    const list = read.value;
    assert.deepEqual(
      list.map(({ text }) => text),
      ["db.example.com:5432", "*.corp.example.com:80,443", "10.1.0.0/16:8000-8099"],
    );
    assert.equal(judgeTarget(list, { host: "web.corp.example.com", port: 443 }).type, "look-up");
    assert.equal(judgeTarget(list, { host: "10.1.2.3", port: 8000 }).type, "dial");
    assert.equal(judgeTarget(list, { host: "10.1.2.3", port: 80 }).type, "refused");
  });

  it("lists nothing when it is empty", () => {
    assert.deepEqual(readStreamOrigins(""), { ok: true, value: [] });
  });

  it("is refused with the option to correct, whatever is wrong", () => {
    for (const text of ["db.example.com", "*:22", "*.com:443", "0.0.0.0/1:80", "db.example.com:5432,db2.example.com"]) {
      const read = readStreamOrigins(text);
      assert.ok(!read.ok, text);
      assert.equal(read.problems[0].setting, "STREAM_ORIGINS");
      assert.match(read.problems[0].cure, /--stream-allow/);
    }
  });

  it("is read or refused, whatever it says", () => {
    fc.assert(fc.property(fc.string(), (text) => typeof readStreamOrigins(text).ok === "boolean"));
  });
});

describe("STREAM_RESUME", () => {
  it("is a number of seconds up to a day, by default ten minutes", () => {
    assert.deepEqual(readStreamResume(""), { ok: true, value: RESUME_SECONDS * 1000 });
    assert.deepEqual(readStreamResume(" 86400 "), { ok: true, value: 86_400_000 });
    for (const text of ["0", "86401", "1.5", "10m", "-1", "1e3"]) assert.equal(readStreamResume(text).ok, false, text);
  });
});
