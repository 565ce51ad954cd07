/**
 * Two devices that talk to each other, in whatever runtime runs this. The argument is JSON (`Task`). It exchanges
 * messages, prints `cut`, waits for a line, and exchanges more, over new connections if the others are cut. Prints `done`, and
 * then must end by itself.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Device, DeviceOptions } from "../../src/device/index.ts";
import { pattern } from "../support/watch.ts";

export interface Task {
  /** The module that exports `Device`: `index.ts` or `browser.ts`. */
  readonly entry: string;
  readonly options: Omit<DeviceOptions, "address">;
  /** The addresses of both. */
  readonly addresses: readonly [string, string];
  /** The code with which `Device.connect` must fail. Then nothing else is done. */
  readonly refused?: string;
}

const FILE = 5 * 1024 * 1024;
const BLOCK = 1024 * 1024;

const { entry, options, addresses, refused }: Task = JSON.parse(process.argv[2] ?? "");
const library: { Device: { connect(options: DeviceOptions): Promise<Device> } } = await import(
  `../../src/device/${entry}`
);
if (refused !== undefined) {
  await assert.rejects(library.Device.connect({ ...options, address: addresses[0] }), { code: refused });
  process.stdout.write("done\n");
  process.exit();
}
const [one, other] = await Promise.all(addresses.map((address) => library.Device.connect({ ...options, address })));
assert(one && other);
assert.equal(one.transport, options.transport);

/** Sends messages in one direction, and checks that they arrive unchanged, in order, once. */
async function carry(from: Device, to: Device, bodies: readonly Uint8Array[]): Promise<void> {
  const sent = Promise.all(bodies.map((body) => from.send(to.address, body)));
  for (const body of bodies) {
    const next = await to.messages().next();
    assert(!next.done);
    assert.equal(next.value.from, from.address);
    assert.equal(hash(next.value.body), hash(body));
    next.value.done();
  }
  await sent;
}

function hash(octets: Uint8Array): string {
  return createHash("sha256").update(octets).digest("hex");
}

const texts = Array.from({ length: 50 }, (_, n) => new TextEncoder().encode(`message ${n}`));
const file = pattern(FILE, 1);
const blocks = Array.from({ length: FILE / BLOCK }, (_, n) => file.subarray(n * BLOCK, (n + 1) * BLOCK));
await Promise.all([carry(one, other, texts), carry(other, one, texts)]);
await Promise.all([carry(one, other, [file]), carry(other, one, blocks)]);

const input = createInterface({ input: process.stdin });
const cut = new Promise((resolve) => input.once("line", resolve));
process.stdout.write("cut\n");
await cut;
input.close();
await Promise.all([carry(one, other, texts), carry(other, one, texts)]);
await Promise.all([one.close(), other.close()]);
process.stdout.write("done\n");
