/**
 * Another program fills the disk completely, and later there is room again: nothing acknowledged is lost, waiting
 * messages can be received meanwhile, and no restart is needed.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { Device, type DeviceOptions } from "../../src/device/index.ts";
import type { Readiness } from "../../src/edge/http/ready.ts";
import { eventually } from "../edge/support.ts";
import { fillDisk, freeDisk, smallDisk } from "../support/small-disk.ts";
import { type Running, start } from "./support.ts";

const WAITING = 30;

/** Ids of the messages waiting for a device, all acknowledged. */
async function fetchAll(options: DeviceOptions, count: number): Promise<string[]> {
  const device = await Device.connect(options);
  const came: string[] = [];
  try {
    for await (const message of device.messages()) {
      await message.done();
      came.push(new TextDecoder().decode(message.body.subarray(0, 10)).trim());
      if (came.length === count) break;
    }
    return came;
  } finally {
    await device.close();
  }
}

/** More messages than the ballast of 8 MiB has room for. */
const ROOM_IN_BALLAST = 1000;

function body(n: number): Uint8Array {
  const octets = new Uint8Array(20_000).fill(32);
  octets.set(new TextEncoder().encode(`message ${n}`.padEnd(10)));
  return octets;
}

async function survives(context: TestContext, at: string, running: Running, way: Omit<DeviceOptions, "address">) {
  const alice = await Device.connect({ ...way, address: "alice/pc" });
  context.after(() => alice.close());
  const sent: string[] = [];
  for (let n = 0; n < WAITING; n += 1) {
    await alice.send("bob/pc", body(n));
    await alice.send("carol/pc", body(n));
    sent.push(`message ${n}`.padEnd(10).trim());
  }
  fillDisk(at);
  // Another failed write may have released the ballast before; then some messages fit.
  const refused = async (): Promise<unknown> => {
    for (let n = 0; n < ROOM_IN_BALLAST; n += 1) {
      try {
        await alice.send("bob/pc", body(99));
        sent.push("message 99");
      } catch (error) {
        return error;
      }
    }
    return undefined;
  };
  assert.equal(((await refused()) as { code?: string } | undefined)?.code, "QuotaWouldBeExceeded");
  await assert.rejects(alice.send("dave/pc", body(99)), { code: "QuotaWouldBeExceeded" });
  assert.deepEqual(
    await fetchAll({ ...way, address: "bob/pc" }, sent.length),
    sent,
    "what waits comes while the disk is full",
  );
  await assert.rejects(alice.send("bob/pc", body(99)), { code: "QuotaWouldBeExceeded" });
  freeDisk(at);
  await eventually("there is room again", () =>
    alice.send("bob/pc", body(100)).then(
      () => true,
      () => false,
    ),
  );
  assert.deepEqual(await fetchAll({ ...way, address: "bob/pc" }, 1), ["message 10"], "refused messages are not stored");
  assert.deepEqual(await fetchAll({ ...way, address: "carol/pc" }, WAITING), sent.slice(0, WAITING));
  assert.equal(running.process.exitCode, null, "nothing was restarted");
}

describe("a disk that another program has filled", () => {
  it("makes an edge refuse messages, as /health says; waiting ones are delivered and purged until there is room", async (context) => {
    const at = await smallDisk(context);
    if (at === undefined) return;
    const state = join(at, "state");
    const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--state", state, "--admin-token", "admin"]);
    const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
    await eventually("the ballast is there", () => existsSync(join(state, "ballast")));
    const eve = await Device.connect({ edge: url, address: "eve/pc", transport: "websocket" });
    await eve.send("frank/pc", body(1));
    await eve.close();
    await survives(context, at, edge, { edge: url, transport: "websocket" });
    await eventually("the ballast is made again", () => existsSync(join(state, "ballast")));
    fillDisk(at);
    const health = async () => (await fetch(`${url}/health`)).status;
    await eventually("it says that it is full", async () => (await health()) === 503);
    assert.equal(((await (await fetch(`${url}/health`)).json()) as { code: string }).code, "StorageFull");
    const ready = async () => (await (await fetch(`${url}/ready`)).json()) as Readiness;
    await eventually("it says that it is not ready", async () => !(await ready()).ready);
    assert.deepEqual(
      (await ready()).problems.map(({ part, code }) => [part, code]),
      [["storage", "StorageFull"]],
    );
    const metrics = await fetch(`${url}/metrics`, { headers: { Authorization: "Bearer admin" } });
    assert.match(await metrics.text(), /^grooveway_storage_full 1$/m);
    const purged = await fetch(`${url}/admin/mailboxes/frank%2Fpc`, {
      method: "DELETE",
      headers: { Authorization: "Bearer admin" },
    });
    assert.equal(purged.status, 200, await purged.text());
    freeDisk(at);
    await eventually("it says that it is well", async () => (await health()) === 200);
    await eventually("it says that it is ready", async () => (await ready()).ready, 10_000);
    await eventually("the ballast is there again", () => existsSync(join(state, "ballast")));
    edge.process.kill("SIGTERM");
    const { stderr } = await edge.finished;
    assert.match(stderr, /new messages are refused \[StorageFull\]\n[\s\S]*new messages are accepted/);
    for (const line of stderr.split("\n").filter((line) => line.startsWith("{"))) {
      assert.match(JSON.parse(line).time, /^2\d{3}-/, "the worker's log is JSON");
    }
  });

  it("makes a relay refuse messages; waiting ones are delivered until there is room", async (context) => {
    const at = await smallDisk(context);
    if (at === undefined) return;
    const relay = start(context, ["relay", "--port", "0", "--json", "--store", join(at, "relay.db")]);
    const [, port = ""] = await relay.line(/"port":([0-9]+)/);
    await eventually("the ballast is there", () => existsSync(join(at, "relay.db-ballast")));
    await survives(context, at, relay, { relay: `127.0.0.1:${port}`, transport: "tcp" });
    relay.process.kill("SIGTERM");
    assert.match(
      (await relay.finished).stderr,
      /new messages are refused \[StorageFull\]\n.*new messages are accepted/,
    );
  });

  it("makes the write itself fail without a minimum, and nothing is lost or wrongly acknowledged", async (context) => {
    const at = await smallDisk(context);
    if (at === undefined) return;
    const relay = start(context, [
      "relay",
      "--port",
      "0",
      "--json",
      "--min-free",
      "0",
      "--store",
      join(at, "relay.db"),
    ]);
    const [, port = ""] = await relay.line(/"port":([0-9]+)/);
    await eventually("the ballast is there", () => existsSync(join(at, "relay.db-ballast")));
    await survives(context, at, relay, { relay: `127.0.0.1:${port}`, transport: "tcp" });
  });
});
