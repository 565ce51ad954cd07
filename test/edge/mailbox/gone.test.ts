/** Mailboxes without content are deleted, and are not created by a query. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Miniflare } from "miniflare";
import { Device } from "../../../src/device/index.ts";
import { MISSES, MISSES_RATE } from "../../../src/edge/admission/limits.ts";
import { TICKET_TIME } from "../../../src/edge/durable-streams/limits.ts";
import { EMPTY_TIME, NOTE_INTERVAL, RANGE_TIME, REMEMBER_IDS, RETENTION } from "../../../src/edge/mailbox/limits.ts";
import type { Left, Tunnel } from "../../support/driven-worker.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { startWorker } from "../../support/worker.ts";
import { type MailboxStub, RawClient, receive, until } from "./support.ts";

const TOKEN = "an admin's secret";
const DAY = 24 * 3600_000;
const NOTHING = { tables: 0, alarm: false };

interface Driven extends MailboxStub {
  setSenders(text: string): Promise<void>;
  detach(generation: number): Promise<void>;
  letPass(milliseconds: number): Promise<void>;
  left(): Promise<Left>;
  next(): Promise<number>;
  alarmIn(): Promise<number>;
}

interface Shown {
  readonly peer: string;
  readonly messages: number;
  readonly locked: boolean;
  readonly senders: string;
}

describe("a mailbox", () => {
  let miniflare: Miniflare;
  let url = "";
  before(async () => {
    miniflare = await startWorker({
      RELAY_NAME: "localhost 127.0.0.1",
      ADMIN_TOKEN: TOKEN,
      DEV: "1",
    });
    url = String(await miniflare.ready)
      .replace(/\/$/, "")
      .replace("127.0.0.1", "localhost");
  });
  const connected: Device[] = [];
  after(async () => {
    await Promise.all(connected.map((device) => device.close()));
    await miniflare.dispose();
  });

  const connect = async (address: string) => {
    const device = await Device.connect({ edge: url, address, transport: "websocket" });
    connected.push(device);
    return device;
  };
  const mailboxOf = async (peer: string): Promise<Driven> => {
    const namespace = await miniflare.getDurableObjectNamespace("MAILBOX");
    return namespace.getByName(peer) as unknown as Driven;
  };
  const admin = (path: string, init: RequestInit = {}) =>
    fetch(`${url}/admin${path}`, { ...init, headers: { Authorization: `Bearer ${TOKEN}` } });
  const listed = async () => ((await (await admin("/mailboxes")).json()) as Shown[]).map(({ peer }) => peer);
  const clock = async (milliseconds: number) => {
    assert.equal((await fetch(`${url}/clock/${milliseconds}`)).status, 200);
  };
  const gone = async (mailbox: Driven) => {
    const { tables, alarm } = await mailbox.left();
    assert.deepEqual({ tables, alarm }, NOTHING);
  };

  it("that does not exist is shown as empty without being created", async () => {
    const address = encodeURIComponent("nobody/pc");
    for (const [path, method, body] of [
      ["", "GET"],
      ["", "DELETE"],
      ["/rule", "GET"],
      ["/rule", "PUT", '{"senders": "everyone"}'],
      ["/lock", "DELETE"],
    ] as const) {
      const answer = await admin(`/mailboxes/${address}${path}`, { method, ...(body !== undefined && { body }) });
      assert.equal(answer.status, 200, `${method} ${path}`);
      const shown = (await answer.json()) as Shown;
      assert.deepEqual([shown.peer, shown.senders], ["grooveDevice://nobody/pc", "everyone"]);
    }
    assert.ok(!(await listed()).includes("grooveDevice://nobody/pc"));
    await gone(await mailboxOf("grooveDevice://nobody/pc"));
  });

  it("is in the directory before its first message is acknowledged", async () => {
    const sender = await connect("alice/first");
    await sender.send("bob/first", "x");
    assert.ok((await listed()).includes("grooveDevice://bob/first"));
    await sender.close();
  });

  it("is deleted when its device has left and nothing waits, and leaves the directory", async () => {
    const peer = "grooveDevice://carol/pc";
    const device = await connect("carol/pc");
    const mailbox = await mailboxOf(peer);
    await until("it is there", async () => (await mailbox.status()).consumer !== undefined);
    await mailbox.letPass(EMPTY_TIME);
    assert.ok((await mailbox.left()).tables > 0, "not while it is consumed");
    await device.close();
    await until("its device has left", async () => (await mailbox.status()).consumer === undefined);
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
    await until("the directory knows", async () => !(await listed()).includes(peer));
  });

  it("that holds only tickets stays as long as they are good", async () => {
    const peer = "grooveDevice://eve/page";
    const body = '{"mailbox":"eve/page"}';
    const { ticket } = (await (await fetch(`${url}/tickets`, { method: "POST", body })).json()) as { ticket: string };
    const mailbox = await mailboxOf(peer);
    const read = async () => (await fetch(`${url}/mailboxes/eve%2Fpage?offset=-1&ticket=${ticket}`)).status;
    await mailbox.letPass(EMPTY_TIME + 1000);
    assert.equal(await read(), 200);
    await mailbox.letPass(TICKET_TIME - 60_000);
    assert.equal(await read(), 200);
    await mailbox.letPass(60_000);
    assert.equal(await read(), 401);
    // A mailbox that was read over HTTP stays as long as messages may wait.
    await mailbox.letPass(RETENTION + NOTE_INTERVAL);
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
    await until("the directory knows", async () => !(await listed()).includes(peer));
  });

  it("survives while it remembers ids or has a rule, and restarts above all numbers it has used", async () => {
    const peer = "grooveDevice://dora/pc";
    const mailbox = await mailboxOf(peer);
    const sender = await connect("alice/pc");
    const device = await connect("dora/pc");
    await sender.send("dora/pc", "one");
    await receive(device, 1);
    await until("nothing waits", async () => (await mailbox.status()).messages === 0);
    await device.close();
    await until("its device has left", async () => (await mailbox.status()).consumer === undefined);
    const { generation } = await mailbox.status();
    await mailbox.letPass(EMPTY_TIME + 1000);
    assert.ok((await mailbox.left()).tables > 0, "it remembers an id");
    await mailbox.setSenders("alice");
    await mailbox.letPass(REMEMBER_IDS + RANGE_TIME + 1000);
    await mailbox.letPass(EMPTY_TIME + 1000);
    assert.ok((await mailbox.left()).tables > 0, "it has a rule");
    await mailbox.setSenders("everyone");
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
    await sender.send("dora/pc", "two");
    assert.ok((await listed()).includes(peer), "it has been entered again");
    const next = await mailbox.attach();
    assert.ok(next.generation > generation, `${next.generation} comes after ${generation}`);
    const again = await connect("dora/pc");
    assert.equal((await receive(again, 1))[0]?.text(), "two");
    await Promise.all([again.close(), sender.close()]);
  });

  it("that is recreated after the clock was set back restarts above all numbers used before", async () => {
    const peer = "grooveDevice://fay/pc";
    const mailbox = await mailboxOf(peer);
    const sender = await connect("alice/ahead");
    const generations: number[] = [];
    const numbers: number[] = [];
    for (const ahead of [40 * DAY, 2 * DAY]) {
      await clock(ahead);
      await sender.send("fay/pc", `at ${ahead}`);
      const device = await connect("fay/pc");
      assert.equal((await receive(device, 1))[0]?.text(), `at ${ahead}`);
      await until("nothing waits", async () => (await mailbox.status()).messages === 0);
      generations.push((await mailbox.status()).generation);
      numbers.push(await mailbox.next());
      await device.close();
      await until("its device has left", async () => (await mailbox.status()).consumer === undefined);
      // The ids of an object that saw the clock ahead are dated accordingly.
      await mailbox.letPass(REMEMBER_IDS + RANGE_TIME + 40 * DAY);
      await mailbox.letPass(EMPTY_TIME + 1000);
      await gone(mailbox);
    }
    assert.ok((generations[1] ?? 0) > (generations[0] ?? 0), `consumers ${generations}`);
    assert.ok((numbers[1] ?? 0) > (numbers[0] ?? 0), `messages ${numbers}`);
    await sender.close();
  });

  it("that is deleted between attach and ready is recreated, consumed, and deleted again", async () => {
    const peer = "grooveDevice://gus/pc";
    const mailbox = await mailboxOf(peer);
    const { generation } = await mailbox.attach();
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
    assert.equal(await mailbox.ready("a-tunnel", generation), true);
    assert.ok((await listed()).includes(peer), "the directory knows it before it keeps a consumer");
    assert.equal((await mailbox.status()).consumer, "a-tunnel");
    assert.equal((await mailbox.left()).alarm, true);
    await mailbox.detach(generation);
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
  });

  it("is deleted when its consumer has left, and no earlier consumer returns", async () => {
    const peer = "grooveIdentity://hal";
    const mailbox = await mailboxOf(peer);
    const attached = (address: string) => {
      const edge = { url } as InspectedEdge;
      return RawClient.open(edge, "websocket", `grooveDevice://${address}`, "hal");
    };
    const desk = await attached("hal/desk");
    await until("the first consumes", async () => (await mailbox.status()).consumer !== undefined);
    const deskTunnel = (await mailbox.status()).consumer ?? "";
    const phone = await attached("hal/phone");
    await until("the second consumes", async () => (await mailbox.status()).consumer !== deskTunnel);
    await mailbox.letPass(EMPTY_TIME);
    assert.ok((await mailbox.alarmIn()) > EMPTY_TIME, "it is rarely checked while it is consumed");
    // Without notice to the mailbox, which still counts on it.
    const tunnels = await miniflare.getDurableObjectNamespace("TUNNEL");
    await assert.rejects((tunnels.getByName(deskTunnel) as unknown as Pick<Tunnel, "crash">).crash());
    phone.close();
    await until("the second has left", async () => (await mailbox.status()).consumer === undefined);
    await until("it is looked at soon", async () => (await mailbox.alarmIn()) <= EMPTY_TIME);
    await mailbox.letPass(EMPTY_TIME + 1000);
    await gone(mailbox);
    desk.close();
  });

  it("is deleted even if its consumer was killed", async () => {
    const peer = "grooveDevice://erin/pc";
    const mailbox = await mailboxOf(peer);
    const { generation } = await mailbox.attach();
    await mailbox.ready("a-tunnel-that-is-not-there", generation);
    for (let day = 0; day < 3; day += 1) await mailbox.letPass(24 * 3600_000 + EMPTY_TIME);
    await gone(mailbox);
  });

  it("that does not exist may be queried only at a limited rate per source", async () => {
    const codes: (string | undefined)[] = [];
    const began = performance.now();
    // A busy machine answers so slowly that more are admitted meanwhile.
    await until("one is refused", async () => {
      const some = Array.from({ length: MISSES + 40 }, async (_, i) => {
        const headers = { Authorization: `Bearer ${TOKEN}`, "X-Forwarded-For": "192.0.2.7" };
        const answer = await fetch(`${url}/admin/mailboxes/miss${codes.length + i}/rule`, { headers });
        return ((await answer.json()) as { code?: string }).code;
      });
      codes.push(...(await Promise.all(some)));
      return codes.includes("TooManyLookups");
    });
    const seconds = (performance.now() - began) / 1000;
    assert.ok(codes.filter((code) => code === undefined).length <= MISSES + MISSES_RATE * seconds + 10);
  });
});
