import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { describe, it } from "node:test";
import fc from "fast-check";
import { GAP, SLEPT } from "../../../src/device/limits.ts";
import { networkKey, SleepWatch } from "../../../src/device/transports/surroundings.ts";

const at = (...cidrs: readonly string[]) => ({
  interfaces: {
    lo: [{ address: "127.0.0.1", cidr: "127.0.0.1/8", internal: true }],
    eth0: cidrs.map((cidr) => ({ address: cidr.split("/")[0] ?? "", cidr, internal: false })),
  },
  dnsServers: ["10.0.0.2"],
});

describe("the key of a network", () => {
  it("is the same for another address of the same network", () => {
    assert.equal(networkKey(at("192.168.1.20/24")), networkKey(at("192.168.1.77/24")));
    assert.equal(networkKey(at("2001:db8::1:2/64", "fe80::1/64")), networkKey(at("2001:DB8::9/64", "fe80::2/64")));
  });

  it("differs between networks, also by their DNS servers alone", () => {
    const home = at("192.168.1.20/24");
    const others = [
      at("192.168.2.20/24"),
      at("192.168.1.20/25"),
      at("2001:db8::1/64"),
      { ...home, dnsServers: ["9.9.9.9"] },
    ];
    const keys = new Set([home, ...others].map(networkKey));
    assert.equal(keys.size, 5);
  });

  it("is empty without a network", () => {
    for (const none of [at(), at("fe80::1/64"), at("nonsense"), at("10.0.0.1/33")]) assert.equal(networkKey(none), "");
  });

  it("does not depend on the order", () => {
    assert.equal(networkKey(at("10.1.2.3/16", "2001:db8::1/64")), networkKey(at("2001:db8::1/64", "10.1.2.3/16")));
  });

  it("takes what this machine has, and any text", () => {
    assert.equal(typeof networkKey({ interfaces: networkInterfaces(), dnsServers: [] }), "string");
    fc.assert(fc.property(fc.array(fc.string()), (cidrs) => typeof networkKey(at(...cidrs)) === "string"));
  });
});

describe("the watch for sleep", () => {
  const watch = () => new SleepWatch(1000, 5000);

  it("sees sleep by the wall clock alone", () => {
    assert.equal(watch().look(6000, 10_000 + SLEPT + 1), "slept");
    assert.equal(watch().look(6000, 10_000 + SLEPT), undefined);
  });

  it("tells a gap from sleep: both clocks have gone on", () => {
    assert.equal(watch().look(1000 + GAP + 1, 5000 + GAP + 1), "gap");
    assert.equal(watch().look(1000 + GAP, 5000 + GAP), undefined);
  });

  it("takes a clock that was set back for nothing, and begins anew", () => {
    const one = watch();
    assert.equal(one.look(6000, 0), undefined);
    assert.equal(one.look(11_000, 5000), undefined);
  });
});
