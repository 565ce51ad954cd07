/** What a sender may request over HTTP: its room in a mailbox, and withdrawal of its messages. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import { deviceURL } from "../../../src/sstp/index.ts";
import { QUOTA } from "../../../src/store-and-forward/sender-share.ts";
import { partsOf } from "../../support/address.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { soon } from "../../support/watch.ts";
import { ed25519, jwks } from "../issuer.ts";
import { afterAll, connect, fresh, mailboxOf, receive, startEdge, until } from "../mailbox/support.ts";

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all, { quota: "octets=4MiB messages=100" });
});

async function ask(method: "GET" | "DELETE", path: string): Promise<{ status: number; said: Record<string, unknown> }> {
  const answer = await fetch(`${edge.url}/mailboxes/${path}`, { method });
  return { status: answer.status, said: (await answer.json()) as Record<string, unknown> };
}

const at = (address: string) => encodeURIComponent(address);
const room = (to: string, from: string) => ask("GET", `${at(to)}/room?from=${at(from)}`);
const take = (to: string, from: string, id: string) =>
  ask("DELETE", `${at(to)}/messages?from=${at(from)}&id=${at(id)}`);

async function namesOf(): Promise<string[]> {
  const directory = await edge.miniflare.getDurableObjectNamespace("DIRECTORY");
  const stub = directory.getByName("directory") as unknown as {
    list(after: undefined, limit: number): Promise<string[]>;
  };
  return stub.list(undefined, 1000);
}

describe("the room for a sender in a mailbox", () => {
  it("is a share for a mailbox that does not exist, and does not create it", async () => {
    const [bob, alice] = [`${fresh("bob")}/pc`, `${fresh("alice")}/pc`];
    const { status, said } = await room(bob, alice);
    const all = { octets: 0, most: QUOTA.sender };
    assert.deepEqual([status, said], [200, { octets: 2 * 1024 ** 2, messages: 50, attached: false, all }]);
    assert.ok(!(await namesOf()).includes(deviceURL(partsOf(bob))));
  });

  it("is what the sender may add before it is suspended, with whether the peer is online", async () => {
    const [bob, name] = [`${fresh("bob")}/pc`, fresh("alice")];
    const held: string[] = [];
    const alice = await connect(edge, `${name}/pc`, "websocket", { onHeld: (to) => held.push(to) });
    for (let n = 0; n < 20; n += 1) await alice.send(bob, "x");
    const { said } = await room(bob, `${name}/phone`);
    assert.deepEqual([said.messages, said.attached], [30, false], "devices of an identity share their room");
    assert.equal((await room(bob, `${fresh("carol")}/pc`)).said.messages, 40);
    for (let n = 0; n < Number(said.messages); n += 1) await alice.send(bob, "x");
    assert.equal((await room(bob, `${name}/pc`)).said.messages, 0);
    const next = alice.send(bob, "too much");
    await until("it is held", () => held.length > 0);
    const receiver = await connect(edge, bob, "websocket");
    await receive(receiver, 51);
    await next;
    assert.equal((await room(bob, `${name}/pc`)).said.attached, true);
    await Promise.all([alice.close(), receiver.close()]);
  });

  it("is refused for senders that are locked out and for invalid addresses", async () => {
    const [bob, alice] = [`${fresh("bob")}/pc`, `${fresh("alice")}/pc`];
    await (await mailboxOf(edge, deviceURL(partsOf(bob)))).setLocked(true);
    assert.deepEqual((await room(bob, alice)).said.code, "LockedOut");
    assert.equal((await room("a/b/c", alice)).said.code, "MalformedAddress");
    for (const from of ["", "alice", "a/b/c", "alice/pc@relay.example.com"]) {
      assert.equal((await room(bob, from)).said.code, "MalformedSender", from);
    }
    assert.equal((await room("bob@elsewhere.example.com", alice)).said.code, "RelayNotAllowed");
  });
});

describe("a withdrawal by a sender", () => {
  it("removes its own messages by id prefix, whose ids stay known", async () => {
    const [bob, name, other] = [`${fresh("bob")}/pc`, fresh("alice"), fresh("carol")];
    const alice = await connect(edge, `${name}/pc`, "websocket");
    const phone = await connect(edge, `${name}/phone`, "websocket");
    const carol = await connect(edge, `${other}/pc`, "websocket");
    for (const id of ["t1.0", "t1.1", "t2.0", "t1.2", "T1.3", "t%@.1"]) await alice.send(bob, id, { id });
    await phone.send(bob, "phone", { id: "t1.0" });
    await carol.send(bob, "carol", { id: "t1.1" });
    assert.deepEqual(await take(bob, `${name}/pc`, "t1."), { status: 200, said: { removed: 3 } });
    assert.deepEqual((await take(bob, `${name}/pc`, "t1.")).said, { removed: 0 });
    assert.deepEqual((await take(bob, `${name}/pc`, "t%@.")).said, { removed: 1 });
    await alice.send(bob, "again", { id: "t1.0" });
    const { dropped } = await (await mailboxOf(edge, deviceURL(partsOf(bob)))).status();
    assert.deepEqual([dropped.Withdrawn, dropped.DuplicateMessage], [4, 1]);
    const receiver = await connect(edge, bob, "websocket");
    const texts = (await receive(receiver, 4)).map((message) => message.text());
    assert.deepEqual(texts, ["t2.0", "T1.3", "phone", "carol"]);
    await Promise.all([alice, phone, carol, receiver].map((device) => device.close()));
  });

  it("makes room, so that a held sender resumes", async () => {
    const [bob, name] = [`${fresh("bob")}/pc`, fresh("alice")];
    const held: string[] = [];
    const alice = await connect(edge, `${name}/pc`, "websocket", { onHeld: (to) => held.push(to) });
    for (let n = 0; n < 50; n += 1) await alice.send(bob, "x", { id: `t.${n}` });
    const next = alice.send(bob, "next", { id: "u.0" });
    await until("it is held", () => held.length > 0);
    assert.deepEqual((await take(bob, `${name}/pc`, "t.")).said, { removed: 50 });
    await soon(next, "the message that was held");
    await alice.close();
  });

  it("may span many segments and long messages", async () => {
    const [bob, name] = [`${fresh("bob")}/pc`, fresh("alice")];
    const alice = await connect(edge, `${name}/pc`, "websocket");
    for (let n = 0; n < 40; n += 1)
      await alice.send(bob, new Uint8Array(n === 7 ? 600_000 : 10), { id: `t${n % 2}.${n}` });
    assert.deepEqual((await take(bob, `${name}/pc`, "t1.")).said, { removed: 20 });
    const { messages, octets } = await (await mailboxOf(edge, deviceURL(partsOf(bob)))).status();
    assert.ok(messages === 20 && octets < 100_000);
    await alice.close();
  });

  it("removes nothing from a mailbox that does not exist, and needs an id", async () => {
    const [bob, alice] = [`${fresh("bob")}/pc`, `${fresh("alice")}/pc`];
    assert.deepEqual((await take(bob, alice, "t.")).said, { removed: 0 });
    assert.ok(!(await namesOf()).includes(deviceURL(partsOf(bob))));
    assert.equal((await take(bob, alice, "")).said.code, "MalformedSender");
    assert.equal((await take(bob, alice, "x".repeat(256))).said.code, "MalformedSender");
  });
});

it("room tells what waits of the sender in all mailboxes, which may leave less room in this one", async (t) => {
  const edge = await startEdge(t, { quota: "sender=32MiB" });
  const alice = await connect(edge, "alice/pc", "websocket");
  const roomOf = async (address: string) => {
    const answer = await fetch(`${edge.url}/mailboxes/${at(address)}/room?from=alice%2Fpc`);
    return (await answer.json()) as { octets: number; attached: boolean; all: unknown };
  };
  const MIB = 1024 ** 2;
  for (const address of ["bob/pc", "carol/pc"]) await alice.send(address, new Uint8Array(9 * MIB));
  const full = { octets: 32 * MIB, most: 32 * MIB };
  assert.deepEqual(await roomOf("emil/pc"), { octets: 0, messages: 50_000, attached: false, all: full });
  const { octets } = await roomOf("bob/pc");
  assert.ok(octets > 6 * MIB && octets < 7 * MIB, `${octets} of 16 MiB are left of its reservation`);
  const emil = await connect(edge, "emil/pc", "websocket");
  assert.deepEqual(await roomOf("emil/pc"), { octets: 128 * MIB, messages: 50_000, attached: true, all: full });
  await Promise.all([alice.close(), emil.close()]);
});

it("room requires a token that covers the device and may send there, and is rate-limited", async (t) => {
  const issuer = await ed25519();
  const edge = await startEdge(t, { keys: jwks(issuer), rate: "messages=40" });
  const ask = async (token: string | undefined, query: string, method = "GET") => {
    const answer = await fetch(`${edge.url}/mailboxes/bob%2Fpc/${query}`, {
      method,
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
    });
    const { code = "ok" } = (await answer.json()) as { code?: string };
    return code;
  };
  const may = await issuer.issue({ address: "alice/*", scope: "connect send:bob/*" });
  const mayNot = await issuer.issue({ address: "alice/*", scope: "connect send:carol/*" });
  for (const [query, method] of [
    ["room?from=alice/pc", "GET"],
    ["messages?from=alice/pc&id=t.", "DELETE"],
  ] as const) {
    assert.equal(await ask(may, query, method), "ok");
    assert.equal(await ask(may, query.replace("alice", "carol"), method), "ScopeMissing");
    assert.equal(await ask(mayNot, query, method), "ScopeMissing");
    assert.equal(await ask(undefined, query, method), "TokenNeeded");
  }
  // A second allows 20 mailboxes, half of them in a burst.
  const began = Date.now();
  for (let n = 0; n < 40; n += 1) assert.equal(await ask(may, "room?from=alice/pc"), "ok");
  assert.ok(Date.now() - began > 1000, `forty were answered in ${Date.now() - began} ms`);
});

it("a withdrawal is charged for what it reads, even if it removes nothing", async (t) => {
  const issuer = await ed25519();
  const edge = await startEdge(t, { keys: jwks(issuer), rate: "messages=160" });
  const mailbox = await mailboxOf(edge, "grooveDevice://bob/pc");
  const source = "grooveDevice://alice/pc";
  const envelope = { source, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" };
  const body = new Uint8Array(0);
  const waiting = Array.from({ length: 1000 }, (_, n) => {
    return { envelope, fields: { userRef: `u.${n}@alice/pc`, track: false }, body };
  });
  assert.deepEqual((await mailbox.append(pack(waiting))).refusals, []);
  const token = await issuer.issue({ address: "alice/*", scope: "connect send:bob/*" });
  const began = Date.now();
  for (let n = 0; n < 5; n += 1) {
    const answer = await fetch(`${edge.url}/mailboxes/bob%2Fpc/messages?from=alice/pc&id=t.`, {
      method: "DELETE",
      headers: { Authorization: `Bearer ${token}` },
    });
    assert.deepEqual(await answer.json(), { removed: 0 });
  }
  // 125 messages each, of 160 a second, half a second's in a burst.
  assert.ok(Date.now() - began > 2500, `five were answered in ${Date.now() - began} ms`);
});

it("room is a share of the default quota when none is set", () => {
  assert.deepEqual([QUOTA.octets * QUOTA.share, QUOTA.messages * QUOTA.share], [134_217_728, 50_000]);
});
