/**
 * Every transport to every other, through the edge and a relay: all sizes in both directions at once, unchanged,
 * in order, once. In the short form the longest go between equal transports only, which send and receive them all.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device, type TransportName } from "../../src/device/index.ts";
import { type Relay, startRelay } from "../../src/relay/index.ts";
import { authority } from "../support/certificates.ts";
import { FULL } from "../support/long-form.ts";

/** The transports that reach a relay at any port without a proxy, directly or through the edge. */
const TRANSPORTS = ["tcp", "longlived", "keepalive", "polling"] as const satisfies TransportName[];

const SIZES = [0, 1, 2047, 2048, 2049, 32768, 1024 * 1024, 16 * 1024 * 1024];

const sha = (octets: Uint8Array) => createHash("sha256").update(octets).digest("hex");

/** The longest between different transports in the short form. */
const LONGEST = { http: 1024 * 1024, https: 32768 };

/** Sends one body of each size, all at once, and returns their hashes in order. */
async function sendAll(device: Device, to: string, sizes: readonly number[]): Promise<string[]> {
  const bodies = sizes.map((size) => randomBytes(size));
  await Promise.all(bodies.map((body) => device.send(to, body)));
  return bodies.map(sha);
}

async function receiveAll(device: Device, count: number): Promise<string[]> {
  const hashes: string[] = [];
  for await (const message of device.messages()) {
    message.done();
    hashes.push(sha(message.body));
    if (hashes.length === count) return hashes;
  }
  return hashes;
}

interface Way {
  readonly relay: string;
  readonly edge: string;
  readonly ca?: string;
}

async function exchange(way: Way, left: TransportName, right: TransportName, sizes: readonly number[]): Promise<void> {
  const a = await Device.connect({ ...way, address: `left/${left}-${right}`, transport: left });
  const b = await Device.connect({ ...way, address: `right/${left}-${right}`, transport: right });
  try {
    const [sentByA, sentByB, atA, atB] = await Promise.all([
      sendAll(a, b.address, sizes),
      sendAll(b, a.address, sizes),
      receiveAll(a, sizes.length),
      receiveAll(b, sizes.length),
    ]);
    assert.deepEqual(atB, sentByA);
    assert.deepEqual(atA, sentByB);
    // Exactly once: a message behind them all shows that nothing else arrived.
    await Promise.all([a.send(b.address, "end"), b.send(a.address, "end")]);
    assert.deepEqual(await receiveAll(b, 1), [sha(Buffer.from("end"))]);
    assert.deepEqual(await receiveAll(a, 1), [sha(Buffer.from("end"))]);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
}

for (const scheme of ["http", "https"] as const) {
  describe(`matrix over ${scheme}`, () => {
    let relay: Relay;
    let edge: LocalEdge;
    let way: Way;

    before(async () => {
      relay = await startRelay({ port: 0 });
      const name = `127.0.0.1:${relay.port}`;
      const certificates = scheme === "https" ? authority() : undefined;
      edge = await startLocalEdge({
        port: 0,
        relayAllow: [name],
        dev: "private open",
        ...(certificates && { tls: certificates }),
      });
      way = { relay: name, edge: edge.url, ...(certificates && { ca: certificates.ca }) };
    });

    after(async () => {
      await edge.close();
      await relay.close();
    });

    for (const left of TRANSPORTS) {
      for (const right of TRANSPORTS) {
        const sizes = FULL || left === right ? SIZES : SIZES.filter((size) => size <= LONGEST[scheme]);
        test(`${left} and ${right} exchange messages of up to ${sizes.at(-1)} octets`, async () => {
          await exchange(way, left, right, sizes);
          assert.deepEqual(relay.waiting(`grooveDevice://left/${left}-${right}`), { octets: 0, messages: 0 });
        });
      }
    }
  });
}
