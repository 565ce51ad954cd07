/** Which relays may be dialled, and what a refusal looks like. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isReason, problem, REASONS, type Reason } from "../../src/edge/reasons.ts";
import { allowedRelay } from "../../src/edge/relays.ts";
import { STATUS_PAIRS } from "../../src/encapsulation/index.ts";

describe("the allow list of origin relays", () => {
  const LIST = "relay.example.com, 10.0.0.7:443\nOther.Example.Org:2492 [2001:db8::7] [::1]:9000,,";
  for (const [name, list, allowed] of [
    ["relay.example.com", LIST, "relay.example.com 2492"],
    ["RELAY.Example.COM", LIST, "relay.example.com 2492"],
    ["relay.example.com:2492", LIST, "relay.example.com 2492"],
    ["relay.example.com:443", LIST, undefined],
    ["other.example.org", LIST, "other.example.org 2492"],
    ["10.0.0.7:443", LIST, "10.0.0.7 443"],
    ["10.0.0.7", LIST, undefined],
    ["10.0.0.7:2492", LIST, undefined],
    ["10.0.0.70:443", LIST, undefined],
    ["[2001:db8::7]", LIST, "[2001:db8::7] 2492"],
    ["[2001:DB8::7]:2492", LIST, "[2001:db8::7] 2492"],
    ["[::1]:9000", LIST, "[::1] 9000"],
    ["[::1]", LIST, undefined],
    ["::1", LIST, undefined],
    ["sub.relay.example.com", LIST, undefined],
    ["example.com", LIST, undefined],
    ["relay.example.com.evil.example", LIST, undefined],
    ["relay.example.com.", LIST, undefined],
    ["relay.example.com:0", LIST, undefined],
    ["relay.example.com:65536", LIST, undefined],
    ["relay.example.com:02492", LIST, undefined],
    ["relay.example.com:2492:2492", LIST, undefined],
    ["user@relay.example.com", LIST, undefined],
    ["relay.example.com/x", LIST, undefined],
    ["relay.example.com,10.0.0.7", LIST, undefined],
    ["", LIST, undefined],
    ["*", "*", undefined],
    ["relay.example.com", "", undefined],
    ["relay.example.com", " ,\n, ", undefined],
    ["relay.example.com", "not/a/name relay.example.com", "relay.example.com 2492"],
    ["", "", undefined],
  ] as const) {
    it(`${JSON.stringify(name)} by ${JSON.stringify(list === LIST ? "the list" : list)}: ${allowed ?? "no"}`, () => {
      const endpoint = allowedRelay(name, list);
      assert.equal(endpoint && `${endpoint.hostname} ${endpoint.port}`, allowed);
    });
  }
});

describe("refusals [MS-GRVHENC 2.2.1.4]", () => {
  for (const reason of Object.keys(REASONS) as Reason[]) {
    it(reason, async () => {
      const response = problem(reason);
      const pairs: Record<number, string> = STATUS_PAIRS;
      assert.equal(response.statusText, pairs[response.status], "a pair of the table");
      assert(response.status >= 400, "nothing but a failure is a refusal");
      const { status, cause, cure } = REASONS[reason];
      if (status !== null && status >= 400) assert.equal(response.status, status);
      assert.equal(response.headers.get("content-type"), "application/problem+json");
      assert.equal(response.headers.get("grooveway-reason"), reason);
      assert.equal(response.headers.get("cache-control"), "no-store, no-transform");
      assert.deepEqual(await response.json(), {
        type: "about:blank",
        title: response.statusText,
        status: response.status,
        code: reason,
        detail: cause,
        cure,
      });
    });
  }

  it("the twelve pairs are those of the specification", () => {
    assert.deepEqual(
      Object.entries(STATUS_PAIRS).map(([status, phrase]) => `${status} ${phrase}`),
      [
        "200 OK",
        "302 Moved Temporarily",
        "304 Not Modified",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Not Valid",
        "404 Not Found",
        "407 ProxyAuthentication Required",
        "408 Request Time-out",
        "500 Internal Server Error",
        "501 Not Implemented",
        "505 HTTP Version Not Supported",
      ],
    );
  });

  it("says what was found where that is known", async () => {
    const document = (await problem("MalformedTarget", "no GUID").json()) as { detail: string };
    assert.equal(document.detail, "no GUID");
  });

  it("knows its own reasons by name", () => {
    assert(isReason("OriginClosed"));
    for (const text of ["", "originclosed", "toString", "__proto__"]) assert(!isReason(text), text);
  });
});
