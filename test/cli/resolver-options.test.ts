/** How long the command waits for a DNS server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { resolverOptions } from "../../src/cli/resolver-options.ts";

test("a silent DNS server is waited for 2 s, unless somebody has chosen another time", () => {
  const plain = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0 trust-ad\n";
  assert.equal(resolverOptions({}, plain), "timeout:2 attempts:3");
  assert.equal(resolverOptions({}, ""), "timeout:2 attempts:3");
  assert.equal(resolverOptions({ RES_OPTIONS: "ndots:2" }, plain), undefined);
  assert.equal(resolverOptions({}, `${plain}options rotate timeout:1\n`), undefined);
  assert.equal(resolverOptions({}, `${plain}# timeout:1\n`), "timeout:2 attempts:3");
});
