/** Refusals over plain HTTP, which anyone on the way can write: they end a device only when they persist. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { DeviceError } from "../../src/device/device-error.ts";
import { Device } from "../../src/device/index.ts";
import { REFUSED_IN_CLEAR } from "../../src/device/limits.ts";
import { isForgeable, Refusals } from "../../src/device/reconnect.ts";
import { soon } from "../support/watch.ts";

const refused = () => new DeviceError("TokenRefused", "the token has been revoked [TokenRevoked]");

test("only plain HTTP that leaves the machine can be forged", () => {
  for (const [edge, forgeable] of [
    ["http://edge.example.com/groove", true],
    ["http://192.168.1.7:8787", true],
    ["http://127.example.com", true],
    ["http://127.0.0.1:8787", false],
    ["http://localhost:8787", false],
    ["http://[::1]:8787", false],
    ["https://edge.example.com", false],
    ["nonsense", false],
    [undefined, false],
  ] as const) {
    assert.equal(isForgeable(edge), forgeable, edge);
  }
});

test("a refusal over plain HTTP is believed when it has persisted, and not when the edge has admitted the device since", () => {
  const refusals = new Refusals(true);
  assert.match(
    refusals.judge(refused(), 0).message,
    /\[TokenRevoked\]; over plain HTTP .* after 5 minutes: use https$/,
  );
  assert.ok(refusals.judge(refused(), REFUSED_IN_CLEAR - 1).retryable);
  const believed = refused();
  assert.equal(refusals.judge(believed, REFUSED_IN_CLEAR), believed);
  refusals.admitted();
  assert.ok(refusals.judge(refused(), REFUSED_IN_CLEAR).retryable);
});

test("other errors, and refusals over https, are believed at once", () => {
  const inUse = new DeviceError("AddressInUse", "another device connected");
  assert.equal(new Refusals(true).judge(inUse, 0), inUse);
  const believed = refused();
  assert.equal(new Refusals(false).judge(believed, 0), believed);
});

test("a connected device survives a proxy that forges refusals for a while", { timeout: 300_000 }, async (t) => {
  // Linux and macOS connect to this machine by 0.0.0.0, which does not look like it.
  const edge = await startLocalEdge({ port: 0, relayAllow: [], relayName: "0.0.0.0", dev: "1" });
  t.after(() => edge.close());
  let forging = false;
  const sockets = new Set<Socket>();
  const proxy = createServer((device) => {
    sockets.add(device.on("error", () => undefined));
    if (forging) {
      device.end("HTTP/1.1 403 Forbidden\r\nGrooveway-Reason: TokenRevoked\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    const behind = connect(Number(new URL(edge.url).port), "127.0.0.1");
    sockets.add(behind.on("error", () => undefined));
    device.pipe(behind).pipe(device);
  }).listen(0, "127.0.0.1");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  t.after(() => {
    proxy.close();
    cut();
  });
  await new Promise((resolve) => proxy.once("listening", resolve));
  const { port } = proxy.address() as { port: number };
  const told = Promise.withResolvers<DeviceError>();
  const device = await Device.connect({
    edge: `http://0.0.0.0:${port}`,
    address: "alice/pc",
    transport: "websocket",
    onReconnect: (error) => error.code === "TokenRefused" && told.resolve(error),
  });
  t.after(() => device.close());
  forging = true;
  cut();
  assert.match((await soon(told.promise, "the refusal")).message, /revoked.*; over plain HTTP/);
  forging = false;
  await soon(device.send("bob", "still here"), "a message after that");
});
