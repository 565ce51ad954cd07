/**
 * What becomes of a connection whose replacement is on its way, or of that replacement, on a clock that runs twenty times
 * as fast.
 */
import "../support/fast-clock.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceError } from "../../src/device/device-error.ts";
import type { DeviceOptions } from "../../src/device/index.ts";
import { CONNECT_TIMEOUT, DRAIN_PATIENCE, SURROUNDINGS_INTERVAL } from "../../src/device/limits.ts";
import { CAPABILITIES, type Transport } from "../../src/device/transports/transport.ts";
import { eventually, soon } from "../support/watch.ts";
import { Edges, textsOf } from "./edges-support.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

const never = new Promise<never>(() => undefined);

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
  let isCut = false;
  // It is also told of a first connection that takes long.
  const onReconnect = () => void (isCut && openAtLoss.resolve(open));
  const { link } = await connected(edges, { transport: "auto", onReconnect });
  const before = searches;
  await eventually(() => searches > before, "the search", PATIENCE);
  isCut = true;
  link.socket.destroy();
  assert.equal(await soon(openAtLoss.promise, "the loss", PATIENCE), 0);
});

test("a search that is refused while its way waits for messages in flight does not hold the device", async (t) => {
  const edges = await Edges.start(t, 1);
  const { port } = new URL(edges.url(0));
  const way = { host: "127.0.0.1", secure: false, proxies: [] } as const;
  edges.ways = [
    { ...way, port: 1, transport: "websocket" },
    { ...way, port: 2, transport: "longlived" },
    { ...way, port: Number(port), transport: "tcp" },
  ];
  const failed = (code: DeviceError["code"]) => Promise.reject(new DeviceError(code, code, { advice: "retry" }));
  let isSearching = false;
  const refused = Promise.withResolvers<void>();
  edges.onOpen = ({ transport }) => {
    if (transport === "tcp") return undefined;
    if (!isSearching) return silent(() => undefined, failed("ConnectFailed"));
    if (transport === "websocket") return silent(() => undefined, Promise.resolve());
    refused.resolve();
    return silent(() => undefined, failed("Refused"));
  };
  const { device, link } = await connected(edges, { transport: "auto" });
  link.script.acknowledge = false;
  const sent = device.send("bob", "in flight");
  await link.taken(1);
  isSearching = true;
  await soon(refused.promise, "the refusal", PATIENCE);
  isSearching = false;
  const since = performance.now();
  await eventually(() => performance.now() > since + 2 * DRAIN_PATIENCE, "the end of the wait", PATIENCE);
  link.script.acknowledge = true;
  link.socket.destroy();
  await soon(sent, "the message", PATIENCE);
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

/** Connects by the best way, more than once where the fast clock leaves a busy machine too little time for it. */
async function connected(edges: Edges, options: Partial<DeviceOptions>) {
  for (let tries = 1; ; tries += 1) {
    try {
      const device = await edges.device("alice/pc", options);
      const link = edges.relay(0).links.at(-1);
      assert.ok(link !== undefined);
      return { device, link };
    } catch (error) {
      if (tries === 20 || (error as { code?: unknown }).code !== "ConnectFailed") throw error;
    }
  }
}

/** A transport that is opened and never answers. */
function silent(onClose: () => void, established: Promise<void> = never): Transport {
  const over = Promise.withResolvers<void>();
  established.catch(() => undefined);
  return {
    name: "websocket",
    capabilities: CAPABILITIES.websocket,
    established,
    answered: established,
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
