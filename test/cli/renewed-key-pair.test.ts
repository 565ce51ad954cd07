/** A new certificate is served without a restart of the command, and half a pair never. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import type { KeyPair } from "../../src/cli/local-edge/worker-runtime.ts";
import { renewedKeyPair } from "../../src/cli/renewed-key-pair.ts";
import { Device } from "../../src/device/index.ts";
import { authority, type Certificates } from "../support/certificates.ts";
import { eventually } from "../support/watch.ts";
import { folder, start } from "./support.ts";

const [first, second] = [authority(), authority()];

interface Files {
  readonly key: string;
  readonly cert: string;
  readonly options: readonly string[];
}

async function files(t: TestContext): Promise<Files> {
  const place = await folder(t);
  const [key, cert] = [join(place, "key.pem"), join(place, "cert.pem")];
  writeFileSync(key, first.key);
  writeFileSync(cert, first.cert);
  return { key, cert, options: ["--tls-key", key, "--tls-cert", cert] };
}

/** The serial number of the certificate at a port of this machine; undefined if none is served now. */
function served(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.serialNumber);
      socket.destroy();
    });
    socket.once("error", () => resolve(undefined));
  });
}

function serialOf({ cert }: Certificates): string {
  return new X509Certificate(cert).serialNumber;
}

/** Waits for a certificate; returns the longest time in which none was served, in milliseconds. */
async function gapUntil(next: Certificates, port: number): Promise<number> {
  let longest = 0;
  for (let last = performance.now(); ; await sleep(10)) {
    const serial = await served(port);
    if (serial === undefined) continue;
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (serial === serialOf(next)) return Math.round(longest);
  }
}

describe("a certificate that is renewed", { concurrency: true }, () => {
  it("is served by an edge within a minute, with a gap of less than 2 s, and devices come back", async (t) => {
    const { key, cert, options } = await files(t);
    const edge = start(t, ["edge", "--dev", "--port", "0", "--json", ...options]);
    const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
    const port = Number(new URL(url).port);
    const bob = await Device.connect({
      edge: url,
      address: "bob/pc",
      transport: "websocket",
      ca: first.ca + second.ca,
    });
    t.after(() => bob.close());
    // Beside other tests the machine itself may stop for a second: then again.
    let gap = Number.POSITIVE_INFINITY;
    for (const next of [second, first, second, first, second]) {
      const begun = performance.now();
      // As certbot does: one after the other, each at once.
      writeFileSync(`${cert}.new`, next.cert);
      renameSync(`${cert}.new`, cert);
      writeFileSync(`${key}.new`, next.key);
      renameSync(`${key}.new`, key);
      gap = await gapUntil(next, port);
      const took = performance.now() - begun;
      t.diagnostic(`served after ${Math.round(took)} ms, with a gap of ${gap} ms`);
      assert(took < 60_000);
      if (gap < 2000 && next === second) break;
    }
    assert(gap < 2000, `a gap of ${gap} ms`);
    const alice = await Device.connect({ edge: url, address: "alice/pc", transport: "websocket", ca: second.ca });
    await alice.send("bob/pc", "after the change");
    await alice.close();
    for await (const { body } of bob.messages()) {
      assert.equal(new TextDecoder().decode(body), "after the change");
      break;
    }
    edge.process.kill("SIGTERM");
    assert.match((await edge.finished).stderr, /the certificate in \S+ is served from now on/);
  });

  it("is served by a relay, which cuts off no connection", async (t) => {
    const { key, cert, options } = await files(t);
    const relay = start(t, ["relay", "--port", "0", "--tls-port", "0", "--json", ...options]);
    const [, port = ""] = await relay.line(/"tlsPort":(\d+)/);
    const open = connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false });
    let isOpen = true;
    open.on("close", () => {
      isOpen = false;
    });
    writeFileSync(key, second.key);
    writeFileSync(cert, second.cert);
    const gap = await gapUntil(second, Number(port));
    assert(gap < 2000);
    assert(isOpen, "the connection from before goes on");
    open.destroy();
  });
});

describe("a pair that is half written", () => {
  const LOOK = 20;

  async function followed(t: TestContext) {
    const at = await files(t);
    const pair = renewedKeyPair(at.key, at.cert, LOOK);
    const [renewed, notices] = [[] as KeyPair[], [] as string[]];
    pair.follow(
      async (one) => {
        renewed.push(one);
      },
      (line) => notices.push(line),
    );
    t.after(() => pair.close());
    return { ...at, renewed, notices };
  }

  it("is not served, whichever half is new, and is when it is whole", async (t) => {
    const { key, cert, renewed, notices } = await followed(t);
    writeFileSync(cert, second.cert);
    await eventually(() => notices.length === 1, "it says so");
    assert.match(notices[0] ?? "", /certificate from before is still served: .* does not belong to .* \[TlsUnusable\]/);
    writeFileSync(key, second.key.slice(0, 90));
    await eventually(() => notices.length === 2, "it says so again");
    rmSync(key);
    await eventually(() => notices.length === 3, "it says so again");
    assert.match(notices[2] ?? "", /there is no file .*\[CannotRead\]/);
    assert.deepEqual(renewed, []);
    writeFileSync(key, second.key);
    await eventually(() => renewed.length === 1, "it is served");
    assert.deepEqual(renewed, [{ key: second.key, cert: second.cert }]);
  });

  it("is not served while its chain ends within a certificate", async (t) => {
    const { cert, renewed, notices } = await followed(t);
    writeFileSync(cert, first.cert + second.ca.slice(0, 200));
    await eventually(() => notices.length === 1, "it says so");
    assert.match(notices[0] ?? "", /ends within a certificate: it is being written/);
    writeFileSync(cert, first.cert + second.ca);
    await eventually(() => renewed.length === 1, "it is served");
  });

  it("and one that is written anew unchanged changes nothing", async (t) => {
    const { key, cert, renewed, notices } = await followed(t);
    writeFileSync(cert, first.cert);
    writeFileSync(key, `${first.key}`);
    await sleep(5 * LOOK);
    writeFileSync(key, second.key);
    await eventually(() => notices.length === 1, "the next change is noticed");
    assert.deepEqual(renewed, []);
  });
});
