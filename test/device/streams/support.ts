/** Devices with streams. */
import { createHash } from "node:crypto";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import {
  type Device,
  type DeviceOptions,
  type DeviceStream,
  MemoryKeyring,
  type TransportName,
} from "../../../src/device/index.ts";
import { publicKeyOf } from "../../../src/streams/index.ts";
import { connect } from "../../edge/mailbox/support.ts";

export interface Streamer {
  readonly device: Device;
  readonly keyring: MemoryKeyring;
  readonly address: string;
}

/** A device with a key of its own. */
export async function streamer(
  edge: LocalEdge,
  address: string,
  transport: TransportName = "websocket",
  options: Partial<DeviceOptions> = {},
): Promise<Streamer> {
  const keyring = new MemoryKeyring();
  const device = await connect(edge, address, transport, { keyring, receive: "streams", ...options });
  return { device, keyring, address };
}

/** Lets one device dial another. */
export function admit(server: Streamer, client: Streamer): void {
  server.keyring.accept(client.address, publicKeyOf(client.keyring.secretKey));
}

/** Writes pieces to a stream, and half-closes it. */
export async function sendAll({ writable }: DeviceStream, pieces: Iterable<Uint8Array>): Promise<void> {
  const writer = writable.getWriter();
  for (const piece of pieces) await writer.write(piece);
  await writer.close();
}

/** Reads a stream to its end. Returns how much came, and its digest. */
export async function digestOf({
  readable,
}: {
  readonly readable: AsyncIterable<Uint8Array>;
}): Promise<{ octets: number; digest: string }> {
  const hash = createHash("sha256");
  let octets = 0;
  for await (const piece of readable) {
    octets += piece.length;
    hash.update(piece);
  }
  return { octets, digest: hash.digest("hex") };
}

/** Pieces of a stream that is the same for the same seed. */
export function* piecesOf(octets: number, seed: string, size = 64 * 1024): Generator<Uint8Array> {
  for (let left = octets, n = 0; left > 0; left -= size, n += 1) {
    const block = createHash("sha256").update(`${seed} ${n}`).digest();
    const piece = new Uint8Array(Math.min(size, left));
    for (let at = 0; at < piece.length; at += block.length) piece.set(block.subarray(0, piece.length - at), at);
    yield piece;
  }
}

export function expectedDigest(pieces: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}
