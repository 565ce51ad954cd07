/**
 * What becomes of a connection whose replacement is on its way, or of that replacement, on a clock that runs twenty times
 * as fast.
 */
import "../support/fast-clock.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { CONNECT_TIMEOUT, SURROUNDINGS_INTERVAL } from "../../src/device/limits.ts";
import { CAPABILITIES, type Transport } from "../../src/device/transports/transport.ts";
import { ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { eventually, soon } from "../support/watch.ts";
import { Edges, textsOf } from "./edges-support.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

const never = new Promise<never>(() => undefined);

test("a connection that its own late Connect has replaced is made again", async (t) => {
  const edges = await Edges.start(t, 1);
  const device = await edges.device("alice/pc");
  const relay = edges.relay(0);
  relay.onLink = (link) => {
    relay.onLink = () => undefined;
    // Nothing answers this Connect, which arrives later.
    link.onEvent = ({ type }) => void (type === "connect" && link.socket.destroy());
  };
  (await relay.link(0)).socket.destroy();
  const next = await relay.link(2);
  next.engine.close(ConnectCloseReasonId.CrossedConnections);
  next.flush();
  await relay.link(3);
  await soon(device.send("bob", "still here"), "the message", PATIENCE);
});

test("a change of network that is noticed while connecting counts afterwards", async (t) => {
  const edges = await Edges.start(t, 1);
  await edges.device("alice/pc");
  const relay = edges.relay(0);
  relay.onLink = ({ socket }) => void socket.pause();
  (await relay.link(0)).socket.destroy();
  const begun = await relay.watch.until(() => relay.links[1], "the new connection", PATIENCE);
  relay.onLink = () => undefined;
  edges.network = "another";
  const since = performance.now();
  await eventually(() => performance.now() > since + 2 * SURROUNDINGS_INTERVAL, "the look", PATIENCE);
  begun.socket.resume();
  await relay.link(1);
  await relay.link(2);
});

test("the search for a better way ends with the connection in use", async (t) => {
  const edges = await Edges.start(t, 1);
  const { port } = new URL(edges.url(0));
  const way = { host: "127.0.0.1", port: Number(port), secure: false, proxies: [] } as const;
  edges.ways = [
    { ...way, transport: "websocket" },
    { ...way, transport: "tcp" },
  ];
  let [searches, open] = [0, 0];
  edges.onOpen = ({ transport }) => {
    if (transport !== "websocket") return undefined;
    searches += 1;
    open += 1;
    return silent(() => {
      open -= 1;
    });
  };
  const openAtLoss = Promise.withResolvers<number>();
  await edges.device("alice/pc", { transport: "auto", onReconnect: () => openAtLoss.resolve(open) });
  const link = await edges.link(0);
  const before = searches;
  await eventually(() => searches > before, "the search", PATIENCE);
  link.socket.destroy();
  assert.equal(await soon(openAtLoss.promise, "the loss", PATIENCE), 0);
});

test("messages go to another edge when a connection is lost that is being replaced", async (t) => {
  const edges = await Edges.start(t, 2);
  const device = await edges.device("alice/pc");
  await edges.link(1);
  const relay = edges.relay(0);
  relay.onLink = ({ socket }) => void socket.pause();
  edges.network = "another";
  await relay.watch.until(() => relay.links.length > 1, "the new connection", PATIENCE);
  const since = performance.now();
  (await relay.link(0)).socket.destroy();
  await eventually(() => device.edge === edges.url(1), "the other edge", PATIENCE);
  assert.ok(performance.now() - since < CONNECT_TIMEOUT / 2, "the new connection was waited for");
  await soon(device.send("bob", "x"), "the message", PATIENCE);
  assert.deepEqual(textsOf(edges.relay(1).links.flatMap(({ messages }) => messages)), ["x"]);
});

/** A transport that is opened and never answers. */
function silent(onClose: () => void): Transport {
  const over = Promise.withResolvers<void>();
  return {
    name: "websocket",
    capabilities: CAPABILITIES.websocket,
    established: never,
    answered: never,
    ended: over.promise,
    heardAt: 0,
    remaining: Number.POSITIVE_INFINITY,
    lost: undefined,
    read: () => over.promise.then(() => undefined),
    write: () => Promise.resolve(),
    close: () => {
      onClose();
      over.resolve();
    },
  };
}
