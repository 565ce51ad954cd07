/** Credentials for requests that a proxy forwards. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ProxyAccounts, refusedInMemory } from "../../../../src/device/transports/proxy/credentials.ts";
import { ForwardingProxy } from "../../../../src/device/transports/proxy/forwarding-proxy.ts";

const PROXY = { kind: "http", host: "proxy", port: 3128 } as const;
const ALICE = { user: "alice", password: "secret" };

test("a password that a proxy no longer takes is not sent once more", () => {
  const accounts = new ProxyAccounts([{ ...PROXY, credentials: ALICE }], refusedInMemory());
  const forwarding = new ForwardingProxy({ proxy: PROXY, source: "a test" }, accounts);
  const challenge = {
    status: 407,
    session: "get",
    isKept: true,
    method: "GET",
    target: "http://edge.example/",
  } as const;
  const asked = () => forwarding.authorize({ ...challenge, challenges: ['Basic realm="a"'], round: 1 });
  assert.deepEqual(asked()?.headers, [["Proxy-Authorization", "Basic YWxpY2U6c2VjcmV0"]]);
  // The next request has the same header from the beginning.
  assert.equal(asked(), undefined);
  assert.equal(accounts.isRefused(PROXY, ALICE), true);
  assert.equal(forwarding.refusal().code, "ProxyRefusesCredentials");
});
