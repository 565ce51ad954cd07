/** Successive connections on which large messages stall. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { DeviceError } from "../../../src/device/device-error.ts";
import type { Device } from "../../../src/device/index.ts";
import { type EndedConnection, PathMtuWatch } from "../../../src/device/transports/path-mtu.ts";
import { soon } from "../../support/watch.ts";
import { deviceFor, type Link, ScriptedRelay } from "../support.ts";

const CAUSE = new DeviceError("ConnectFailed", "the connection was lost");
const REFUSAL = new DeviceError("TokenRefused", "the token has expired");
const STUCK: EndedConnection = { stuck: 100_000, arrived: 0, still: 60_000 };
const SMALL: EndedConnection = { ...STUCK, stuck: 900 };

/** The reported ends of successive connections. */
function codes(...ends: readonly (EndedConnection & { readonly why?: DeviceError })[]): (string | undefined)[] {
  const watch = new PathMtuWatch();
  return ends.map((end) => watch.ended(end, end.why ?? CAUSE)?.code);
}

describe("a path MTU black hole", () => {
  for (const [name, ends, expected] of [
    ["is reported by the second stalled connection", [STUCK, STUCK, STUCK], [undefined, "Found", "Found"]],
    ["is not reported when small messages wait", [SMALL, SMALL], [undefined, undefined]],
    [
      "is not reported when nothing waits",
      [
        { ...STUCK, stuck: 0 },
        { ...STUCK, stuck: 0 },
      ],
      [undefined, undefined],
    ],
    ["is not reported while messages move", [STUCK, { ...STUCK, still: 5_000 }], [undefined, undefined]],
    ["is not reported when a large message has arrived", [STUCK, { ...STUCK, arrived: 5_000 }], [undefined, undefined]],
    ["is reported even if a small message has arrived", [STUCK, { ...STUCK, arrived: 100 }], [undefined, "Found"]],
    [
      "is reported even if a connection in between was lost otherwise",
      [STUCK, { ...STUCK, stuck: 0 }, STUCK],
      [undefined, undefined, "Found"],
    ],
    [
      "is not reported when the edge gives a reason for ending a connection",
      [STUCK, { ...STUCK, why: REFUSAL }],
      [undefined, undefined],
    ],
  ] as const) {
    it(name, () => {
      assert.deepEqual(
        codes(...ends),
        expected.map((code) => code && "PathMtuBlackHole"),
      );
    });
  }

  it("is reported with its cure, and the device continues", () => {
    const watch = new PathMtuWatch();
    watch.ended(STUCK, CAUSE);
    const error = watch.ended(STUCK, CAUSE);
    assert.deepEqual([error?.retryable, error?.cause], [true, CAUSE]);
    assert.match(error?.message ?? "", /on 2 connections in a row .* one of 100000 bytes did not; lower the MTU/);
  });
});

describe("a device whose large message stalls", () => {
  /** Sends a message on successive connections, each lost after a minute; returns the reported codes. */
  async function told(
    t: TestContext,
    octets: number,
    before: (link: Link, device: Device) => Promise<void>,
  ): Promise<string[]> {
    let later = 0;
    const now = performance.now.bind(performance);
    t.mock.method(performance, "now", () => now() + later);
    const relay = await ScriptedRelay.start(t, { acknowledge: false });
    const codes: string[] = [];
    const device = await deviceFor(t, relay, "alice/pc", { onReconnect: ({ code }) => codes.push(code) });
    const sending = device.send("bob", new Uint8Array(octets));
    sending.catch(() => undefined);
    for (let n = 0; n < 2; n += 1) {
      const link = await relay.link(n);
      await before(link, device);
      later += 60_000;
      link.socket.destroy();
      await soon(relay.link(n + 1), `connection ${n + 1}`);
    }
    return codes;
  }

  const taken = async (link: Link) => {
    await link.taken(1);
  };

  it("reports a black hole on its second connection", async (t) => {
    assert.deepEqual(await told(t, 5_000, taken), ["ConnectFailed", "PathMtuBlackHole"]);
  });

  it("reports none when its message is small", async (t) => {
    assert.deepEqual(await told(t, 500, taken), ["ConnectFailed", "ConnectFailed"]);
  });

  it("reports none when the relay has suspended the session", async (t) => {
    const suspended = async (link: Link) => {
      const session = await link.until(
        () => link.events.flatMap((event) => (event.type === "data" ? [event.sessionId] : []))[0],
        "the first octets",
      );
      link.engine.setAvailability(session, "notReady");
      link.flush();
      // What was on its way still arrives; then nothing does.
      let quiet = 0;
      for (let before = -1; quiet < 3; quiet = before === link.socket.bytesRead ? quiet + 1 : 0) {
        before = link.socket.bytesRead;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.equal(link.messages.length, 0);
    };
    assert.deepEqual(await told(t, 8 * 1024 * 1024, suspended), ["ConnectFailed", "ConnectFailed"]);
  });
});
