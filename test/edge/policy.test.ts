/** Which relays may be dialled, and the form of a refusal. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inspectSettings } from "../../src/edge/log.ts";
import { allowedRelay } from "../../src/edge/origin/relay-access.ts";
import { problem } from "../../src/edge/problem.ts";
import { isReason, MORE_STATUSES, REASONS, type Reason } from "../../src/edge/reasons.ts";
import { STATUS_PAIRS } from "../../src/encapsulation/index.ts";

describe("the relays allowed by an edge's settings", () => {
  for (const [name, settings, expected] of [
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com" }, "relay.example.com 2492"],
    ["relay.example.com", {}, "RelayNotAllowed"],
    ["relay.example.com", { ORIGIN_RELAYS: "" }, "RelayNotAllowed"],
    ["10.0.0.7", { ORIGIN_RELAYS: "10.0.0.7" }, "RelayPrivate"],
    ["10.0.0.7", { ORIGIN_RELAYS: "10.0.0.7", DEV: "wildcard" }, "RelayPrivate"],
    ["10.0.0.7", { ORIGIN_RELAYS: "10.0.0.7", DEV: "private" }, "10.0.0.7 2492"],
    ["10.0.0.7", { ORIGIN_RELAYS: "10.0.0.7", DEV: "1" }, "10.0.0.7 2492"],
    // A malformed or insecure list allows nothing at all: half a list is not what the operator wrote.
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com 10.0.0.1/8" }, "EdgeMisconfigured"],
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com, not/a/name", DEV: "1" }, "EdgeMisconfigured"],
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com *" }, "EdgeMisconfigured"],
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com *", DEV: "private" }, "EdgeMisconfigured"],
    ["relay.example.org", { ORIGIN_RELAYS: "relay.example.com *", DEV: "wildcard" }, "relay.example.org 2492"],
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com", DEV: "true" }, "EdgeMisconfigured"],
    ["relay.example.com", { ORIGIN_RELAYS: "relay.example.com", RESOLVER: "http://192.0.2.1/" }, "EdgeMisconfigured"],
    [
      "relay.example.com",
      { ORIGIN_RELAYS: "relay.example.com", RESOLVER: "http://127.0.0.1:1/" },
      "relay.example.com 2492",
    ],
  ] as const) {
    it(`${name} with ${JSON.stringify(settings)}: ${expected}`, (t) => {
      t.mock.method(console, "error", () => undefined);
      const verdict = allowedRelay(name, settings);
      const { reason, endpoint } = { reason: undefined, endpoint: undefined, ...verdict };
      assert.equal(reason ?? (endpoint && `${endpoint.hostname} ${endpoint.port}`), expected);
    });
  }

  it("the log names the invalid setting, once", (t) => {
    const log = t.mock.method(console, "error", () => undefined);
    for (let n = 0; n < 3; n += 1) allowedRelay("relay.example.com", { ORIGIN_RELAYS: "relay.example.com:0" });
    assert.equal(log.mock.callCount(), 1);
    const { reason, code, message } = JSON.parse(String(log.mock.calls[0]?.arguments[0]));
    assert.deepEqual([reason, code], ["EdgeMisconfigured", "MalformedRelays"]);
    assert.match(message, /^ORIGIN_RELAYS has the entry "relay\.example\.com:0": its port/);
  });

  it("the log names every invalid setting before the first connection, once", (t) => {
    const log = t.mock.method(console, "error", () => undefined);
    const settings = { KEYS: "k", RATE: "octets", LINK_WAYS: "tls", ACKNOWLEDGE_TIME: "soon" };
    for (let n = 0; n < 3; n += 1) inspectSettings(settings);
    const told = log.mock.calls.map((call) => JSON.parse(String(call.arguments[0])));
    assert.deepEqual(
      told.map(({ reason, code }) => `${reason} ${code}`),
      ["MalformedRate", "MalformedWays", "MalformedAcknowledgeTime"].map((code) => `EdgeMisconfigured ${code}`),
    );
    assert.match(told[0].message, /^RATE has "octets", which is not a limit: write /);
  });
});

describe("refusals [MS-GRVHENC 2.2.1.4]", () => {
  for (const reason of Object.keys(REASONS) as Reason[]) {
    it(reason, async () => {
      const response = problem(reason);
      const pairs: Record<number, string> = { ...STATUS_PAIRS, ...MORE_STATUSES };
      assert.equal(response.statusText, pairs[response.status], "one of the twelve pairs, or of those for streams");
      assert(response.status >= 400, "every refusal is an error status");
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

  it("include what was found, where known", async () => {
    const document = (await problem("MalformedTarget", "no GUID").json()) as { detail: string };
    assert.equal(document.detail, "no GUID");
  });

  it("carry detail and cure in headers too, for devices that read no body", () => {
    const { headers } = problem("MalformedTarget", "no GUID\r\nin \u00e4 \u202e");
    assert.equal(headers.get("grooveway-detail"), "no GUID?in ? ?");
    assert.equal(headers.get("grooveway-cure"), REASONS.MalformedTarget.cure);
  });

  it("map only known reasons by name", () => {
    assert(isReason("OriginClosed"));
    for (const text of ["", "originclosed", "toString", "__proto__"]) assert(!isReason(text), text);
  });
});
