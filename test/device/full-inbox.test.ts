/** A device whose application is behind: as much waits as may, and the connection is not read. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { DeviceError } from "../../src/device/index.ts";
import { INBOX_OCTETS } from "../../src/device/limits.ts";
import { destination } from "../relay/support.ts";
import { eventually, pattern, soon } from "../support/watch.ts";
import { deviceFor, type Link, ScriptedRelay, take } from "./support.ts";

const BOB = { resourceURL: "message", ...destination("bob/pc") };
const MIB = 1024 * 1024;
/** More than may wait, with what the buffers of the connection hold. */
const COUNT = INBOX_OCTETS / MIB + 60;

/** Sends messages of 1 MiB while the socket takes them. Returns how many it has. */
async function flood(link: Link, count = COUNT): Promise<() => number> {
  const session = await link.open(BOB);
  let made = 0;
  const pump = () => {
    for (; made < count && link.socket.writableLength < MIB; made += 1) {
      link.send(session, pattern(MIB, made), `${link.socket.remotePort} ${made}@alice/laptop`);
    }
  };
  link.socket.on("drain", pump);
  pump();
  return () => made;
}

/** Waits until a number has not changed for a while. */
async function settled(look: () => number): Promise<number> {
  for (let [last, quiet] = [-1, 0]; ; last = look()) {
    quiet = last === look() ? quiet + 1 : 0;
    if (quiet === 10) return last;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

async function full(t: TestContext) {
  const relay = await ScriptedRelay.start(t);
  const lost: DeviceError[] = [];
  const device = await deviceFor(t, relay, "bob/pc", { onReconnect: (error) => void lost.push(error) });
  const link = await relay.link(0);
  const made = await flood(link);
  await eventually(() => made() * MIB > INBOX_OCTETS, "as much as may wait");
  assert.ok((await settled(made)) < COUNT, "everything was read");
  return { relay, device, link, lost };
}

test("it notices that the connection is broken, and connects again", async (t) => {
  const { relay, device, link, lost } = await full(t);
  link.socket.resetAndDestroy();
  await eventually(() => lost.length > 0, "the loss");
  const next = await relay.link(1);
  const sent = device.send("alice/pc", "meanwhile");
  await take(device, INBOX_OCTETS / MIB);
  await soon(sent, "the message");
  assert.equal(next.messages.at(-1)?.body.toString(), "meanwhile");
});

test("it reads little of a new connection before the relay has admitted it", async (t) => {
  const { relay, device, link } = await full(t);
  relay.script.attach = false;
  link.socket.resetAndDestroy();
  device.send("alice/pc", "meanwhile").catch(() => undefined);
  const next = await relay.link(1);
  const made = await flood(next);
  assert.ok((await settled(made)) < 10, `${made()} MiB were read`);
});
