/** Limits per principal at an edge with RATE: virtual connections, connects a minute, octets and messages. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, DeviceError, TransportName } from "../../../src/device/index.ts";
import { ASK_AFTER, CREDIT, WAKES } from "../../../src/edge/admission/limits.ts";
import type { Meter } from "../../../src/edge/admission/meter.ts";
import { meteredName } from "../../../src/edge/policy/rate-setting.ts";
import { HOLD_IGNORED_OCTETS } from "../../../src/edge/tunnel/limits.ts";
import { type ConnectionEvent, ConnectResponseId } from "../../../src/sstp/index.ts";
import { run } from "../../cli/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { PATIENCE } from "../../support/sockets.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { afterAll, connect, fresh, mailboxOf, RawClient, startEdge, TRANSPORTS, tunnelOf, until } from "./support.ts";

/** Rates that a device can use up on a machine that is busy with other tests. */
const OCTETS = 100_000;
const MESSAGES = 50;
const CONNECTS = 20;
const RATE = `octets=${OCTETS} messages=${MESSAGES} connects=${CONNECTS} connections=3`;
/** The length of a flood, and its beginning, which is not measured because the full bucket is used up first. */
const FLOOD = 6000;
/** The length of long messages in a flood. */
const BIG_OCTETS = 2500;
const BEGINNING = 1500;

const all = afterAll();
let edge: InspectedEdge;
before(async () => {
  edge = await startEdge(all, { rate: RATE });
});

type MeterStub = Pick<Meter, "enter" | "leave" | "lease" | "status">;

async function meterOf(name: string, of = edge): Promise<MeterStub> {
  const namespace = await of.miniflare.getDurableObjectNamespace("METER");
  return namespace.getByName(name) as unknown as MeterStub;
}

function meterOfAddress(address: string): Promise<MeterStub> {
  return meterOf(meteredName(`grooveDevice://${address}`, undefined, { RATE }) ?? "");
}

/** Sends at full speed for a while; returns the acknowledged rate after the beginning. */
async function flood(device: Device, to: string, length: number): Promise<{ messages: number; octets: number }> {
  const began = performance.now();
  const body = new Uint8Array(length);
  let counted = 0;
  let over = false;
  const sending = Array.from({ length: Math.max(4, Math.min(64, Math.floor(2_000_000 / length))) }, async () => {
    while (!over) {
      await device.send(to, body).catch((error: unknown) => {
        if (!over) throw error;
      });
      const at = performance.now() - began;
      if (at > BEGINNING && at <= FLOOD) counted += 1;
    }
  });
  const all = Promise.all(sending);
  await Promise.race([all, sleep(FLOOD)]);
  over = true;
  void all.catch(() => undefined);
  const messages = counted / ((FLOOD - BEGINNING) / 1000);
  return { messages, octets: messages * length };
}

/** @param possible what the machine manages of it in a second without limits, one message after another */
function assertWithin(what: string, actual: number, limit: number, possible: number): void {
  // How much of its rate a device uses depends on the machine too; throttle.test.ts asks for 80 % on a driven clock.
  const least = 0.1 * Math.min(limit, possible);
  assert.ok(
    actual > least && actual < 1.2 * limit,
    `${what}: ${Math.round(actual)} a second of ${limit}, ${Math.round(possible)} are possible`,
  );
}

function medianOf(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

describe("octets and messages", () => {
  for (const transport of ["websocket", "longlived", "keepalive"] satisfies TransportName[]) {
    it(`are limited to their rates over ${transport}, without slowing others`, { timeout: 300_000 }, async (t) => {
      const [big, small, other] = await Promise.all(
        ["big", "small", "other"].map((name) => connect(edge, `${fresh(name)}/pc`, transport)),
      );
      assert.ok(big && small && other);
      const delays: number[] = [];
      let over = false;
      const steady = (async () => {
        while (!over) {
          const began = performance.now();
          await other.send(fresh("nobody"), "well behaved");
          delays.push(performance.now() - began);
          await sleep(50);
        }
      })();
      // How long a message takes on this machine before there are floods.
      await until("ten are stored", () => delays.length >= 10);
      const alone = medianOf(delays.splice(0));
      const [octets, messages] = await Promise.all([
        flood(big, fresh("nobody"), BIG_OCTETS),
        flood(small, fresh("nobody"), 40),
      ]);
      over = true;
      await steady;
      delays.sort((a, b) => a - b);
      // Of some eighty the slowest ones are what a busy machine does: each message makes a new mailbox.
      const p90 = delays[Math.floor(delays.length * 0.9)] ?? 0;
      t.diagnostic(
        `${Math.round(octets.octets)} octets/s of ${OCTETS}, ${Math.round(messages.messages)} messages/s of ${MESSAGES}; another's p90 ${p90.toFixed(1)} ms of ${delays.length}`,
      );
      assertWithin("octets", octets.octets, OCTETS, (1000 / alone) * BIG_OCTETS);
      assertWithin("messages", messages.messages, MESSAGES, 1000 / alone);
      // What senders at their limit have outstanding takes seconds; others wait only for the machine, which is no faster
      // for them than before.
      assert.ok(p90 < Math.max(1000, 20 * alone), `another waited ${p90} ms, and ${alone} ms before`);
      await Promise.all([big, small, other].map((device) => device.close()));
    });
  }

  it("are shared round-robin by connections that are metered together, and none starves", async () => {
    const meter = await meterOf(fresh("token"));
    const names = ["a", "b", "c", "d"];
    const got = new Map<string, number>(names.map((name) => [name, 0]));
    // Enough to see how they share, however long a busy machine needs for it.
    const enough = () => [...got.values()].reduce((all, one) => all + one, 0) >= 3 * OCTETS;
    const began = performance.now();
    await Promise.all(
      // Each has several calls at once: a call through the test's proxy takes longer than a lease lasts.
      [...names, ...names, ...names, ...names].map(async (name, index) => {
        // One of them requests far more than the others.
        const wanted = { octets: index % names.length === 0 ? 12_500_000 : 50_000, messages: 1 };
        while (!enough() && performance.now() - began < PATIENCE) {
          const lease = await meter.lease(name, wanted, { octets: 0, messages: 0 });
          await sleep(lease.wait);
          got.set(name, (got.get(name) ?? 0) + lease.octets);
        }
      }),
    );
    const seconds = (performance.now() - began) / 1000;
    const sum = [...got.values()].reduce((all, one) => all + one, 0);
    // Tokens gathered during a pause are spent first. How equal the shares are depends on the latency of a call.
    const together = (sum - OCTETS / 2) / seconds;
    assert.ok(together <= 1.1 * OCTETS, `${together} a second of ${OCTETS}`);
    assert.ok(enough(), `${sum} octets came in ${seconds} s`);
    for (const [name, octets] of got) assert.ok(octets > sum / 10, `${name} got ${octets} of ${sum}`);
  });

  it("sent after hold end the WebSocket", async (t) => {
    const url = `grooveDevice://${fresh("deaf")}/pc`;
    const client = await RawClient.open(edge, "websocket", url);
    t.after(() => client.close());
    const mailbox = await mailboxOf(edge, url);
    await until("it is connected", async () => (await mailbox.status()).consumer !== undefined);
    const tunnel = await tunnelOf(edge, (await mailbox.status()).consumer ?? "");
    const session = await client.session("grooveway", `grooveIdentity://${fresh("nobody")}`);
    // Twice the limit, however much of it is taken in a few seconds.
    const body = new Uint8Array(64 * 1024);
    for (let n = 0; n < (2 * HOLD_IGNORED_OCTETS) / body.length; n += 1) client.send(session, body);
    await client.event("closed");
    assert.equal((await tunnel.status()).ended, "HoldIgnored");
  });

  it("below the limit pass without a call to the meter", async () => {
    const address = `${fresh("quiet")}/pc`;
    const device = await connect(edge, address, "websocket");
    const to = fresh("nobody");
    // Waking a mailbox and opening a session count as well.
    const left = CREDIT.messages - Math.ceil(MESSAGES / WAKES) - 1;
    for (let n = 0; n < left; n += 1) await device.send(to, "x");
    const { messages } = await (await meterOfAddress(address)).status();
    assert.equal(messages, MESSAGES / 2, "the bucket is full");
    await device.close();
  });
});

describe("virtual connections", () => {
  for (const transport of TRANSPORTS) {
    it(`beyond a minute's share get TryLater with a time over ${transport}, and are accepted then`, {
      timeout: 300_000,
    }, async (t) => {
      const address = `${fresh("hasty")}/pc`;
      const meter = await meterOfAddress(address);
      const useUp = async () => {
        while ((await meter.enter("made up")).ok) await meter.leave("made up");
      };
      // Tokens gathered while a busy machine connects may admit it at once: then it tries again.
      const tries: RawClient[] = [];
      t.after(() => {
        for (const client of tries) client.close();
      });
      const knock = async (): Promise<ConnectionEvent | undefined> => {
        await useUp();
        const client = new RawClient(edge, transport, `grooveDevice://${address}`);
        tries.push(client);
        client.connect("127.0.0.1");
        await until("it is answered", () =>
          client.events.some(({ type }) => type === "connected" || type === "refused"),
        );
        const refused = client.events.find(({ type }) => type === "refused");
        client.close();
        return refused;
      };
      let refused = await knock();
      while (refused === undefined) refused = await knock();
      assert.ok(refused.type === "refused" && refused.responseId === ConnectResponseId.TryLater);
      assert.ok(refused.retryTime >= 1 && refused.retryTime <= 60 / CONNECTS + 1, `${refused.retryTime} s`);
      // The library waits by itself.
      const told: DeviceError[] = [];
      let device: Device | undefined;
      while (told.length === 0) {
        await device?.close();
        await useUp();
        const connecting = connect(edge, address, transport, { onReconnect: (error) => told.push(error) });
        connecting.catch(() => undefined);
        const stranger = await connect(edge, `${fresh("other")}/pc`, transport);
        await stranger.close();
        device = await connecting;
      }
      for (const { message } of told) assert.match(message, /try again in \d+ s/);
      await device?.send(fresh("nobody"), "in at last");
      await until("it alone is connected", async () => (await meter.status()).connections === 1);
      await device?.close();
      await until("it has left", async () => (await meter.status()).connections === 0);
    });
  }

  it("are limited in number; one that leaves makes room", async () => {
    const meter = await meterOf(fresh("token"));
    for (const name of ["a", "b", "c"]) assert.ok((await meter.enter(name)).ok);
    // They connected within this second: nobody is checked for presence.
    const refused = await meter.enter("d");
    assert.ok(!refused.ok && refused.limit === "connections" && refused.retryAfter > 0);
    assert.ok((await meter.enter("a")).ok, "a connected device may reconnect");
    await meter.leave("b");
    await meter.leave("b");
    await meter.leave("never there");
    assert.ok((await meter.enter("d")).ok);
    assert.equal((await meter.status()).connections, 3);
  });

  it("are limited in number even if they only send", async () => {
    const address = `${fresh("sender")}/pc`;
    const meter = await meterOfAddress(address);
    for (const _ of "abc") await connect(edge, address, "websocket", { receive: false });
    assert.equal((await meter.status()).connections, 3);
    assert.ok(!(await meter.enter("one too many")).ok);
  });

  it("that vanished are forgotten, and live ones are not", {
    timeout: 300_000,
  }, async (t) => {
    const state = temporaryFolder();
    const first = await startEdge(t, { rate: RATE, state });
    const before = await meterOf("token:vanishing", first);
    for (const connection of ["vanished 1", "vanished 2"]) assert.ok((await before.enter(connection)).ok);
    // This drops everything in memory, and would drop every Tunnel.
    await first.close();
    const second = await startEdge(t, { rate: RATE, state });
    const meter = await meterOf("token:vanishing", second);
    assert.equal((await meter.status()).connections, 2, "they are stored");
    const url = `grooveDevice://${fresh("here")}/pc`;
    const client = await RawClient.open(second, "websocket", url);
    t.after(() => client.close());
    const mailbox = await mailboxOf(second, url);
    await until("it is connected", async () => (await mailbox.status()).consumer !== undefined);
    const { consumer = "" } = await mailbox.status();
    assert.ok((await meter.enter(consumer)).ok);
    assert.ok((await meter.enter("new")).ok, "the two that vanished are forgotten");
    assert.equal((await meter.status()).connections, 2);
    assert.ok((await meter.enter("newer")).ok);
    await sleep(ASK_AFTER + 200);
    assert.ok((await meter.enter("newest")).ok, "as are the two that were never Tunnels");
    assert.ok((await meter.enter("one more")).ok);
    assert.ok(!(await meter.enter("one too many")).ok, "the live one was asked and is kept");
  });
});

describe("grooveway edge --rate", () => {
  it("rejects an invalid entry and names it", async (t) => {
    const { code, stderr } = await run(t, ["edge", "--port", "0", "--rate", "octets=1000000 mesages=3"]);
    assert.equal(code, 2);
    assert.match(
      stderr,
      /^grooveway: --rate has "mesages=3", which is not a limit: write connections, .*see grooveway edge --help/,
    );
  });
});
