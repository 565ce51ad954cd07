/** A connection that is not read, because the application takes its time, on a clock that runs twenty times as fast. */
import "../support/fast-clock.ts";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { READ_AHEAD, RECEIVE_TIMEOUT } from "../../src/device/limits.ts";
import { ClientTransport, type LineEvents } from "../../src/device/transports/client-transport.ts";
import { guidFrom } from "../../src/encapsulation/index.ts";
import { LongLivedClient } from "../../src/encapsulation/longlived-client.ts";
import { ECHO_STRING, TIMERS } from "../../src/encapsulation/registry.ts";
import { sleep } from "../../src/lib/runtime/timeout.ts";
import { destination } from "../relay/support.ts";
import { eventually } from "../support/watch.ts";
import { deviceFor, ScriptedRelay, take } from "./support.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

const encoder = new TextEncoder();

describe("a slow application does not lose its connection", { concurrency: true }, () => {
  it("of an encapsulation, which waits as long as before once it is read again", async () => {
    const lines: LineEvents[] = [];
    const options = { serverHost: "edge.test", serverPort: 80, secure: false, relay: "edge.test" };
    const transport = new ClientTransport(
      "longlived",
      new LongLivedClient({ ...options, guid: guidFrom(new Uint8Array(24)) }),
      {
        edge: new URL("http://edge.test"),
        open(events) {
          lines.push(events);
          const nothing = () => undefined;
          return { queued: 0, write: nothing, pause: nothing, resume: nothing, close: nothing };
        },
        token: undefined,
        relay: "edge.test",
      },
    );
    const [get] = lines;
    get?.onConnected();
    get?.onData(encoder.encode("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n"));
    get?.onData(ECHO_STRING);
    await transport.established;
    get?.onData(new Uint8Array(READ_AHEAD));
    const lost = () => transport.lost?.reason;
    await sleep(2 * TIMERS.receive);
    assert.equal(lost(), undefined);
    const since = performance.now();
    assert.equal((await transport.read())?.length, READ_AHEAD);
    assert.equal(await transport.read(), undefined);
    assert.equal(lost(), "ReceiveTimeout");
    const waited = performance.now() - since;
    assert.ok(waited > TIMERS.receive / 2, `${waited} ms`);
  });

  it("to a relay", async (t) => {
    const relay = await ScriptedRelay.start(t);
    const lost: string[] = [];
    const device = await deviceFor(t, relay, "bob/pc", { onReconnect: ({ message }) => lost.push(message) });
    const link = await relay.link(0);
    const session = await link.open({ resourceURL: "message", ...destination("bob/pc") });
    const body = new Uint8Array(8 * 1024 * 1024);
    for (let n = 0; n < 6; n += 1) link.send(session, body, `${n}@alice/pc`);
    await eventually(() => link.socket.writableLength > 0, "a device that reads no more", PATIENCE);
    await sleep(2 * RECEIVE_TIMEOUT);
    assert.deepEqual(lost, []);
    assert.equal((await take(device, 6)).length, 6);
    assert.equal(relay.links.length, 1);
  });
});
