/** The sender rule of a mailbox, over HTTP and by `grooveway mailbox rule`, and what senders are told. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { DeviceError } from "../../../src/device/index.ts";
import { RULE_OCTETS } from "../../../src/edge/http/limits.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import { SessionStatusId } from "../../../src/sstp/index.ts";
import type { Mail } from "../../../src/store-and-forward/envelope.ts";
import { runHere } from "../../cli/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import {
  afterAll,
  connect,
  fresh,
  mailboxOf,
  RawClient,
  receive,
  startEdge,
  TRANSPORTS,
  until,
} from "../mailbox/support.ts";

const TOKEN = "an admin's secret";

const all = afterAll();
let edge: InspectedEdge;
before(async () => {
  edge = await startEdge(all, { adminToken: TOKEN });
});

async function ask(address: string, body?: unknown, token = TOKEN): Promise<{ status: number; said: Said }> {
  const answer = await fetch(`${edge.url}/admin/mailboxes/${encodeURIComponent(address)}/rule`, {
    headers: { Authorization: `Bearer ${token}` },
    ...(body !== undefined && { method: "PUT", body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  return { status: answer.status, said: (await answer.json()) as Said };
}

interface Said {
  readonly peer?: string;
  readonly senders?: string;
  readonly code?: string;
  readonly detail?: string;
}

async function setRule(address: string, senders: string): Promise<void> {
  assert.equal((await ask(address, { senders })).status, 200);
}

async function lock(address: string, method: "PUT" | "DELETE"): Promise<void> {
  const url = `${edge.url}/admin/mailboxes/${encodeURIComponent(address)}/lock`;
  const answer = await fetch(url, { method, headers: { Authorization: `Bearer ${TOKEN}` } });
  assert.equal(answer.status, 200);
  await answer.arrayBuffer();
}

describe("the sender rule of a mailbox", () => {
  it("is everyone by default, and is shown in canonical form", async () => {
    const address = `${fresh("bob")}/pc`;
    const peer = `grooveDevice://${address}`;
    assert.deepEqual(await ask(address), { status: 200, said: { peer, senders: "everyone" } });
    const set = await ask(address, { senders: " %61lice , *-bot/x " });
    assert.deepEqual(set, { status: 200, said: { peer, senders: "alice *-bot/x" } });
    assert.deepEqual(await ask(address), set);
  });

  for (const transport of TRANSPORTS) {
    it(`admits exactly the senders it names, over ${transport}`, async (t) => {
      const to = fresh("bob");
      const [alice, mallory] = await Promise.all(
        ["alice/pc", "mallory/pc"].map((address) => connect(edge, `${transport}${address}`, transport)),
      );
      assert.ok(alice && mallory);
      t.after(() => Promise.all([alice.close(), mallory.close()]));
      await setRule(to, `${transport}alice carol`);
      await alice.send(to, "let in");
      await assert.rejects(mallory.send(to, "shut out"), DeviceError);
      await alice.send(to, "still let in");
      const mailbox = await mailboxOf(edge, `grooveIdentity://${to}`);
      const { messages, dropped } = await mailbox.status();
      assert.deepEqual([messages, dropped.SenderNotAllowed, dropped.LockedOut], [2, 1, 0]);
      await setRule(to, "everyone");
      await mallory.send(to, "let in at last");
      assert.equal((await mailbox.status()).messages, 3);
    });
  }

  it("nobody also excludes the owner's own devices", async (t) => {
    const to = fresh("bob");
    await setRule(to, "nobody");
    const device = await connect(edge, `${to}/pc`, "websocket");
    t.after(() => device.close());
    await assert.rejects(device.send(to, "to myself"), DeviceError);
    await setRule(to, to);
    await device.send(to, "to myself");
    assert.equal((await receive(device, 1))[0]?.text(), "to myself");
  });

  it("survives eviction, and the operator's lock, which takes precedence", async (t) => {
    const to = fresh("bob");
    const peer = `grooveIdentity://${to}`;
    const alice = await connect(edge, "alice/evicted", "websocket");
    const mallory = await connect(edge, "mallory/evicted", "websocket");
    t.after(() => Promise.all([alice.close(), mallory.close()]));
    await setRule(to, "alice");
    await lock(to, "PUT");
    await assert.rejects(alice.send(to, "locked out"), DeviceError);
    await lock(to, "DELETE");
    await edge.miniflare.unsafeEvictDurableObject("grooveway", "Mailbox", { name: peer });
    assert.equal((await ask(to)).said.senders, "alice");
    await assert.rejects(mallory.send(to, "shut out"), DeviceError);
    await alice.send(to, "let in");
    const { messages, dropped } = await (await mailboxOf(edge, peer)).status();
    assert.deepEqual([messages, dropped.LockedOut, dropped.SenderNotAllowed], [1, 1, 1]);
  });

  it("reports LockedOut to a fanout, and delivers to the other recipients", async (t) => {
    const names = [fresh("open"), fresh("shut"), fresh("open")];
    const client = await RawClient.open(edge, "longlived", "grooveDevice://mallory/fanout");
    t.after(() => client.close());
    await setRule(names[1] ?? "", "alice");
    const session = client.engine.openFanout({
      resourceURL: "news",
      entries: names.map((name) => ({ identityURL: `grooveIdentity://${name}`, deviceURL: "", relayURL: "" })),
    });
    client.flush();
    await client.event("sessionState", (event) => event.sessionId === session);
    const number = client.send(session, "to all", { userRef: fresh("id") });
    await client.event("acknowledged", ({ messages }) => messages.includes(number));
    const told = client.events.flatMap((event) =>
      event.type === "sessionStatus" ? [[event.statusId, event.indexes]] : [],
    );
    assert.deepEqual(told, [[SessionStatusId.LockedOut, [1]]]);
    const waiting = await Promise.all(
      names.map(async (name) => (await (await mailboxOf(edge, `grooveIdentity://${name}`)).status()).messages),
    );
    assert.deepEqual(waiting, [1, 0, 1]);
  });

  it("applies to messages with flag D", async (t) => {
    const to = fresh("bob");
    const device = await connect(edge, `${to}/pc`, "websocket");
    t.after(() => device.close());
    await setRule(`${to}/pc`, "alice");
    const mailbox = await mailboxOf(edge, `grooveDevice://${to}/pc`);
    for (const [source, closes] of [
      ["grooveDevice://mallory/d", true],
      ["grooveDevice://alice/d", false],
    ] as const) {
      const client = await RawClient.open(edge, "websocket", source);
      t.after(() => client.close());
      const session = await client.session("grooveway", `grooveIdentity://${to}`, `grooveDevice://${to}/pc`);
      client.send(session, source, { doNotDeliverIfOffline: true });
      if (closes) await client.event("sessionClosed");
    }
    assert.equal((await receive(device, 1))[0]?.text(), "grooveDevice://alice/d");
    const { dropped } = await mailbox.status();
    assert.deepEqual([dropped.SenderNotAllowed, dropped.PeerOffline], [1, 0]);
  });

  it("is applied to each message of a batch by its own source", async () => {
    const to = fresh("bob");
    await setRule(to, "alice");
    const mailbox = await mailboxOf(edge, `grooveIdentity://${to}`);
    const mail = (source: string, id: string): Mail => ({
      envelope: {
        source: `grooveDevice://${source}/pc`,
        resourceURL: "r",
        identityURL: `grooveIdentity://${to}`,
        deviceURL: "",
      },
      fields: { userRef: id, track: false },
      body: new Uint8Array(3),
    });
    const bundle = pack(["alice", "mallory", "alice", "eve", "alice"].map((source, i) => mail(source, `${i}`)));
    const refused = [1, 3].map((at) => ({ at, outcome: "locked" }));
    assert.deepEqual((await mailbox.append(bundle)).refusals, refused);
    assert.deepEqual((await mailbox.append(bundle)).refusals, refused, "duplicates count as stored");
    assert.deepEqual(await mailbox.pass(bundle), refused);
    const { messages, dropped } = await mailbox.status();
    assert.deepEqual([messages, dropped.SenderNotAllowed], [3, 6]);
  });

  it("is unchanged by an invalid rule, which is rejected with a reason", async () => {
    const to = fresh("bob");
    await setRule(to, "alice");
    for (const [body, says] of [
      ["", /JSON/],
      ["{", /JSON/],
      ["null", /JSON/],
      ['"everyone"', /JSON/],
      [{}, /JSON/],
      [{ senders: ["alice"] }, /JSON/],
      [{ senders: "" }, /empty/],
      [{ senders: "everyone alice" }, /everyone cannot be combined/],
      [{ senders: "a/b/c" }, /more than one/],
      [{ senders: "x".repeat(RULE_OCTETS) }, /longer than/],
    ] as const) {
      const { status, said } = await ask(to, body);
      assert.deepEqual([status, said.code], [400, "MalformedRule"], JSON.stringify(body).slice(0, 80));
      assert.match(said.detail ?? "", says);
    }
    assert.equal((await ask("a/b/c", { senders: "everyone" })).said.code, "MalformedAddress");
    assert.equal((await ask(to, { senders: "everyone" }, "wrong")).said.code, "AdminTokenNeeded");
    assert.equal((await ask(to)).said.senders, "alice");
  });
});

describe("grooveway mailbox rule", () => {
  it("shows and sets the rule", async () => {
    const to = fresh("bob");
    const rule = (...args: string[]) => runHere(["mailbox", "rule", to, ...args, "--edge", edge.url, "--token", TOKEN]);
    assert.equal((await rule()).stdout, "everyone\n");
    assert.equal((await rule("alice", "*-bot/pc")).stdout, "alice *-bot/pc\n");
    assert.deepEqual(JSON.parse((await rule("--json")).stdout), {
      peer: `grooveIdentity://${to}`,
      senders: "alice *-bot/pc",
    });
    const shown = await runHere(["mailbox", "show", to, "--edge", edge.url, "--token", TOKEN]);
    assert.match(shown.stdout, /^senders +alice \*-bot\/pc$/m);
    assert.equal((await rule("nobody")).stdout, "nobody\n");
    const wrong = await rule("nobody", "alice");
    assert.equal(wrong.code, EXIT_CODES.Refused.status);
    assert.match(wrong.stderr.trim(), /^grooveway: nobody cannot be combined.*\[MalformedRule\]$/);
    assert.equal((await rule()).stdout, "nobody\n");
    await until("it is written down", async () => (await ask(to)).said.senders === "nobody");
  });
});
