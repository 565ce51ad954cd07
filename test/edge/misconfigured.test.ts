/** A deployed edge with invalid settings, which nobody saw start. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { startWorker } from "../support/worker.ts";

async function health(t: TestContext, variables: Record<string, string>): Promise<string> {
  const miniflare = await startWorker({ RELAY_NAME: "localhost", DEV: "1", ...variables });
  t.after(() => miniflare.dispose());
  const answer = await fetch(`${await miniflare.ready}health`);
  const { code = "ok", detail = "" } = (await answer.json()) as { code?: string; detail?: string };
  return `${answer.status} ${code} ${detail}`.trim();
}

describe("a deployed edge", () => {
  for (const [setting, value] of [
    ["RATE", "octets=much"],
    ["QUOTA", "octets=much"],
    ["ACKNOWLEDGE_TIME", "2m"],
    ["REVOKED", '["one"]'],
  ] as const) {
    it(`serves nobody when its ${setting} cannot be read, and names it`, async (t) => {
      assert.equal(await health(t, { [setting]: value }), `500 EdgeMisconfigured The setting ${setting} is malformed.`);
    });
  }

  it("works without links when only those settings are malformed", async (t) => {
    assert.equal(await health(t, { LINK_WAYS: "carrier pigeon" }), "200 ok");
  });
});
