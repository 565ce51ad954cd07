/** The URL of an edge, which is told to nobody before it is known to hold no secret. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connectionOptions } from "../../../src/device/options.ts";
import { edgeRoute } from "../../../src/device/transports/route.ts";

const SECRET = "s3cret";

test("an edge's URL has a host, and perhaps a port and a path", () => {
  const { host, port, secure } = edgeRoute("https://[::1]:8443/groove");
  assert.deepEqual([host, port, secure], ["::1", 8443, true]);
});

for (const [what, url, cure] of [
  ["a user name", `https://${SECRET}@edge.example.com`, /without a user name or password: remove/],
  ["a password", `https://alice:${SECRET}@edge.example.com`, /without a user name or password: remove/],
  ["a query", `https://edge.example.com/?token=${SECRET}`, /remove the \? or #/],
  ["an empty query", "https://edge.example.com/?", /remove the \? or #/],
  ["a fragment", `https://edge.example.com/#${SECRET}`, /remove the \? or #/],
  ["a password without a scheme", `alice:${SECRET}@edge.example.com`, /must be a URL such as/],
  ["a password after a broken scheme", `https//alice:${SECRET}@edge.example.com`, /must be a URL such as/],
] as const) {
  test(`an edge's URL with ${what} is refused, and not repeated`, () => {
    for (const edge of [url, ["https://a.example", url]]) {
      assert.throws(
        () => connectionOptions({ address: "alice/pc", edge }),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, "InvalidOption");
          assert.match(error.message, cure);
          assert.ok(!error.message.includes(SECRET), error.message);
          return true;
        },
      );
    }
  });
}

test("an edge that is listed twice is named by its place, not by its URL", () => {
  const edge = [`https://a.example/${SECRET}`, "https://b.example", `https://A.example:443/${SECRET}/`];
  assert.throws(() => connectionOptions({ address: "alice/pc", edge }), {
    message: "edge 3 in the list is listed twice: name it once",
  });
});
