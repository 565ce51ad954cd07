/** Connects of a device that arrive late, or must not be said at all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { soon } from "../support/watch.ts";
import { Edges } from "./edges-support.ts";
import { failure } from "./support.ts";

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
  await soon(device.send("bob", "still here"), "the message");
});

test("a device that is closed while it begins to connect makes no connection", async (t) => {
  const edges = await Edges.start(t, 1);
  const closing = new AbortController();
  const connecting = edges.device("alice/pc", { signal: closing.signal });
  closing.abort();
  await assert.rejects(connecting, failure("Closed"));
  assert.deepEqual(edges.opened, []);
});
