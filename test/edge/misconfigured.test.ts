/** A deployed edge with invalid settings, which nobody saw start. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { METER_LOOK } from "../../src/edge/admission/limits.ts";
import type { LinkStatus } from "../../src/edge/rpc/link-rpc.ts";
import type { Link, Mailbox, Meter } from "../support/driven-worker.ts";
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

  it("keeps its objects and their alarms when RATE or QUOTA cannot be read", async (t) => {
    const relay = "localhost:2492";
    const settings = {
      RELAY_NAME: "localhost",
      DEV: "1",
      ORIGIN_RELAYS: relay,
      RATE: "octets=much",
      QUOTA: "messages=few",
    };
    const miniflare = await startWorker(settings);
    t.after(() => miniflare.dispose());
    const object = async (kind: string, name: string) => {
      const namespace = await miniflare.getDurableObjectNamespace(kind);
      return namespace.getByName(name) as unknown;
    };
    const mailbox = (await object("MAILBOX", "grooveDevice://bob/pc")) as Pick<
      Mailbox,
      "setLocked" | "elapse" | "status"
    >;
    await mailbox.setLocked(true);
    await mailbox.elapse(1000);
    assert.equal((await mailbox.status()).locked, true);
    const meter = (await object("METER", "token:one")) as Pick<Meter, "enter" | "letPass" | "status" | "left">;
    assert.equal((await meter.enter("a connection")).ok, true);
    await meter.letPass(METER_LOOK);
    const { connections } = await meter.status();
    // The connection does not exist, which the alarm has found out.
    assert.equal(connections, 0);
    const link = (await object("LINK", `grooveDNS://${relay}`)) as Pick<Link, "reach" | "letPass" | "left"> & {
      status(): Promise<LinkStatus>;
    };
    assert.equal(await link.reach(), "HostNotReachable");
    await link.letPass(60_000);
    const { reason, failures } = await link.status();
    assert.deepEqual([reason, failures], ["EdgeMisconfigured", 2]);
    assert.equal((await link.left()).alarm, true);
  });

  it("works without links when only those settings are malformed", async (t) => {
    assert.equal(await health(t, { LINK_WAYS: "carrier pigeon" }), "200 ok");
  });
});
