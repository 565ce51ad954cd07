import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { forbidden } from "../../../src/edge/policy/configuration.ts";
import { parsePrefix, pathUnder, seemingPrefix } from "../../../src/edge/policy/prefix.ts";

const segment = fc.stringMatching(/^[A-Za-z0-9\-_~]{1,12}$/);
const prefixes = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => `/${segments.join("/")}`);
const paths = fc.webPath().map((path) => (path.startsWith("/") ? path : `/${path}`));

test("a path under a prefix loses it, and only a path under it", () => {
  fc.assert(
    fc.property(prefixes, paths, (prefix, path) => {
      assert.equal(parsePrefix(prefix), prefix);
      assert.equal(parsePrefix(`${prefix}/`), prefix);
      assert.equal(pathUnder(prefix, `${prefix}${path}`), path);
      assert.equal(pathUnder(prefix, prefix), "/");
      assert.equal(pathUnder(prefix, `${prefix}x${path}`), undefined);
      assert.equal(pathUnder("", path), path);
    }),
  );
});

test("a target of an edge under another path is known, whatever the path", () => {
  const target = "/2.0/edge.example.com/MT4XMR2PDJ7WFSR3G93SQT4TAJ4R2PBXAQH5E7N,ConnType=KeepAlive,ID=gw-1";
  fc.assert(
    fc.property(prefixes, (prefix) => {
      for (const path of [target, "/health", "/admin/mailboxes", "/mailboxes/bob%2Flaptop/rule"]) {
        assert.equal(seemingPrefix("GET", `${prefix}${path}`), prefix);
      }
      assert.equal(seemingPrefix("POST", `${prefix}/`), prefix);
    }),
  );
  for (const path of ["/", "/health", "/nothing", "/a.b/c", "/mailboxes", target]) {
    assert.equal(seemingPrefix("GET", path), undefined, path);
  }
});

test("a prefix that is no path is refused at start", () => {
  for (const PREFIX of ["", "/", "/groove", "/groove/", "/a/b"]) assert.deepEqual(forbidden({ PREFIX, DEV: "1" }), []);
  for (const PREFIX of ["groove", "//", "/a//b", "/a b", "/..", "/a/./b", "/a?b", "/%67", "https://host/groove"]) {
    const codes = forbidden({ PREFIX, DEV: "1" }).map(({ code }) => code);
    assert.deepEqual(codes, PREFIX === "//" ? [] : ["MalformedPrefix"], PREFIX);
  }
});
