/** Where a token may be sent without TLS. */
import assert from "node:assert/strict";
import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";
import { describe, it, mock } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Device, openTransport } from "../../src/device/index.ts";
import { isNear } from "../../src/lib/near-address.ts";
import { startRelay } from "../../src/relay/index.ts";

/** The addresses of a name, without using the network. */
function resolving(addresses: Readonly<Record<string, readonly string[]>>): void {
  mock.method(dns, "lookup", (name: string, options: { all?: boolean }, callback: (...answer: unknown[]) => void) => {
    const found = (addresses[name] ?? []).map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    assert.equal(options.all, true);
    process.nextTick(() => (found.length > 0 ? callback(null, found) : callback(new Error("no such name"))));
  });
  syncBuiltinESMExports();
}

/** Whether a relay is dialled, or the error code. */
async function outcome(relay: string, options: { token?: string; allowPlain?: boolean }): Promise<string> {
  try {
    const transport = openTransport({ transport: "tcp", relay, ...options });
    // The relay that is dialled sends nothing before Connect.
    await Promise.race([transport.read(), sleep(200)]);
    transport.close();
    return transport.failure?.code ?? "dialled";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("a token over plain TCP", () => {
  it("is sent to loopback and private addresses, and to others only when allowed", async (t) => {
    t.after(() => {
      mock.restoreAll();
      syncBuiltinESMExports();
    });
    const relay = await startRelay({ port: 0 });
    t.after(() => relay.close());
    resolving({
      "near.example.com": ["127.0.0.1"],
      "far.example.com": ["203.0.113.7"],
      "both.example.com": ["127.0.0.1", "2001:db8::7"],
    });
    const token = "a.b.c";
    for (const host of ["203.0.113.7", "[2001:db8::7]", "far.example.com", "both.example.com"]) {
      assert.equal(await outcome(`${host}:${relay.port}`, { token }), "TokenInClear", host);
    }
    for (const host of ["127.0.0.1", "near.example.com"]) {
      assert.equal(await outcome(`${host}:${relay.port}`, { token }), "dialled", host);
    }
    assert.equal(await outcome(`both.example.com:${relay.port}`, {}), "dialled", "without a token");
    assert.equal(await outcome(`both.example.com:${relay.port}`, { token, allowPlain: true }), "dialled");
    for (const host of ["203.0.113.7", "far.example.com"]) {
      const connecting = Device.connect({ address: "alice/pc", relay: host, token, transport: "tcp" });
      await assert.rejects(connecting, { code: "TokenInClear", retryable: false, message: /--allow-plain/ });
    }
  });
});

it("a private network is loopback, private or link-local", () => {
  for (const [address, expected] of [
    ["127.1.2.3", true],
    ["10.0.0.1", true],
    ["172.16.0.1", true],
    ["172.32.0.1", false],
    ["192.168.1.1", true],
    ["169.254.1.1", true],
    ["203.0.113.7", false],
    ["8.8.8.8", false],
    ["::1", true],
    ["::2", false],
    ["fd00::1", true],
    ["fe80::1%eth0", true],
    ["2001:db8::1", false],
    ["::ffff:127.0.0.1", true],
    ["::ffff:8.8.8.8", false],
    ["example.com", false],
    ["", false],
  ] as const) {
    assert.equal(isNear(address), expected, address);
  }
});
