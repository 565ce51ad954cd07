import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { forbidden } from "../../../src/edge/policy/check-settings.ts";
import { pathUnder, prefixOf, seemingPrefix, withWholeAddress } from "../../../src/edge/policy/prefix-setting.ts";

const segment = fc.stringMatching(/^[A-Za-z0-9\-_~]{1,12}$/);
const prefixes = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => `/${segments.join("/")}`);
const paths = fc.webPath().map((path) => (path.startsWith("/") ? path : `/${path}`));

test("only a path under the prefix has it removed", () => {
  fc.assert(
    fc.property(prefixes, paths, (prefix, path) => {
      assert.equal(prefixOf({ PREFIX: prefix }), prefix);
      assert.equal(prefixOf({ PREFIX: `${prefix}/` }), prefix);
      assert.equal(pathUnder(prefix, `${prefix}${path}`), path);
      assert.equal(pathUnder(prefix, prefix), "/");
      assert.equal(pathUnder(prefix, `${prefix}x${path}`), undefined);
      assert.equal(pathUnder("", path), path);
    }),
  );
});

test("a target of an edge under any other path is recognized", () => {
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

test("text after an edge's own path is not taken for a prefix", () => {
  for (const path of [
    "/admin/mailboxes/bob/phone/rule",
    "/admin/health",
    "/admin/admin/mailboxes",
    "/mailboxes/mailboxes/phone",
    "/mailboxes/health",
    "/health/",
    "/local/health",
  ]) {
    for (const method of ["GET", "POST", "PUT"]) assert.equal(seemingPrefix(method, path), undefined, path);
  }
  assert.equal(seemingPrefix("GET", "/administration/health"), "/administration");
});

test("an address with an unescaped slash is recognized, with and without a mailbox action", () => {
  for (const [path, whole] of [
    ["/admin/mailboxes/bob/phone/rule", "/admin/mailboxes/bob%2Fphone/rule"],
    ["/admin/mailboxes/bob/phone/lock", "/admin/mailboxes/bob%2Fphone/lock"],
    ["/admin/mailboxes/bob/phone", "/admin/mailboxes/bob%2Fphone"],
    ["/mailboxes/bob/phone/rule", "/mailboxes/bob%2Fphone/rule"],
    ["/mailboxes/an%20odd/na%2Fme/rule/", "/mailboxes/an%20odd%2Fna%2Fme/rule"],
    ["/mailboxes/bob/rule", undefined],
    ["/admin/mailboxes/bob/lock", undefined],
    ["/admin/mailboxes/bob", undefined],
    ["/admin/mailboxes", undefined],
    ["/admin/mailboxes/a/b/c/rule", undefined],
    ["/elsewhere/mailboxes/bob/phone", undefined],
  ] as const) {
    assert.equal(withWholeAddress(path), whole, path);
  }
});

test("a prefix that is not a path is rejected at start", () => {
  for (const PREFIX of ["", "/", "/groove", "/groove/", "/a/b"]) assert.deepEqual(forbidden({ PREFIX, DEV: "1" }), []);
  for (const PREFIX of ["groove", "//", "/a//b", "/a b", "/..", "/a/./b", "/a?b", "/%67", "https://host/groove"]) {
    const codes = forbidden({ PREFIX, DEV: "1" }).map(({ code }) => code);
    assert.deepEqual(codes, PREFIX === "//" ? [] : ["MalformedPrefix"], PREFIX);
  }
});
