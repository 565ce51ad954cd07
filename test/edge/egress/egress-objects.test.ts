/** The object that holds a device's TCP connections: its crash, its alarm, and the end of its token. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { CONNECTED_AGE } from "../../../src/auth/limits.ts";
import { KEEP_AWAKE, KEPT_BY_PLATFORM } from "../../../src/edge/egress/limits.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { drivenWorker } from "../../support/worker.ts";
import { ed25519 } from "../issuer.ts";
import { afterAll, until } from "../mailbox/support.ts";
import { issued, startAsking, startOperator } from "../operator.ts";
import {
  dialler,
  type EgressStub,
  echo,
  isEchoed,
  isReset,
  joined,
  LISTED,
  service,
  startDialling,
} from "./support.ts";

interface DrivenEgress extends EgressStub {
  crash(): Promise<void>;
  letPass(milliseconds: number): Promise<void>;
  alarmIn(): Promise<number>;
  left(): Promise<{ readonly keys: readonly string[]; readonly tables: number; readonly alarm: boolean }>;
}

const code = await drivenWorker();

function egressOf(edge: InspectedEdge, address: string): Promise<DrivenEgress> {
  return objectOf(edge.miniflare, "EGRESS", `grooveDevice://${address}`);
}

describe("the object of a device's connections", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startDialling(context, { code });
  });

  for (const transport of ["websocket", "keepalive"] as const) {
    it(`crashes, and the device resets its streams by name within 5 s, over ${transport}`, async (t) => {
      const device = await dialler(edge, `alice/${transport}`, transport);
      const { stream, raw } = await joined(t, device);
      const crashed = performance.now();
      await assert.rejects((await egressOf(edge, device.address)).crash());
      await assert.rejects(stream.closed, isReset("ChannelUnknown"));
      assert.ok(performance.now() - crashed < 5000, "it has taken too long");
      await raw.closed();
      assert.ok(device.isConnected);
      const { at } = await service(t, echo);
      assert.ok(await isEchoed(await device.dialOrigin(at), "a new one"));
      await device.close();
    });
  }

  it("wakes itself every minute while it has connections, but not before the platform would end it", async (t) => {
    const device = await dialler(edge, "alice/awake");
    const { stream, raw } = await joined(t, device);
    const egress = await egressOf(edge, device.address);
    const first = await egress.alarmIn();
    assert.ok(first > KEPT_BY_PLATFORM - 10_000 && first <= KEPT_BY_PLATFORM, `${first}`);
    await egress.letPass(KEPT_BY_PLATFORM);
    const next = await egress.alarmIn();
    assert.ok(next > KEEP_AWAKE - 10_000 && next <= KEEP_AWAKE, `${next}`);
    stream.reset();
    await raw.closed();
    await until("it has no connection", async () => (await egress.status()).streams === 0);
    await egress.letPass(KEEP_AWAKE);
    const { keys, tables, alarm } = await egress.left();
    assert.deepEqual([keys, tables, alarm], [[], 0, false]);
    await device.close();
  });
});

describe("a device with connections to services", () => {
  it("loses them within a minute after its token was revoked", async (t) => {
    const issuer = await ed25519();
    const operator = await startOperator(issuer);
    const edge = await startAsking({ ...operator.settings, code, streamAllow: [LISTED] });
    t.after(async () => {
      await edge.close();
      operator.close();
    });
    const { at, next } = await service(t);
    const scope = `connect receive origin:${at}`;
    const token = await issued(issuer, { address: "alice/revoked", scope, jti: "ends" });
    const device = await dialler(edge, "alice/revoked", "websocket", { token });
    const [stream, socket] = await Promise.all([device.dialOrigin(at), next()]);
    operator.revoke("ends");
    assert.equal((await fetch(`${edge.url}/clock/${CONNECTED_AGE + 2000}`)).status, 200);
    socket.on("error", () => undefined);
    const over = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    socket.on("end", () => socket.end());
    socket.write("is anybody there?");
    await over;
    await assert.rejects(stream.closed);
    await device.close();
  });
});
