/** A device with several edges: it receives from all of them, and sends to the first that works. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { destination } from "../relay/support.ts";
import { eventually, soon } from "../support/watch.ts";
import { Edges, textsOf } from "./edges-support.ts";
import { failure, take } from "./support.ts";

const BOB = { resourceURL: "message", ...destination("bob/pc") };

const tokenWith = (claims: Readonly<Record<string, unknown>>) =>
  `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;

describe("a device with several edges", () => {
  test("sends to the first and receives from each", async (t) => {
    const edges = await Edges.start(t, 3);
    const device = await edges.device("bob/pc");
    const links = await Promise.all([edges.link(0), edges.link(1), edges.link(2)]);
    await Promise.all(["a", "b"].map((text) => device.send("alice", text)));
    assert.deepEqual(
      links.map(({ messages }) => textsOf(messages)),
      [["a", "b"], [], []],
    );
    assert.equal(device.edge, edges.url(0));
    for (const [index, link] of links.entries()) link.send(await link.open(BOB), `from ${index}`, `${index}@alice/pc`);
    assert.deepEqual(textsOf(await take(device, 3)).sort(), ["from 0", "from 1", "from 2"]);
  });

  test("acknowledges a message where it came from", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("bob/pc");
    const links = await Promise.all([edges.link(0), edges.link(1)]);
    const number = links[1].send(await links[1].open(BOB), "x", "1@alice/pc");
    const [message] = await take(device, 1, false);
    assert.ok(!links[1].events.some(({ type }) => type === "acknowledged"));
    message?.done();
    const acknowledged = await links[1].until(
      () => links[1].events.find((event) => event.type === "acknowledged"),
      "the acknowledgement",
    );
    assert.deepEqual(acknowledged.messages, [number]);
    assert.ok(!links[0].events.some(({ type }) => type === "acknowledged"));
  });

  test("gives the application one of two copies that come from different edges, and acknowledges both", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("bob/pc");
    const links = await Promise.all([edges.link(0), edges.link(1)]);
    const sessions = await Promise.all(links.map((link) => link.open(BOB)));
    const say = (index: 0 | 1, text: string) => links[index].send(sessions[index] ?? 0, text, `${text}@alice/pc`);
    const isAcknowledged = (index: 0 | 1, number: number) => () =>
      links[index].events.some((event) => event.type === "acknowledged" && event.messages.includes(number));
    const early = say(0, "early");
    const [first] = await take(device, 1, false);
    const copy = say(1, "early");
    say(1, "other");
    const [second] = await take(device, 1);
    assert.equal(second?.text(), "other", "the copy came before it");
    assert.ok(!isAcknowledged(1, copy)(), "the copy waits until the message is done");
    first?.done();
    await links[0].until(isAcknowledged(0, early), "the message");
    await links[1].until(isAcknowledged(1, copy), "its copy");
    const late = say(1, "early");
    await links[1].until(isAcknowledged(1, late), "a late copy");
    say(0, "last");
    assert.deepEqual(textsOf(await take(device, 1)), ["last"]);
  });

  test("repeats what the lost edge has not acknowledged at the next, with the same ids and in order", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const [first, second] = await Promise.all([edges.link(0), edges.link(1)]);
    await device.send("bob", "stored");
    first.script.acknowledge = false;
    edges.relay(1).script.acknowledge = true;
    const sent = ["a", "b", "c"].map((text) => device.send("bob", text));
    const begun = await first.taken(4);
    first.script.acknowledge = true;
    edges.close(0);
    const ids = (await soon(Promise.all(sent), "all messages")).map(({ id }) => id);
    assert.deepEqual(textsOf(second.messages), ["a", "b", "c"]);
    assert.deepEqual(
      second.messages.map(({ fields }) => fields.userRef),
      begun.slice(1).map(({ fields }) => fields.userRef),
    );
    assert.deepEqual(
      second.messages.map(({ fields }) => fields.userRef),
      ids,
    );
    assert.equal(device.edge, edges.url(1));
    assert.deepEqual(edges.told[0], "lost 0");
  });

  test("connects while the first edge is closed, and uses it once it is there", async (t) => {
    const edges = await Edges.start(t, 2);
    edges.close(0);
    const device = await edges.device("alice/pc");
    await device.send("bob", "a");
    assert.equal(device.edge, edges.url(1));
    edges.open(0);
    await eventually(() => device.edge === edges.url(0), "the first edge");
    await device.send("bob", "b");
    const [last] = edges.relay(0).links.slice(-1);
    assert.deepEqual(textsOf(last?.messages ?? []), ["b"]);
  });

  test("names every edge in the error when none can be connected to", async (t) => {
    const edges = await Edges.start(t, 2);
    for (const index of [0, 1]) edges.close(index);
    await assert.rejects(edges.device("alice/pc"), (error: Error) => {
      for (const index of [0, 1]) assert.ok(error.message.includes(`127.0.0.1:${edges.relay(index).port}: `));
      return failure("ConnectFailed")(error);
    });
  });

  test("goes on without an edge that refuses it, and ends when all have refused it", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const links = await Promise.all([edges.link(0), edges.link(1)]);
    const reading = device.messages().next();
    reading.catch(() => undefined);
    const refuse = (index: 0 | 1) => {
      links[index].engine.close(ConnectCloseReasonId.CrossedConnections);
      links[index].flush();
    };
    refuse(0);
    await eventually(() => edges.told.includes("gone 0 AddressInUse"), "the refusal");
    await device.send("bob", "still here");
    assert.deepEqual(textsOf(links[1].messages), ["still here"]);
    refuse(1);
    await assert.rejects(soon(reading, "the end"), failure("AddressInUse"));
    await assert.rejects(device.send("bob", "x"), failure("AddressInUse"));
    assert.equal(edges.relay(0).links.length, 1, "a refused device does not come back");
  });

  test("ends every connection when it is closed", async (t) => {
    const edges = await Edges.start(t, 3);
    const device = await edges.device("alice/pc");
    const links = await Promise.all([edges.link(0), edges.link(1), edges.link(2)]);
    await device.close();
    for (const link of links) await link.until(() => link.ended, "the end");
    await assert.rejects(device.send("bob", "x"), failure("Closed"));
  });

  test("leaves a message at an edge where its recipient is held, and sends others there", async (t) => {
    const edges = await Edges.start(t, 2);
    const held: string[] = [];
    const device = await edges.device("alice/pc", { onHeld: (to) => held.push(to) });
    const [first, second] = await Promise.all([edges.link(0), edges.link(1)]);
    first.script.accept = false;
    first.onEvent = (event) => {
      if (event.type !== "open") return;
      first.engine.setAvailability(event.sessionId, event.identityURL.endsWith("slow") ? "notReady" : "ready");
    };
    const slow = device.send("slow", "later");
    await eventually(() => held.length > 0, "the hold");
    await device.send("bob", "now");
    const session = first.events.find((event) => event.type === "open" && event.identityURL.endsWith("slow"));
    first.engine.setAvailability(session?.type === "open" ? session.sessionId : 0, "ready");
    first.flush();
    await soon(slow, "the held message");
    assert.deepEqual(textsOf(first.messages), ["now", "later"]);
    assert.deepEqual(textsOf(second.messages), []);
  });

  test("does not withdraw a message that may have reached an edge, and withdraws one that has not been sent", async (t) => {
    const edges = await Edges.start(t, 2, { acknowledge: false });
    const device = await edges.device("alice/pc");
    const [first, second] = await Promise.all([edges.link(0), edges.link(1)]);
    const withdrawal = new AbortController();
    const { signal } = withdrawal;
    const sent = device.send("bob", "sent", { signal });
    await first.taken(1);
    second.script.accept = false;
    edges.close(0);
    await second.until(() => second.events.some(({ type }) => type === "open"), "the session at the second edge");
    const unsent = device.send("bob", "unsent", { signal });
    withdrawal.abort();
    await assert.rejects(unsent, failure("Aborted"));
    const open = second.events.find((event) => event.type === "open");
    second.engine.setAvailability(open?.type === "open" ? open.sessionId : 0, "ready");
    second.flush();
    second.complete(...(await second.taken(1)));
    await soon(sent, "the message");
    assert.deepEqual(textsOf(second.messages), ["sent"]);
  });

  test("repeats a message for another relay only where it may have arrived", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const [first, second] = await Promise.all([edges.link(0), edges.link(1)]);
    first.script.acknowledge = false;
    const uncertain = device.send("bob@far.example", "once");
    const begun = await first.taken(1);
    first.script.acknowledge = true;
    edges.close(0);
    await device.send("carol@far.example", "unsent till now");
    assert.deepEqual(textsOf(second.messages), ["unsent till now"]);
    edges.close(1);
    edges.open(0);
    await soon(uncertain, "the message");
    const again = edges.relay(0).links.at(-1)?.messages ?? [];
    assert.deepEqual(
      again.map(({ fields }) => fields.userRef),
      begun.map(({ fields }) => fields.userRef),
    );
  });

  test("repeats a message for another relay elsewhere if its edge is lost for good", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const [first, second] = await Promise.all([edges.link(0), edges.link(1)]);
    first.script.acknowledge = false;
    const uncertain = device.send("bob@far.example", "once");
    await first.taken(1);
    first.engine.close(ConnectCloseReasonId.CrossedConnections);
    first.flush();
    await soon(uncertain, "the message");
    assert.deepEqual(textsOf(second.messages), ["once"]);
  });
});

describe("a token of several edges", () => {
  test("is the edge's own, or else that of the device", async (t) => {
    const edges = await Edges.start(t, 3);
    const edge = [{ url: edges.url(0), token: "first" }, edges.url(1), { url: edges.url(2), token: () => "third" }];
    await edges.device("alice/pc", { edge, token: "shared" });
    await Promise.all([edges.link(0), edges.link(1), edges.link(2)]);
    const tokens = new Map(edges.opened.map((opened) => [opened.edge, opened.token]));
    assert.deepEqual(
      [...tokens],
      [0, 1, 2].map((index) => [edges.url(index), ["first", "shared", "third"][index]]),
    );
  });

  test("is not sent to an edge if its aud names another in the list", async (t) => {
    const edges = await Edges.start(t, 2);
    const other = edges.url(1).replace("127.0.0.1", "LOCALHOST");
    const token = tokenWith({ aud: ["127.0.0.1"], scope: "connect" });
    const device = await edges.device("alice/pc", { edge: [edges.url(0), other], token });
    await eventually(() => edges.told.includes("gone 1 InvalidOption"), "the refusal");
    await device.send("bob", "x");
    assert.deepEqual(
      edges.opened.map(({ edge }) => edge),
      [edges.url(0)],
    );
  });

  test("goes to each edge if its aud names each, or none of them", async (t) => {
    for (const aud of [["127.0.0.1", "localhost"], "production", undefined]) {
      const edges = await Edges.start(t, 2);
      const other = edges.url(1).replace("127.0.0.1", "localhost");
      const token = tokenWith({ aud });
      await edges.device("alice/pc", { edge: [edges.url(0), other], token });
      await eventually(() => edges.opened.length === 2, "both edges");
      assert.deepEqual(
        edges.opened.map((opened) => opened.token),
        [token, token],
      );
    }
  });
});

describe("a list of edges is refused", () => {
  const lists = {
    "without an edge": { edge: [], message: /empty list/ },
    "with five": { edge: [1, 2, 3, 4, 5].map((n) => `https://${n}.example`), message: /5 edges: name at most 4/ },
    "with one of them twice": { edge: ["https://a.example", "https://A.example:443/"], message: /listed twice/ },
    "with something else": { edge: ["https://a.example", "a.example"], message: /must be a URL such as/ },
    "with a relay": { edge: ["https://a.example", "https://b.example"], relay: "r", message: /one mailbox/ },
  };
  for (const [name, { message, ...options }] of Object.entries(lists)) {
    test(name, async (t) => {
      const edges = await Edges.start(t, 0);
      await assert.rejects(edges.device("alice/pc", options), { code: "InvalidOption", message });
    });
  }
});
