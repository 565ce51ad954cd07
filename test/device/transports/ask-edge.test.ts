/** Requests to an edge outside a transport, and who may answer in its place. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { askEdge } from "../../../src/device/transports/ask-edge.ts";
import { listen } from "../../support/sockets.ts";

test("an answer with 101, which nobody has asked for, ends the request", async (t) => {
  const server = await listen((socket) => {
    socket.once("data", () => socket.write("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nnoise"));
  });
  t.after(() => server.close());
  const edge = new URL(`http://127.0.0.1:${server.port}`);
  await assert.rejects(askEdge({ edge, path: "/health", expects: () => true }), { code: "NotAnEdge" });
});
