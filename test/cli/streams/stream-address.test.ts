/** What the commands of streams take on their command lines. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  endpointText,
  parseExposed,
  parseListener,
  parseServiceAddress,
  parseSocksAddress,
  SOCKS,
  serviceText,
} from "../../../src/cli/streams/stream-address.ts";

describe("ADDRESS:NAME", () => {
  for (const [text, address, service] of [
    ["office:ssh", "office", "ssh"],
    ["office/desk:ssh", "office/desk", "ssh"],
    ["office/desk:ssh@relay.example.com:2493", "office/desk@relay.example.com:2493", "ssh"],
  ] as const) {
    it(`reads ${text}`, () => assert.deepEqual(parseServiceAddress(text), { ok: true, value: { address, service } }));
  }

  for (const text of [
    "office",
    "office/desk",
    ":ssh",
    "office:",
    "office:?",
    "a/b/c:ssh",
    "office:ssh@",
    "office:a b",
  ]) {
    it(`refuses ${text}`, () => assert.equal(parseServiceAddress(text).ok, false));
  }
});

describe("ADDRESS with --socks", () => {
  for (const [text, address, service] of [
    ["office/desk", "office/desk", SOCKS],
    ["office/desk@relay.example.com:2493", "office/desk@relay.example.com:2493", SOCKS],
    ["office/desk:ssh", "office/desk", "ssh"],
  ] as const) {
    it(`reads ${text}`, () => assert.deepEqual(parseSocksAddress(text), { ok: true, value: { address, service } }));
  }

  it("is no service by another name", () => {
    assert.equal(serviceText({ address: "office/desk", service: SOCKS }), "SOCKS at office/desk");
    assert.equal(serviceText({ address: "office/desk", service: "ssh" }), "office/desk:ssh");
    for (const text of ["", "office:?socks", "a/b/c"]) assert.equal(parseSocksAddress(text).ok, false, text);
    assert.equal(parseExposed(`${SOCKS}=127.0.0.1:22`).ok, false);
  });
});

describe("NAME=HOST:PORT", () => {
  for (const [text, name, to] of [
    ["ssh=127.0.0.1:22", "ssh", { host: "127.0.0.1", port: 22 }],
    ["db=[::1]:5432", "db", { host: "::1", port: 5432 }],
    ["docker=unix:/run/docker.sock", "docker", { path: "/run/docker.sock" }],
  ] as const) {
    it(`reads ${text}`, () => {
      const parsed = parseExposed(text);
      assert.ok(parsed.ok);
      assert.equal(parsed.value.name, name);
      assert.equal(endpointText(parsed.value.to), endpointText(to));
    });
  }

  for (const text of [
    "ssh",
    "=127.0.0.1:22",
    "ssh=127.0.0.1",
    "ssh=127.0.0.1:0",
    "?=127.0.0.1:22",
    "ssh=unix:",
    "-a=b:1",
  ]) {
    it(`refuses ${text}`, () => assert.equal(parseExposed(text).ok, false));
  }
});

describe("[BIND:]PORT", () => {
  for (const [text, shown] of [
    ["2222", "127.0.0.1:2222"],
    ["0", "127.0.0.1:0"],
    ["0.0.0.0:80", "0.0.0.0:80"],
    ["[::1]:80", "[::1]:80"],
    ["unix:/tmp/a", "unix:/tmp/a"],
  ] as const) {
    it(`reads ${text}`, () => {
      const parsed = parseListener(text);
      assert.equal(parsed.ok ? endpointText(parsed.value) : "", shown);
    });
  }

  for (const text of ["", "ssh", ":80", "65536", "unix:"]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseListener(text).ok, false));
  }
});
