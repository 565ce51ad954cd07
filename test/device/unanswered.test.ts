/** A server that accepts connections and never answers. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Device, type DeviceError, type TransportName } from "../../src/device/index.ts";
import { listen } from "../support/sockets.ts";
import { eventually, soon } from "../support/watch.ts";

/** The error of a device that connects to a silent server, after this much time. */
async function silence(t: TestContext, transport: TransportName, milliseconds: number): Promise<DeviceError> {
  const heard = Promise.withResolvers<void>();
  const server = await listen((socket) => {
    socket.once("data", () => heard.resolve());
    socket.on("end", () => socket.end());
  });
  t.after(() => server.close());
  const at = `127.0.0.1:${server.port}`;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const way = transport === "tcp" ? { relay: at } : { edge: `http://${at}` };
  const connecting = Device.connect({ address: "alice/pc", transport, ...way }).then(
    () => assert.fail("connected"),
    (error: DeviceError) => error,
  );
  await heard.promise;
  t.mock.timers.tick(milliseconds);
  t.mock.timers.reset();
  const error = await soon(connecting, "the error");
  // What still closes uses this test's timers, which must not overlap with the next test.
  await eventually(() => server.connections.size === 0, "the end of the connection");
  return error;
}

for (const transport of ["tcp", "websocket"] as const) {
  test(`${transport}: an unanswered connection is reported as such, not as closed by the device`, async (t) => {
    const { code, retryable, message } = await silence(t, transport, 35_000);
    assert.deepEqual([code, retryable], ["ConnectFailed", true]);
    assert.match(message, /connected, but did not answer by \w+ within 35 s; check that/);
  });
}
