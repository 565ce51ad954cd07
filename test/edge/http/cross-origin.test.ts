/** Pages of other origins at an edge, with what their browsers send and check. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { ECHO_TEXT } from "../../../src/encapsulation/index.ts";
import { AUDIENCE, hs256, jwks } from "../issuer.ts";
import { refusal, target, upgrade } from "../operator.ts";

const STRANGE = "https://page.example.com";
const OWN = ["http://localhost:5173", "http://app.localhost", "http://127.0.0.1:3000", "https://[::1]:8443"];
/** They only look like one's own machine. */
const ALIKE = ["http://localhost.example.com", "http://127.0.0.1.example.com", "null", "file://localhost"];

let keyed: LocalEdge;
let open: LocalEdge;

before(async () => {
  keyed = await startLocalEdge({ port: 0, relayAllow: [], keys: jwks(await hs256()) });
  open = await startLocalEdge({ port: 0, relayAllow: [], dev: "open" });
});
after(() => Promise.all([keyed.close(), open.close()]));

function post(edge: LocalEdge, headers: Record<string, string>, path = target("KeepAlive")): Promise<Response> {
  return fetch(`${edge.url}${path}`, { method: "POST", body: ECHO_TEXT, headers });
}

function allowed(answer: Response): string | null {
  return answer.headers.get("access-control-allow-origin");
}

describe("an edge that asks for tokens", () => {
  it("serves pages of any origin, without cookies", async () => {
    const answer = await post(keyed, { Origin: STRANGE });
    assert.equal(answer.status, 200);
    assert.equal(allowed(answer), "*");
    assert.equal(answer.headers.get("access-control-allow-credentials"), null);
    assert.equal(await upgrade(keyed, target("WebSocket"), { Origin: STRANGE }), "ok");
  });

  it("lets them read why they are refused", async () => {
    const answer = await post(keyed, { Origin: STRANGE, Authorization: "Bearer x.y.z" });
    assert.equal(allowed(answer), "*");
    assert.match(answer.headers.get("access-control-expose-headers") ?? "", /Grooveway-Reason, Grooveway-Detail/i);
    assert.equal(await refusal(answer), "TokenInvalid");
  });

  it("answers a browser that asks first", async () => {
    for (const path of [target("KeepAlive"), "/"]) {
      const answer = await fetch(`${keyed.url}${path}`, {
        method: "OPTIONS",
        headers: { Origin: STRANGE, "Access-Control-Request-Method": "POST" },
      });
      assert.equal(answer.status, 204);
      assert.equal(allowed(answer), "*");
      assert.equal(answer.headers.get("access-control-allow-methods"), "GET, POST");
      assert.match(answer.headers.get("access-control-allow-headers") ?? "", /\bAuthorization\b/);
    }
  });

  it("says nothing of origins to a device", async () => {
    const answer = await post(keyed, {});
    assert.equal(answer.status, 200);
    assert.deepEqual(
      [...answer.headers.keys()].filter((name) => name.startsWith("access-control")),
      [],
    );
    const asked = await fetch(`${keyed.url}${target("KeepAlive")}`, { method: "OPTIONS" });
    assert.equal(await refusal(asked), "MethodNotImplemented");
  });

  it("lets no page read what an operator may", async () => {
    const answer = await fetch(`${keyed.url}/admin/mailboxes`, { headers: { Origin: STRANGE } });
    assert.equal(allowed(answer), null);
  });
});

describe("an edge that admits anybody", () => {
  it("refuses pages from elsewhere, by any encapsulation, and allows them nothing", async () => {
    for (const origin of [STRANGE, `http://${AUDIENCE}.example.com`, ...ALIKE]) {
      const answer = await post(open, { Origin: origin });
      assert.equal(allowed(answer), null, origin);
      assert.equal(await refusal(answer), "OriginRefused", origin);
    }
    assert.equal(await refusal(await post(open, { Origin: STRANGE }, target("LongLived"))), "OriginRefused");
    assert.equal(await refusal(await post(open, { Origin: STRANGE }, "/")), "OriginRefused");
    assert.equal(await upgrade(open, target("WebSocket"), { Origin: STRANGE }), "OriginRefused");
  });

  it("serves pages of one's own machine, and devices", async () => {
    for (const origin of OWN) assert.equal(allowed(await post(open, { Origin: origin })), "*", origin);
    assert.equal(await refusal(await post(open, {})), "ok");
    assert.equal(await upgrade(open, target("WebSocket"), {}), "ok");
  });
});
