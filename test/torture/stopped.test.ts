/** A device that is stopped in the middle of a stream holds up nothing else of the device that streams to it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it, type TestContext } from "node:test";
import { Device, type DeviceStream, formatFingerprint, MemoryKeyring, publicKeyOf } from "../../src/device/index.ts";
import { folder, start } from "../cli/support.ts";
import { FULL } from "../support/long-form.ts";
import { eventually } from "../support/watch.ts";
import { service } from "./forwarded.ts";
import { ENCAPSULATIONS, Mortal, tokenFor } from "./support.ts";
import { Tape } from "./tape.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** What is streamed to the device that is stopped, and to the other one meanwhile. */
const [STOPPED, OTHER] = FULL ? [256 * MIB, 256 * MIB] : [16 * MIB, 8 * MIB];

/** Writes to a stream until its end. Returns what the service answers: the digest of what has come. */
async function pour(stream: DeviceStream, octets: number, progress: (written: number) => void): Promise<string> {
  const writer = stream.writable.getWriter();
  const writing = (async () => {
    const tape = new Tape(1);
    for (let at = 0; at < octets; at += 64 * KIB) {
      await writer.write(tape.cut(at, 64 * KIB));
      progress(at + 64 * KIB);
    }
    await writer.close();
  })();
  const answer: Uint8Array[] = [];
  for await (const piece of stream.readable) answer.push(piece);
  await writing;
  return Buffer.concat(answer).toString();
}

function digestOf(octets: number): string {
  const [tape, hash] = [new Tape(1), createHash("sha256")];
  for (let at = 0; at < octets; at += 64 * KIB) hash.update(tape.cut(at, 64 * KIB));
  return hash.digest("hex");
}

/** Exposes a service that answers with the digest of what has come. */
async function expose(t: TestContext, edge: Mortal, name: string, trust: string) {
  const port = await service(t, (socket) => {
    const hash = createHash("sha256");
    socket.on("error", () => undefined);
    socket.on("data", (octets) => hash.update(octets));
    socket.on("end", () => socket.end(hash.digest("hex")));
  });
  const env = { XDG_CONFIG_HOME: await folder(t), GROOVEWAY_TOKEN: await tokenFor(name) };
  const running = start(
    t,
    ["expose", "--edge", edge.url, "--as", name, "--trust", trust, `digest=127.0.0.1:${port}`],
    undefined,
    env,
  );
  await running.line(/:digest is /);
  return running.process;
}

describe("a device that is stopped in the middle of a stream", () => {
  for (const transport of FULL ? ENCAPSULATIONS : (["websocket", "polling"] as const)) {
    it(`holds up nothing else that is sent by ${transport}, and gets the rest when it goes on`, {
      timeout: 1_200_000,
    }, async (t) => {
      const edge = await Mortal.start();
      t.after(() => edge.close());
      const keyring = new MemoryKeyring();
      const trust = `alice/pc=${formatFingerprint(publicKeyOf(keyring.secretKey))}`;
      const [bob] = await Promise.all([expose(t, edge, "bob/pc", trust), expose(t, edge, "carol/pc", trust)]);
      const token = await tokenFor("alice/pc");
      const own = { edge: edge.url, address: "alice/pc", transport, keyring, token } as const;
      const alice = await Device.connect({ ...own, receive: "streams" });
      t.after(() => alice.close());
      let written = 0;
      const toBob = pour(await alice.dial("bob/pc", "digest"), STOPPED, (octets) => {
        written = octets;
      });
      await eventually(() => written > STOPPED / 8, "it is in the middle");
      bob.kill("SIGSTOP");
      const toCarol = await alice.dial("carol/pc", "digest");
      assert.equal(await pour(toCarol, OTHER, () => undefined), digestOf(OTHER));
      assert.ok(written < STOPPED, "it was stopped in time");
      bob.kill("SIGCONT");
      assert.equal(await toBob, digestOf(STOPPED));
    });
  }
});
