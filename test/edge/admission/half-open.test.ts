/** Half-open virtual connections count for their token, or else for their source. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ANYBODY, NOBODY, type Principal } from "../../../src/auth/principal.ts";
import { gate } from "../../../src/edge/admission/source-gate.ts";
import type { Env } from "../../../src/edge/env.ts";
import { tunnelFor } from "../../../src/edge/pumps/tunnel-client.ts";
import type { TunnelRpc } from "../../../src/edge/rpc/tunnel-rpc.ts";
import type { Alarm } from "../../../src/edge/tunnel/alarm.ts";
import { Opening } from "../../../src/edge/tunnel/opening.ts";
import type { Owner } from "../../../src/edge/tunnel/owner.ts";

const BEARER: Principal = { ...ANYBODY, id: "token-1", key: "key" };

/** The opening of a virtual connection by a bearer, and what is asked of Meters. */
function opening(bearer: Principal | undefined) {
  const calls: string[] = [];
  const METER = {
    getByName: (name: string) => ({
      async begin() {
        calls.push(`begin ${name}`);
        return { ok: true };
      },
      async begun() {
        calls.push(`begun ${name}`);
      },
    }),
  };
  const context = { id: { name: "guid" }, waitUntil: () => undefined } as unknown as DurableObjectState;
  const owner = {
    owner: undefined,
    isStranger: () => false,
    standing: { bearer, connected: () => undefined },
  } as unknown as Owner;
  const alarm = { set: () => undefined } as unknown as Alarm;
  return { calls, opening: new Opening({ METER } as unknown as Env, context, { alarm, owner }) };
}

describe("a half-open virtual connection", () => {
  it("with a token is counted by its Meter, which uncounts it when the device enters", async () => {
    const { calls, opening: one } = opening(BEARER);
    assert.equal(await one.crowded({ principal: BEARER, asOf: 0, source: "192.0.2.1" }), undefined);
    one.arrived();
    assert.deepEqual(calls, ["begin token:token-1"]);
  });

  it("with a token that ends before is uncounted", async () => {
    const { calls, opening: one } = opening(BEARER);
    await one.crowded({ principal: BEARER, asOf: 0, source: "192.0.2.1" });
    one.over();
    assert.deepEqual(calls, ["begin token:token-1", "begun token:token-1"]);
  });

  it("whose device shows its token in Connect only is counted by its source", async () => {
    const { calls, opening: one } = opening(BEARER);
    await one.crowded({ principal: NOBODY, asOf: 0, source: "192.0.2.1" });
    one.arrived();
    assert.deepEqual(calls, ["begin from:192.0.2.1", "begun from:192.0.2.1"]);
  });
});

describe("the gate", () => {
  it("paces a token, and not the many tokens of one source", async (t) => {
    const asked: string[] = [];
    t.mock.method(gate, "ask", async (source: string) => {
      asked.push(source);
      return { ok: true };
    });
    const stub = {} as DurableObjectStub<TunnelRpc>;
    for (const principal of [BEARER, { ...BEARER, id: "token-2" }, NOBODY]) {
      const caller = { principal, asOf: 0, source: "192.0.2.1" };
      const target = {
        encapsulation: "KeepAlive",
        version: "2.0",
        relay: "edge",
        guid: "guid",
        requestId: "gw-1",
      } as const;
      await tunnelFor(stub, "guid", caller).exchange(target, new Uint8Array(0));
    }
    assert.deepEqual(asked, ["token:token-1", "token:token-2", "192.0.2.1"]);
  });
});
