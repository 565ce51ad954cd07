/** Requirements for a link by LINK_SECRETS and LINK_PLAIN. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { judgeLink, linkTerms, mayLink, trustIn } from "../../../src/edge/policy/link-settings.ts";
import { readWays } from "../../../src/edge/policy/link-ways.ts";
import { readRelays } from "../../../src/edge/policy/relay-allow-list.ts";

const SECRET = Buffer.alloc(32, 7).toString("base64url");
const RELAY = "grooveDNS://relay.example.com";

describe("a link", () => {
  for (const [settings, proved, clear] of [
    [{}, false, false],
    [{ LINK_PLAIN: "relay.example.com" }, false, false],
    [{ LINK_SECRETS: `other.example.com=${SECRET}` }, false, false],
    [{ LINK_SECRETS: "relay.example.com=none" }, false, true],
    [{ LINK_SECRETS: `relay.example.com=${SECRET}` }, true, false],
    [{ LINK_SECRETS: `relay.example.com=${SECRET}`, LINK_PLAIN: "Relay.Example.com:2492" }, true, true],
    [{ LINK_SECRETS: `relay.example.com=${SECRET}`, LINK_PLAIN: "other.example.com" }, true, false],
  ] as const) {
    it(`with ${JSON.stringify(settings)} ${proved ? "is" : "is not"} proved, and ${clear ? "may" : "may not"} be public without TLS`, () => {
      const terms = linkTerms(RELAY, settings);
      assert.deepEqual([terms?.secrets !== undefined, terms?.clear], [proved, clear]);
    });
  }

  for (const [settings, may] of [
    [{}, false],
    [{ DEV: "private" }, true],
    [{ LINK_WAYS: "tls:443" }, true],
    [{ LINK_WAYS: "tls:443 sstp:2492" }, false],
    [{ LINK_SECRETS: "relay.example.com=none" }, true],
    [{ LINK_SECRETS: `relay.example.com=${SECRET}` }, true],
    [{ LINK_SECRETS: "relay.example.com=short", LINK_WAYS: "tls:443" }, false],
  ] as const) {
    it(`${may ? "may" : "can never"} be opened with ${JSON.stringify(settings)}, so messages for it are ${may ? "taken" : "refused"}`, () => {
      assert.equal(mayLink(RELAY, settings), may);
    });
  }

  it("is neither opened nor accepted with an invalid setting", () => {
    assert.equal(linkTerms(RELAY, { LINK_SECRETS: "relay.example.com=short" }), undefined);
    assert.deepEqual(trustIn(RELAY, "other.example.com=short"), { type: "secrets", secrets: [] });
  });

  for (const [list, ways, cure] of [
    [
      "relay.example.com:8443",
      "",
      "add relay.example.com to ORIGIN_RELAYS (--relay-allow), or set LINK_WAYS (--link-ways) to sstp:8443 or tls:8443, which the list allows",
    ],
    ["relay.example.com", "tls:8443", "add relay.example.com:8443 to ORIGIN_RELAYS (--relay-allow)"],
    ["relay.example.com:8443", "tls:8443", undefined],
  ] as const) {
    it(`by the list ${list} and the ways ${JSON.stringify(ways)} ${cure === undefined ? "is allowed" : "is refused, with what to change"}`, () => {
      const [rules, wayList] = [readRelays(list), readWays(ways)];
      assert(rules.ok && wayList.ok);
      const verdict = judgeLink("relay.example.com", {
        ways: wayList.value,
        rules: rules.value,
        permits: { private: false },
      });
      assert.equal(verdict.type === "refused" ? verdict.cure : undefined, cure);
    });
  }
});
