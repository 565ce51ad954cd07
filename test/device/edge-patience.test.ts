/** When a device goes from one of its edges to another, on a clock that runs twenty times as fast. */
import "../support/fast-clock.ts";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EDGE_PATIENCE, EDGE_RETURN_FIRST } from "../../src/device/limits.ts";
import { eventually, soon } from "../support/watch.ts";
import { Edges, textsOf } from "./edges-support.ts";
import type { Link } from "./support.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

/** Messages that an edge has got on all its connections. */
const gotBy = (edges: Edges, index: number) => textsOf(edges.relay(index).links.flatMap(({ messages }) => messages));

async function openSession(link: Link): Promise<number> {
  const open = await link.until(() => link.events.find((event) => event.type === "open"), "a session");
  return open.type === "open" ? open.sessionId : 0;
}

describe("messages that an edge does not acknowledge", () => {
  test("go to another edge after 10 s, and not before", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    await device.send("bob", "before");
    edges.relay(0).script.acknowledge = false;
    const since = performance.now();
    await soon(device.send("bob", "stuck"), "the message", PATIENCE);
    const waited = performance.now() - since;
    assert.ok(waited >= EDGE_PATIENCE, `${waited} ms`);
    assert.deepEqual(gotBy(edges, 0), ["before", "stuck"]);
    assert.deepEqual(gotBy(edges, 1), ["stuck"]);
    assert.deepEqual(edges.told, ["lost 0"]);
  });

  test("go to another edge if it does not even open a session", async (t) => {
    const edges = await Edges.start(t, 2);
    edges.relay(0).script.accept = false;
    const device = await edges.device("alice/pc");
    await soon(device.send("bob", "stuck"), "the message", PATIENCE);
    assert.deepEqual(gotBy(edges, 1), ["stuck"]);
  });

  test("go to another edge also while the connection to the first is being replaced, in vain", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    await edges.link(1);
    const { links } = edges.relay(0);
    // The new connection is never answered.
    edges.relay(0).onLink = ({ socket }) => void socket.pause();
    edges.network = "another";
    await edges.relay(0).watch.until(() => links.length > 1, "the new connection", PATIENCE);
    const since = performance.now();
    await soon(device.send("bob", "x"), "the message", PATIENCE);
    assert.deepEqual([gotBy(edges, 0), gotBy(edges, 1)], [[], ["x"]]);
    // The new connection would be given up after 35 s.
    assert.ok(performance.now() - since < 25_000, "the message waited for the new connection");
  });

  test("stay at the edge when its connection is replaced", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    await device.send("bob", "before");
    edges.network = "another";
    await edges.relay(0).watch.until(() => edges.relay(0).links.length > 1, "the new connection", PATIENCE);
    const [first] = edges.relay(0).links;
    while (first?.ended === false) await soon(device.send("bob", "meanwhile"), "the message", PATIENCE);
    await soon(device.send("bob", "after"), "the message", PATIENCE);
    assert.equal(gotBy(edges, 0).at(-1), "after");
    assert.deepEqual(gotBy(edges, 1), []);
  });

  test("stay where they are while no other edge is connected", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const link = await edges.link(0);
    edges.close(1);
    edges.relay(0).script.acknowledge = false;
    const sent = device.send("bob", "slow");
    const [message] = await link.taken(1);
    const since = performance.now();
    await eventually(() => performance.now() > since + 3 * EDGE_PATIENCE, "thrice the patience", PATIENCE);
    if (message !== undefined) link.complete(message);
    await soon(sent, "the message", PATIENCE);
    assert.equal(link.ended, false);
  });

  test("stay while the edge holds their recipient", async (t) => {
    const edges = await Edges.start(t, 2);
    edges.relay(0).script.accept = false;
    const device = await edges.device("alice/pc");
    const link = await edges.link(0);
    const sent = device.send("bob", "held");
    const session = await openSession(link);
    link.engine.setAvailability(session, "notReady");
    link.flush();
    const since = performance.now();
    await eventually(() => performance.now() > since + 3 * EDGE_PATIENCE, "thrice the patience", PATIENCE);
    link.engine.setAvailability(session, "ready");
    link.flush();
    await soon(sent, "the message", PATIENCE);
    assert.deepEqual(gotBy(edges, 1), []);
  });
});

describe("an edge that has come back", () => {
  test("is used again after 5 s, and after twice as long when it has failed twice", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const edge = () => device.edge;
    const pauses: number[] = [];
    for (let times = 0; times < 3; times += 1) {
      edges.close(0);
      await eventually(() => edge() === edges.url(1), "the second edge", PATIENCE);
      const connections = edges.relay(0).links.length;
      edges.open(0);
      await edges.relay(0).watch.until(
        () =>
          edges
            .relay(0)
            .links.slice(connections)
            .some(({ events }) => events.some(({ type }) => type === "attach")),
        "the connection",
        PATIENCE,
      );
      const since = performance.now();
      await eventually(() => edge() === edges.url(0), "the first edge", PATIENCE);
      pauses.push(performance.now() - since);
    }
    for (const [times, pause] of pauses.entries()) {
      // The attach is seen a little before the device counts.
      assert.ok(pause > EDGE_RETURN_FIRST * 2 ** times - 500, `${pauses}`);
    }
  });

  test("gets messages only when all in flight to the other are acknowledged, so none is sent twice", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    const second = await edges.link(1);
    edges.close(0);
    await eventually(() => device.edge === edges.url(1), "the second edge", PATIENCE);
    edges.relay(1).script.acknowledge = false;
    edges.open(0);
    const sent: Promise<unknown>[] = [];
    // Each is acknowledged a little later than the next is sent, so that something is always in flight.
    let acknowledged = 0;
    while (device.edge !== edges.url(0)) {
      const arrived = second.messages.length;
      sent.push(device.send("bob", `${sent.length}`));
      await new Promise((resolve) => setTimeout(resolve, 200));
      second.complete(...second.messages.slice(acknowledged, arrived));
      acknowledged = arrived;
      assert.ok(sent.length < 1000, "the device does not return");
    }
    second.complete(...second.messages.slice(acknowledged));
    await soon(Promise.all(sent), "all messages", PATIENCE);
    const got = [...gotBy(edges, 1), ...gotBy(edges, 0)];
    assert.deepEqual(
      got,
      sent.map((_, n) => `${n}`),
    );
  });

  test("is used right away while no other is connected", async (t) => {
    const edges = await Edges.start(t, 2);
    const device = await edges.device("alice/pc");
    for (const index of [0, 1]) edges.close(index);
    await eventually(() => device.edge === undefined, "the loss of both", PATIENCE);
    const sent = device.send("bob", "waits");
    edges.open(0);
    await soon(sent, "the message", PATIENCE);
    assert.deepEqual(gotBy(edges, 0), ["waits"]);
  });
});
