/** The list of what a device exposes, which others read. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatListing, parseListing } from "../../../src/cli/streams/exposed.ts";
import { parseDestination } from "../../../src/edge/policy/destinations.ts";

const destinations = ["git.example.com:22,443", "*.corp.example.com:80", "10.1.0.0/16:5432"].map((text) => {
  const parsed = parseDestination(text);
  assert.ok(parsed.ok);
  return parsed.value;
});

describe("the list of what is exposed", () => {
  it("has names and destinations, and not where the services are", () => {
    const services = new Map([["ssh", { host: "127.0.0.1", port: 22 }]]);
    const text = formatListing({ services, destinations });
    assert.deepEqual(parseListing(text), {
      services: ["ssh"],
      destinations: ["git.example.com:22,443", "*.corp.example.com:80", "10.1.0.0/16:5432"],
    });
    assert.ok(!text.includes("127.0.0.1"));
  });

  for (const text of [
    "",
    "[",
    "null",
    '["ssh"]',
    '{"services":["ssh"]}',
    '{"services":["ssh"],"destinations":[22]}',
    '{"services":["\\u001b[31m"],"destinations":[]}',
    '{"services":["--socks"],"destinations":[]}',
    '{"services":[],"destinations":["*"]}',
    '{"services":[],"destinations":["a.example.com:22\\n"]}',
  ]) {
    it(`is not ${JSON.stringify(text)}`, () => assert.equal(parseListing(text), undefined));
  }

  it("is nothing else, whatever comes", () => {
    const value = fc.record({ services: fc.array(fc.string()), destinations: fc.array(fc.string()) });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          value.map((made) => JSON.stringify(made)),
        ),
        (text) => {
          const listing = parseListing(text);
          const all = [...(listing?.services ?? []), ...(listing?.destinations ?? [])];
          for (const one of all) assert.match(one, /^[!-~]+$/);
        },
      ),
    );
  });
});
