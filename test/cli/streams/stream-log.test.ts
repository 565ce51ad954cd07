/** What a command of streams says while it runs. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { StreamLog, statusText } from "../../../src/cli/streams/stream-log.ts";
import { type DeviceStream, StreamError, type StreamReason } from "../../../src/device/index.ts";

/** A terminal that remembers what was written. */
function terminal(columns: number) {
  let text = "";
  const write = (piece: string) => {
    text += piece;
    return true;
  };
  return { stderr: { isTTY: true, columns, write } as unknown as NodeJS.WriteStream, written: () => text };
}

/** What is printed in lines meanwhile. */
function printed(t: TestContext): string[] {
  const lines: string[] = [];
  for (const name of ["log", "error"] as const) t.mock.method(console, name, (line: string) => lines.push(line));
  return lines;
}

const device = { isConnected: true, transport: "websocket" };

describe("the status line", () => {
  it("shows state, transport, connections and rates", () => {
    const before = { streams: 0, sent: 1024, received: 0, at: 1000 };
    const now = { streams: 3, sent: 5 * 1024, received: 100, at: 3000 };
    const text = statusText(device, now, before);
    assert.equal(text, "connected by websocket, 3 connections, 2.0 KiB/s sent, 50 B/s received");
    assert.match(statusText({ ...device, isConnected: false }, now, before), /^not connected, trying again, 3 /);
  });

  it("is one line in a terminal, taken away while another is printed and at the end", (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const lines = printed(t);
    const { stderr, written } = terminal(30);
    const log = new StreamLog({ stderr });
    log.watch(device);
    const first = "\r\x1b[Kconnected by websocket, 0 ...";
    assert.equal(written(), first);
    t.mock.timers.tick(1000);
    assert.equal(written(), first, "it is not drawn again without a change");
    log.tell("refused somebody");
    assert.deepEqual(lines, ["grooveway: refused somebody"]);
    assert.equal(written(), `${first}\r\x1b[K${first}`);
    log.end();
    t.mock.timers.tick(5000);
    assert.equal(written(), `${first}\r\x1b[K${first}\r\x1b[K`);
  });

  it("is not written where nobody sees it", () => {
    const { stderr, written } = terminal(80);
    for (const log of [
      new StreamLog({ stderr, json: true }),
      new StreamLog({ stderr: Object.assign(stderr, { isTTY: false }) }),
    ]) {
      log.watch(device);
      log.end();
    }
    assert.equal(written(), "");
  });
});

it("--json has an object with time, event and message on each line", (t) => {
  const lines = printed(t);
  const log = new StreamLog({ json: true });
  log.announce("exposed", "office/desk:ssh is 127.0.0.1:22", { service: "office/desk:ssh" });
  log.tell("the line\nof a stranger \x1b[31m", "refused");
  log.connected(device, false);
  assert.deepEqual(
    lines.map((line) => {
      const { time, ...others } = JSON.parse(line) as Record<string, unknown>;
      assert.match(String(time), /^\d{4}-.*Z$/);
      return others;
    }),
    [
      { event: "exposed", message: "office/desk:ssh is 127.0.0.1:22", service: "office/desk:ssh" },
      { event: "refused", message: "the line\nof a stranger \x1b[31m" },
      { event: "connected", message: "connected", transport: "websocket" },
    ],
  );
  assert.ok(lines.every((line) => !/\p{Cc}/u.test(line)));
});

describe("the reason of a reset", () => {
  const reset = (reason: StreamReason) =>
    ({ closed: Promise.reject(new StreamError(reason, "office/desk")) }) as unknown as DeviceStream;

  it("is printed once for the connections that end together", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const lines = printed(t);
    const log = new StreamLog();
    const both = () => Promise.all([1, 2].map(() => log.tellReset("office/desk:ssh", reset("ResumeTimeout"))));
    await both();
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /^grooveway: office\/desk:ssh: connections are reset: .*\[ResumeTimeout\]$/);
    await log.tellReset("office/desk:db", reset("ResumeTimeout"));
    assert.equal(lines.length, 2);
    t.mock.timers.tick(1000);
    await both();
    assert.equal(lines.length, 3);
  });

  it("is not printed if a program or the command ends the connection, or if it is ordinary", async (t) => {
    const lines = printed(t);
    const log = new StreamLog();
    await log.tellReset("ssh", reset("ConnectionReset"));
    await log.tellReset("ssh", reset("Closed"), ["Closed"]);
    await log.tellReset("ssh", { closed: Promise.resolve() } as DeviceStream);
    assert.deepEqual(lines, []);
    await log.tellReset("ssh", reset("Closed"));
    assert.equal(lines.length, 1);
    log.end();
    await log.tellReset("ssh", reset("Closed"));
    assert.equal(lines.length, 1);
  });
});
