/** A request of somebody else stays below the server's prefix, however its path is written. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseServer, type ServerAddress, targetBelow } from "../../src/requests/index.ts";

function server(text: string): ServerAddress {
  const parsed = parseServer(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

const below = (url: string, path: string, query?: string) => targetBelow(server(url), { path, query });

describe("the target of a forwarded request", () => {
  const table: [string, string, string | undefined, string][] = [
    ["http://localhost:3000", "/", undefined, "/"],
    ["http://localhost:3000", "/a/b", "x=1&y=%20", "/a/b?x=1&y=%20"],
    ["http://localhost:3000/", "/a", "", "/a?"],
    ["http://localhost:3000/hooks", "/", undefined, "/hooks/"],
    ["http://localhost:3000/hooks/", "/github", undefined, "/hooks/github"],
    ["http://localhost:3000/hooks", "//other.example.com/x", undefined, "/hooks/other.example.com/x"],
    ["http://localhost:3000", "//other.example.com/x", undefined, "/other.example.com/x"],
    ["http://localhost:3000", "/@other.example.com/x", undefined, "/@other.example.com/x"],
    ["http://localhost:3000", "/http://other/x", undefined, "/http:/other/x"],
    ["http://localhost:3000", "/a%2Fb/c%20d", undefined, "/a%2Fb/c%20d"],
    ["http://localhost:3000", "/...", undefined, "/..."],
    ["http://localhost:3000", "/.well-known/x", undefined, "/.well-known/x"],
    ["http://localhost:3000", "/a", "u=http://x/../y", "/a?u=http://x/../y"],
  ];
  for (const [url, path, query, expected] of table) {
    it(`${url} and ${path}${query === undefined ? "" : `?${query}`} is ${expected}`, () => {
      assert.deepEqual(below(url, path, query), { ok: true, value: expected });
    });
  }

  for (const path of [
    "/..",
    "/../x",
    "/a/../../x",
    "/.",
    "/a/./b",
    "/%2e%2e/x",
    "/%2E./x",
    "/.%2e",
    "/..%2fx",
    "/a%2f..%2f..%2fx",
    "/..%5cx",
    "/..\\x",
    "/%252e%252e/x",
    "/%25252e%25252e/x",
    "/..;a=b/x",
    "/..%00/x",
    "/.%09./x",
    "/%20../x",
    "/%2525252525252e",
    "x",
    "",
    "@other",
    "/a b",
    "/\u00e9",
  ]) {
    it(`${JSON.stringify(path)} is refused`, () => assert.equal(below("http://localhost:3000/hooks", path).ok, false));
  }

  it("is on the same origin below the prefix, for any path and query", () => {
    const piece = fc.oneof(
      fc.constantFrom("/", "//", ".", "..", "%2e", "%2f", "%5c", "\\", "@", ":", "?", "#", ";", "%25", "%00", "http:"),
      fc.string({ maxLength: 4, unit: "binary-ascii" }),
    );
    const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
    const path = fc.oneof(
      text,
      text.map((rest) => `/${rest}`),
    );
    fc.assert(
      fc.property(path, fc.option(text, { nil: undefined }), (one, query) => {
        const target = below("http://localhost:3000/hooks", one, query);
        if (!target.ok) return;
        assert.match(target.value, /^\/hooks\/[!-~]*$/);
        // As naive programs read it, and as they read it after decoding it.
        for (const read of [target.value, decoded(target.value)]) {
          const url = new URL(read, "http://localhost:3000");
          assert.equal(url.origin, "http://localhost:3000");
          assert.ok(url.pathname.startsWith("/hooks/"), url.pathname);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

function decoded(text: string): string {
  const [path = ""] = text.split("?");
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

describe("the URL of a server", () => {
  it("is http or https, with an optional prefix", () => {
    assert.deepEqual(server("http://[::1]:3000/a/b/"), { origin: "http://[::1]:3000", prefix: "/a/b" });
    assert.deepEqual(server("https://example.com"), { origin: "https://example.com", prefix: "" });
  });

  for (const text of [
    "localhost:3000",
    "ftp://x",
    "http://u:p@x",
    "http://x/?a",
    "http://x/#a",
    "http://x/%2e%2e%2fa",
    "",
  ]) {
    it(`${JSON.stringify(text)} is refused`, () => assert.equal(parseServer(text).ok, false));
  }
});
