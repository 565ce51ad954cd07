/** How long a link stays open, with its object's time driven by the test; a Noop does not count as use. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Miniflare } from "miniflare";
import { Device } from "../../../src/device/index.ts";
import { LINK_IDLE, LINK_LIFE, LINK_WANTED } from "../../../src/edge/link/limits.ts";
import type { LinkStatus } from "../../../src/edge/rpc/link-rpc.ts";
import type { Link } from "../../support/driven-worker.ts";
import { startWorker } from "../../support/worker.ts";
import { receive, until } from "../mailbox/support.ts";
import { type Script, ScriptedRelay, say } from "../scripted-relay.ts";

type DrivenLink = Pick<Link, "letPass" | "write" | "left"> & { status(): Promise<LinkStatus> };

const NOTHING = { keys: [], alarm: false };
const MINUTE = 60_000;

describe("an idle link", { concurrency: true }, () => {
  const relays: ScriptedRelay[] = [];
  const devices: Device[] = [];
  let miniflare: Miniflare;
  let url = "";
  before(async () => {
    relays.push(...(await Promise.all(Array.from({ length: 8 }, () => ScriptedRelay.start()))));
    miniflare = await startWorker({
      RELAY_NAME: "localhost",
      ORIGIN_RELAYS: relays.map(({ name }) => name).join(","),
      LINKS: relays[0]?.name ?? "",
      DEV: "1",
    });
    url = String(await miniflare.ready)
      .replace(/\/$/, "")
      .replace("127.0.0.1", "localhost");
  });
  after(async () => {
    await Promise.all(devices.map((device) => device.close()));
    await miniflare.dispose();
    await Promise.all(relays.map((relay) => relay.close()));
  });

  const device = async (address: string): Promise<Device> => {
    const connected = await Device.connect({ edge: url, address, transport: "websocket" });
    devices.push(connected);
    return connected;
  };
  const linkTo = async (relay: ScriptedRelay): Promise<DrivenLink> => {
    const namespace = await miniflare.getDurableObjectNamespace("LINK");
    return namespace.getByName(relay.url) as unknown as DrivenLink;
  };
  const left = async (link: DrivenLink) => {
    const { keys, alarm } = await link.left();
    return { keys: [...keys], alarm };
  };
  /** A relay that has received a message over its link, and that link. */
  const used = async (
    number: number,
    ...scripts: readonly Script[]
  ): Promise<{ relay: ScriptedRelay; link: DrivenLink; alice: Device }> => {
    const relay = relays[number] ?? assert.fail("there are enough relays");
    relay.plan(...scripts);
    const alice = await device(`alice${number}/pc`);
    await alice.send(`bob/pc@${relay.name}`, "first");
    const link = await linkTo(relay);
    await until("the relay has the message", () => relay.texts.length === 1);
    await until("the link is up", async () => (await link.status()).connected);
    return { relay, link, alice };
  };

  it("is closed gracefully after five minutes, despite Noops, and leaves nothing stored", async () => {
    const { relay, link } = await used(1);
    relay.lines[0]?.send(say.noop(0));
    await link.letPass(LINK_IDLE - MINUTE);
    relay.lines[0]?.send(say.noop(0));
    assert.equal((await link.status()).connected, true);
    await link.letPass(MINUTE);
    assert.equal((await link.status()).connected, false);
    assert.deepEqual(await left(link), NOTHING);
    await until("the relay sees the end", () => relay.lines[0]?.raw.socket.closed === true);
    assert.deepEqual(relay.failures, []);
  });

  it("stays open while messages pass, and is then renewed gracefully", async () => {
    const { relay, link, alice } = await used(2);
    const step = LINK_IDLE - MINUTE;
    for (let passed = 0; passed < LINK_LIFE; passed += step) {
      await link.letPass(step);
      await alice.send(`bob/pc@${relay.name}`, `after ${passed + step}`);
      await until("the relay has it", () => relay.texts.at(-1) === `after ${passed + step}`);
    }
    await until("it is renewed", () => relay.lines.length === 2);
    assert.deepEqual(new Set(relay.texts).size, relay.texts.length, "there are no duplicates");
    assert.equal((await link.status()).connected, true);
  });

  it("counts what the relay sends as use", async () => {
    const passed = Promise.withResolvers<void>();
    const { link } = await used(3, async (line) => {
      line.accept(await line.first());
      await passed.promise;
      line.send(say.open(2, "message", "grooveIdentity://bob3", "grooveDevice://bob3/pc"));
      await line.expect("OpenResponse");
      line.send(say.whole(2, "id", "hello"));
    });
    const bob = await device("bob3/pc");
    await link.letPass(LINK_IDLE - MINUTE);
    passed.resolve();
    assert.equal((await receive(bob, 1))[0]?.text(), "hello");
    await link.letPass(2 * MINUTE);
    assert.equal((await link.status()).connected, true);
    await link.letPass(LINK_IDLE);
    assert.equal((await link.status()).connected, false);
  });

  it("stays open and is renewed when the operator keeps it", async () => {
    const { relay, link } = await used(0);
    for (let passed = 0; passed < LINK_LIFE; passed += MINUTE) await link.letPass(MINUTE);
    await until("it is renewed", () => relay.lines.length === 2);
    await until("it is up", async () => (await link.status()).connected);
  });

  it("is reopened by the next message", async () => {
    const { relay, link, alice } = await used(4);
    await link.letPass(LINK_IDLE);
    await alice.send(`bob/pc@${relay.name}`, "again");
    await until("the relay has it", () => relay.texts.length === 2);
    assert.equal(relay.lines.length, 2);
  });

  it("that was lost is not reopened when nothing waits, and leaves nothing stored", async () => {
    const { relay, link } = await used(5);
    await link.letPass(LINK_WANTED);
    relay.lines[0]?.raw.reset();
    await until("the link is down", async () => !(await link.status()).connected);
    await until("nothing is left", async () => {
      await link.letPass(1000);
      return (await link.left()).keys.length === 0;
    });
    assert.deepEqual(await left(link), NOTHING);
    assert.equal(relay.lines.length, 1);
  });

  it("resumes from the state of another release", async () => {
    const relay = relays[6] ?? assert.fail();
    const link = await linkTo(relay);
    await link.write("failed", "in words");
    await link.write("way", { port: 1 });
    const alice = await device("alice6/pc");
    await alice.send(`bob/pc@${relay.name}`, "first");
    await until("the relay has the message", () => relay.texts.length === 1);
  });
});
