/** What devices learn about a message's sender, whatever the sender claims: at an edge, at a relay, and across both. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { newKey, sign } from "../../src/cli/commands/token.ts";
import type { Device } from "../../src/device/index.ts";
import { atEdge, atRelay, edgeFor, linked, originRelay } from "../edge/link/link-support.ts";
import { connect, RawClient, receive, startEdge, TRANSPORTS } from "../edge/mailbox/support.ts";
import { Peer } from "../relay/support.ts";

/** What a device sees of its next messages. */
async function seen(device: Device, count: number) {
  const messages = await receive(device, count);
  return messages.map((message) => [message.from, message.vouched, message.text()]);
}

describe("the sender of a message", () => {
  for (const transport of TRANSPORTS) {
    it(`is the one in its token, and nobody uses up another's ids, over ${transport}`, async (t) => {
      const { jwks, privateKey } = await newKey("k");
      const edge = await startEdge(t, { keys: JSON.stringify(jwks) });
      const tokenOf = (address: string) => {
        const exp = Math.floor(Date.now() / 1000) + 3600;
        return sign(privateKey, { address, scope: "connect receive send:*", aud: "127.0.0.1", jti: address, exp });
      };
      const bob = await connect(edge, "bob/pc", transport, { token: await tokenOf("bob/pc") });
      const token = await tokenOf("mallory/x");
      const mallory = await RawClient.open(edge, transport, "grooveDevice://mallory/x", undefined, {}, token);
      t.after(() => mallory.close());
      const session = await mallory.session("message", "grooveIdentity://bob", "grooveDevice://bob/pc");
      mallory.send(session, "pay the other account", { userRef: "invoice-17@alice/laptop" });
      assert.deepEqual(await seen(bob, 1), [["mallory/x", true, "pay the other account"]]);
      const alice = await connect(edge, "alice/laptop", transport, { token: await tokenOf("alice/laptop") });
      const { id } = await alice.send("bob/pc", "the invoice", { id: "invoice-17" });
      assert.equal(id, "invoice-17@alice/laptop");
      assert.deepEqual(await seen(bob, 1), [["alice/laptop", true, "the invoice"]]);
      await alice.send("bob/pc", "the same again", { id: "invoice-17" });
      await alice.send("bob/pc", "the next");
      assert.deepEqual(await seen(bob, 1), [["alice/laptop", true, "the next"]]);
      await Promise.all([alice.close(), bob.close()]);
    });
  }

  it("at a relay is the device that connected", async (t) => {
    const relay = await originRelay(t);
    const bob = await atRelay(t, relay.port, "bob/pc");
    const mallory = await Peer.connect(relay, { address: "mallory/x" });
    t.after(async () => mallory.drop());
    const session = await mallory.open("bob/pc");
    for (const text of ["1", "2"]) mallory.send(session, text, { userRef: "" });
    mallory.send(session, "pay the other account", { userRef: "invoice-17@alice/laptop" });
    assert.deepEqual(await seen(bob, 3), [
      ["mallory/x", true, "1"],
      ["mallory/x", true, "2"],
      ["mallory/x", true, "pay the other account"],
    ]);
    const alice = await atRelay(t, relay.port, "alice/laptop");
    await alice.send("bob/pc", "the invoice", { id: "invoice-17" });
    assert.deepEqual(await seen(bob, 1), [["alice/laptop", true, "the invoice"]]);
  });

  it("at another relay is shown with that relay, and replies return to it, even if both have the same name", async (t) => {
    const relay = await originRelay(t);
    const name = `127.0.0.1:${relay.port}`;
    const edge = await edgeFor(t, [relay.port], { links: [name] });
    const here = await atEdge(t, edge, "alice/pc");
    const there = await atRelay(t, relay.port, "alice/pc");
    await here.send(`alice/pc@${name}`, "question");
    const [question] = await receive(there, 1);
    assert.deepEqual([question?.from, question?.vouched], ["alice/pc@localhost", true]);
    // Each would be a reply to itself if the relay's name were lost.
    await there.send(question?.from ?? "", "answer");
    const [answer] = await receive(here, 1);
    assert.deepEqual([answer?.from, answer?.vouched, answer?.text()], [`alice/pc@${name}`, true, "answer"]);
    await here.send(answer?.from ?? "", "thanks");
    assert.deepEqual(await seen(there, 1), [["alice/pc@localhost", true, "thanks"]]);
  });

  it("at another relay can never appear as a peer of this or a third relay", async (t) => {
    const relay = await originRelay(t);
    const name = `127.0.0.1:${relay.port}`;
    const edge = await edgeFor(t, [relay.port], { links: [name] });
    const bob = await atEdge(t, edge, "bob/pc");
    await linked(edge, relay.port);
    const mallory = await atRelay(t, relay.port, "mallory/x");
    const claims = ["1@alice/pc", "1@alice/pc@localhost", "1@alice/pc@relay.example.com", "@", "1@mallory/x"];
    const texts = claims.map((_, n) => `${n}`);
    for (const [n, id] of claims.entries()) await mallory.send("bob/pc@localhost", texts[n] ?? "", { id });
    assert.deepEqual(
      await seen(bob, claims.length),
      texts.map((text) => [`mallory/x@${name}`, true, text]),
    );
  });

  it("without message ids is still shown, and all its messages arrive", async (t) => {
    const relay = await originRelay(t);
    const name = `127.0.0.1:${relay.port}`;
    const edge = await edgeFor(t, [relay.port], { links: [name] });
    const there = await Peer.connect(relay, { address: "there/pc" });
    t.after(async () => there.drop());
    const here = await RawClient.open(edge, "websocket", "grooveDevice://here/pc");
    t.after(async () => here.close());
    const bob = await atEdge(t, edge, "bob/pc");
    const session = await here.session("message", "grooveIdentity://bob", "grooveDevice://bob/pc");
    for (const text of ["1", "1"]) here.send(session, text, { userRef: "" });
    assert.deepEqual(await seen(bob, 2), Array(2).fill(["here/pc", true, "1"]));
    await bob.send(`there/pc@${name}`, "so that the relay knows the edge");
    await there.received(1);
    const entry = {
      identityURL: "grooveIdentity://bob",
      deviceURL: "grooveDevice://bob/pc",
      relayURL: "grooveDNS://localhost",
    };
    const fanout = there.engine.openFanout({ resourceURL: "message", entries: [entry] });
    there.flush();
    await there.ready(fanout);
    for (const text of ["2", "2"]) there.send(fanout, text, { userRef: "" });
    assert.deepEqual(await seen(bob, 2), Array(2).fill([`there/pc@${name}`, true, "2"]));
  });

  it("that is a foreign device is shown by its URL, and replies return to it", async (t) => {
    const edge = await startEdge(t);
    const bob = await connect(edge, "bob/pc", "websocket");
    for (const url of ["grooveDynamics://peer;CanTelURL=a%20b", "device2"]) {
      const foreign = await RawClient.open(edge, "websocket", url);
      t.after(() => foreign.close());
      const session = await foreign.session("message", "grooveIdentity://bob", "grooveDevice://bob/pc");
      for (const id of ["{1}", "m@1", "m@2"]) foreign.send(session, id, { userRef: id });
      const messages = await receive(bob, 3);
      assert.deepEqual(
        messages.map((message) => message.text()),
        ["{1}", "m@1", "m@2"],
      );
      await bob.send(messages[0]?.from ?? "", `to ${url}`);
      await foreign.event("endMessage");
      assert.equal(foreign.messages[0]?.body.toString(), `to ${url}`);
    }
  });
});
