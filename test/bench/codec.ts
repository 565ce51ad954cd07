/** Encoding and decoding of Data commands, compared with a plain copy of the same octets. */
import { randomBytes } from "node:crypto";
import { Decoder, encodeDataInto } from "../../src/sstp/index.ts";
import { alternate, type Contender, figureOf, type Round, type Section, short } from "./report.ts";

const CHUNK = 64 * 1024;
const PAYLOAD = 2048;
/** CommandId, CommandLength, SessionId. */
const HEADER = 7;

/** More than the caches hold, since a relay's data comes from the network and not from a cache. */
const CHUNKS = 512;

export async function codec(quick: boolean): Promise<Section> {
  const chunks = Array.from({ length: CHUNKS }, () => new Uint8Array(randomBytes(CHUNK)));
  const stream = streamOf(chunks);
  const milliseconds = quick ? 300 : 600;
  const contenders: Contender[] = [
    { name: "plain copy", against: [], round: (warm) => copy(chunks, warm ? 100 : milliseconds) },
    { name: "encode", against: ["plain copy"], round: (warm) => encode(chunks, warm ? 100 : milliseconds) },
    { name: "decode", against: ["plain copy"], round: (warm) => decode(stream, warm ? 100 : milliseconds) },
  ];
  const figures = await alternate(contenders, quick ? 3 : 7);
  const decoded = figureOf(figures, "decode")?.median ?? 0;
  return {
    name: "codec: Data commands of 2048 octets in chunks of 64 KiB (decode gives views and copies only what a chunk cuts)",
    unit: "MB/s",
    counted: "chunks",
    figures,
    goals: [{ text: `decode >= 1000 MB/s (${short(decoded)})`, met: decoded >= 1000 }],
    notes: [],
  };
}

async function copy(chunks: readonly Uint8Array[], milliseconds: number): Promise<Round> {
  const target = new Uint8Array(CHUNK);
  return timed(chunks, milliseconds, (chunk) => target.set(chunk));
}

async function encode(chunks: readonly Uint8Array[], milliseconds: number): Promise<Round> {
  const target = new Uint8Array((CHUNK / PAYLOAD) * (PAYLOAD + HEADER));
  return timed(chunks, milliseconds, (chunk) => {
    let at = 0;
    for (let from = 0; from < CHUNK; from += PAYLOAD) at = encodeDataInto(1, chunk, from, from + PAYLOAD, target, at);
  });
}

/** A decoder does not stop between chunks: most commands lie within a chunk, and one per chunk is split. */
async function decode(stream: readonly Uint8Array[], milliseconds: number): Promise<Round> {
  let octets = 0;
  let fed = 0;
  const sink = (command: { readonly command: string; readonly data?: Uint8Array }) => {
    octets += command.data?.length ?? 0;
    return true;
  };
  let decoder = new Decoder({ major: 1, minor: 6 });
  const round = timed(stream, milliseconds, (chunk, index) => {
    // The stream restarts with a command; at its end one may be truncated.
    if (index === 0) decoder = new Decoder({ major: 1, minor: 6 });
    decoder.push(chunk, sink);
    fed += chunk.length;
  });
  const whole = Math.floor(fed / (PAYLOAD + HEADER));
  const found = octets / PAYLOAD;
  // At each end of the stream a truncated command is left over, so slightly fewer than all are found.
  const cut = Math.ceil(fed / (CHUNKS * CHUNK));
  return { ...round, lost: Math.max(0, whole - found - cut), duplicated: Math.max(0, found - whole) };
}

function timed(
  chunks: readonly Uint8Array[],
  milliseconds: number,
  work: (chunk: Uint8Array, index: number) => void,
): Round {
  const began = performance.now();
  let octets = 0;
  let count = 0;
  while (performance.now() - began < milliseconds) {
    // The clock is read once in 32 chunks: reading it costs as much as a chunk.
    for (let end = count + 32; count < end; count++) {
      const index = count % chunks.length;
      const chunk = chunks[index] as Uint8Array;
      work(chunk, index);
      octets += chunk.length;
    }
  }
  return { value: octets / (performance.now() - began) / 1000, count, lost: 0, duplicated: 0 };
}

/** The chunks as one stream of Data commands, split every 64 KiB. */
function streamOf(chunks: readonly Uint8Array[]): Uint8Array[] {
  const whole = new Uint8Array((CHUNKS * CHUNK * (PAYLOAD + HEADER)) / PAYLOAD);
  let at = 0;
  for (const chunk of chunks) {
    for (let from = 0; from < CHUNK; from += PAYLOAD) at = encodeDataInto(1, chunk, from, from + PAYLOAD, whole, at);
  }
  return Array.from({ length: CHUNKS }, (_, index) => whole.subarray(index * CHUNK, (index + 1) * CHUNK));
}
