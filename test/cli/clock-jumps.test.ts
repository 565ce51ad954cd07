/** The wall clock of an edge jumps a day ahead and back: nothing accepted is lost, and what is refused has its name. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { Device, DeviceError } from "../../src/device/index.ts";
import { ed25519, type Issuer } from "../edge/issuer.ts";
import { eventually } from "../edge/support.ts";
import { shiftedClock } from "../support/shifted-clock.ts";
import { folder, type Running, start } from "./support.ts";

const DAY = 24 * 3600;

/** A token of a device. @param lifetime seconds */
function token(issuer: Issuer, address: string, lifetime = 30 * DAY): Promise<string> {
  const exp = Math.floor(Date.now() / 1000) + lifetime;
  return issuer.issue({ address, sub: address, scope: "connect receive send:*", exp });
}

async function ready(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/ready`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
  return answer?.status === 200;
}

/** Seconds of the edge's clock since 1970. */
async function clockOf(url: string): Promise<number> {
  return Date.parse((await fetch(`${url}/health`)).headers.get("date") ?? "") / 1000;
}

it("an edge whose clock jumps a day ahead and back keeps its devices, their order, and what waits", async (t: TestContext) => {
  const clock = shiftedClock();
  if (clock === undefined) return t.skip("SKIPPED: a shifted clock needs Linux and a C compiler");
  const issuer = await ed25519();
  const place = await folder(t);
  const [keys, state] = [join(place, "keys.json"), join(place, "state")];
  await writeFile(keys, JSON.stringify({ keys: [issuer.jwk] }));
  const begin = async (port: string): Promise<{ edge: Running; url: string }> => {
    const edge = start(t, ["edge", "--port", port, "--json", "--keys", keys, "--state", state], undefined, clock.env);
    const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
    return { edge, url };
  };
  let { edge, url } = await begin("0");
  const port = new URL(url).port;
  const open = async (address: string, transport: "websocket" | "longlived" | "polling") =>
    Device.connect({ edge: url, address, transport, token: await token(issuer, address) });
  const alice = await open("alice/pc", "websocket");
  const eve = await open("eve/pc", "polling");
  const dora = await open("dora/pc", "longlived");
  t.after(() => Promise.all([alice.close(), eve.close(), dora.close()]));
  const sent: string[] = [];
  const send = async (text: string) => {
    await alice.send("bob/pc", text);
    sent.push(text);
  };
  /** Connected devices have a message within seconds. */
  const reaches = async (text: string) => {
    for (const device of [eve, dora]) {
      await alice.send(device.address, text);
      for await (const { body } of device.messages()) {
        assert.equal(new TextDecoder().decode(body), text);
        break;
      }
    }
  };
  await send("before");
  await reaches("before");
  for (const [seconds, word] of [
    [DAY, "a day ahead"],
    [0, "back"],
    [-DAY, "a day behind"],
    [0, "right again"],
  ] as const) {
    clock.shift(seconds);
    const off = (await clockOf(url)) - seconds - Date.now() / 1000;
    assert(Math.abs(off) < 60, `the edge's clock is shifted, but by ${off} s too much`);
    await eventually(`it is ready, ${word}`, () => ready(url));
    await send(word);
    await reaches(word);
    if (seconds > 0) {
      const short = await token(issuer, "carol/pc", 3600);
      await assert.rejects(
        Device.connect({ edge: url, address: "carol/pc", transport: "websocket", token: short }),
        (error: unknown) => error instanceof DeviceError && /\[?TokenExpired\]?/.test(error.message),
      );
    }
  }
  // A machine whose clock was wrong at its start.
  for (const seconds of [-DAY, 0]) {
    edge.process.kill("SIGKILL");
    await edge.finished;
    clock.shift(seconds);
    ({ edge, url } = await begin(port));
    await send(`started ${seconds} s off`);
    await reaches(`started ${seconds} s off`);
  }
  const bob = await open("bob/pc", "websocket");
  t.after(() => bob.close());
  const came: string[] = [];
  for await (const { body } of bob.messages()) {
    came.push(new TextDecoder().decode(body));
    if (came.length === sent.length) break;
  }
  assert.deepEqual(came, sent, "in the order in which they were sent, once each");
});
