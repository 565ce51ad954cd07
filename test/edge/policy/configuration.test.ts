/** What is found in an edge's settings, and what DEV permits. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { forbidden, insecurities, type Settings } from "../../../src/edge/policy/configuration.ts";
import { parseDev } from "../../../src/edge/policy/dev.ts";

describe("DEV", () => {
  for (const [text, permitted, unknown] of [
    [undefined, [], []],
    ["", [], []],
    [" , ", [], []],
    ["1", ["private", "open", "wildcard"], []],
    ["private", ["private"], []],
    ["open", ["open"], []],
    ["wildcard", ["wildcard"], []],
    ["private, open", ["private", "open"], []],
    ["wildcard private", ["private", "wildcard"], []],
    ["0", [], ["0"]],
    ["true", [], ["true"]],
    ["Private", [], ["Private"]],
    ["11", [], ["11"]],
    ["private;open", [], ["private;open"]],
    ["open, all", ["open"], ["all"]],
  ] as const) {
    it(JSON.stringify(text) ?? "not set", () => {
      const { unknown: odd, ...dev } = parseDev(text);
      const names = Object.entries(dev).flatMap(([name, on]) => (on ? [name] : []));
      assert.deepEqual(names, permitted);
      assert.deepEqual(odd, unknown);
    });
  }
});

describe("findings", () => {
  const KEYS = "k";
  for (const [settings, found, stops] of [
    [{ KEYS }, [], []],
    [{ JWKS_URL: "https://id.example.com/keys" }, [], []],
    [{ KEYS, ORIGIN_RELAYS: "relay.example.com, 63.209.254.*" }, [], []],
    [{ KEYS, ORIGIN_RELAYS: "!*" }, [], []],
    [{}, ["NoKeys"], []],
    [{ KEYS: "", JWKS_URL: "" }, ["NoKeys"], []],
    [{ DEV: "open" }, ["NoKeys permitted", "DevelopmentSettings permitted"], []],
    [{ KEYS, ORIGIN_RELAYS: "relay.example.com *" }, ["WildcardRelays"], ["WildcardRelays"]],
    [{ KEYS, ORIGIN_RELAYS: "*.com" }, ["WildcardRelays"], ["WildcardRelays"]],
    [{ KEYS, ORIGIN_RELAYS: "0.0.0.0/0" }, ["WildcardRelays"], ["WildcardRelays"]],
    [
      { KEYS, ORIGIN_RELAYS: "*", DEV: "private" },
      ["WildcardRelays", "DevelopmentSettings permitted"],
      ["WildcardRelays"],
    ],
    [{ KEYS, ORIGIN_RELAYS: "*", DEV: "wildcard" }, ["WildcardRelays permitted", "DevelopmentSettings permitted"], []],
    [{ KEYS, ORIGIN_RELAYS: "127.1" }, ["MalformedRelays"], ["MalformedRelays"]],
    [
      { KEYS, ORIGIN_RELAYS: "127.1", DEV: "1" },
      ["MalformedRelays", "DevelopmentSettings permitted"],
      ["MalformedRelays"],
    ],
    [{ KEYS, DEV: "yes" }, ["MalformedDev"], ["MalformedDev"]],
    [{ KEYS, DEV: "1 yes" }, ["DevelopmentSettings permitted", "MalformedDev"], ["MalformedDev"]],
    [{ KEYS, RESOLVER: "https://dns.example.com/resolve" }, [], []],
    [{ KEYS, RESOLVER: "http://127.0.0.1:8053/dns-query" }, [], []],
    [{ KEYS, RESOLVER: "http://[::1]:8053/dns-query" }, [], []],
    [{ KEYS, RESOLVER: "http://localhost:8053/dns-query" }, ["InsecureResolver"], ["InsecureResolver"]],
    [{ KEYS, RESOLVER: "http://dns.example.com/resolve" }, ["InsecureResolver"], ["InsecureResolver"]],
    [{ KEYS, RESOLVER: "dns.example.com" }, ["InsecureResolver"], ["InsecureResolver"]],
  ] as readonly [Settings, string[], string[]][]) {
    it(JSON.stringify(settings), () => {
      const findings = insecurities(settings);
      assert.deepEqual(
        findings.map(({ code, permitted }) => code + (permitted ? " permitted" : "")),
        found,
      );
      assert.deepEqual(
        forbidden(settings).map(({ code }) => code),
        stops,
      );
      for (const { setting, problem, cure } of findings) assert(setting.length * problem.length * cure.length > 0);
    });
  }
});
