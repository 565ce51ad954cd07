/**
 * Sealing and opening of records, and the log of those that are not acknowledged. The number of a record is its nonce:
 * a record is sealed once, and sent again as it is.
 *
 * @module
 */
import { type Cipher, type CipherSuite, nextKey, nonceOf, TAG_OCTETS } from "./ciphers.ts";
import { BODY_OCTETS, RECORDS_OF_KEY } from "./limits.ts";
import { KIND, PACKET_HEADER, RECORD_HEADER, writePacketHeader } from "./packet.ts";

const NOTHING = new Uint8Array(0);

/** Offset in a packet of what is sealed. */
const SEALED_AT = PACKET_HEADER + RECORD_HEADER;

/** Octets before a packet in its memory, so that what is sealed is aligned: ciphers in JavaScript work on words. */
const ALIGNMENT = 2;

/** Seals or opens the records of one direction, and changes its key every RECORDS_OF_KEY records. */
export class Sealer {
  readonly #suite: CipherSuite;
  #key: Uint8Array;
  #cipher: Cipher;
  /** Which RECORDS_OF_KEY records this key is for. */
  #epoch = 0;

  constructor(suite: CipherSuite, key: Uint8Array) {
    this.#suite = suite;
    this.#key = key;
    this.#cipher = suite.cipher(key);
  }

  /** Octets by which `seal` makes a record longer. */
  get overhead(): number {
    return TAG_OCTETS;
  }

  /** Seals the record of a number. Numbers must not decrease, and none may be used twice. */
  seal(number: number, plain: Uint8Array, sealed: Uint8Array): void {
    this.reach(number);
    this.#cipher.seal(nonceOf(this.#suite, number), NOTHING, plain, sealed);
  }

  /** Opens a record into new memory; undefined if it is forged. It may have any number from the last `reach` on. */
  open(number: number, sealed: Uint8Array): Uint8Array | undefined {
    // A peer keeps fewer records than one key seals, so it is at most one key ahead.
    const cipher = epochOf(number) === this.#epoch ? this.#cipher : this.#suite.cipher(this.#next());
    return cipher.open(nonceOf(this.#suite, number), NOTHING, sealed);
  }

  /** Forgets the keys of earlier records. */
  reach(number: number): void {
    if (epochOf(number) === this.#epoch) return;
    this.#key = this.#next();
    this.#cipher = this.#suite.cipher(this.#key);
    this.#epoch += 1;
  }

  #next(): Uint8Array {
    return nextKey(this.#suite, this.#key);
  }
}

function epochOf(number: number): number {
  return Math.floor(number / RECORDS_OF_KEY);
}

/** Leaves records in the clear, for devices that both want it (`--plain`). */
export const PLAIN: Pick<Sealer, "overhead" | "seal" | "open" | "reach"> = {
  overhead: 0,
  seal: (_number, plain, sealed) => sealed.set(plain),
  open: (_number, sealed) => new Uint8Array(sealed),
  reach: () => {},
};

/** What seals the records of one direction. */
export type RecordSealer = typeof PLAIN;

/** Memory of a packet with the longest body. */
const PACKET_MEMORY = ALIGNMENT + PACKET_HEADER + BODY_OCTETS;

/** From this length on a packet gets such memory, so that little of it is unused: records of bulk data are full. */
const LONG_PACKET = (PACKET_MEMORY * 15) / 16;

/** Memories that are kept: what is on its way at a time. */
const SPARE_MEMORIES = 16;

/**
 * Memory of long packets that nobody uses any more, for the next ones: fresh memory takes as much time as filling it, and
 * that of packets without end keeps the garbage collector busy.
 */
export class PacketMemory {
  readonly #spare: ArrayBuffer[] = [];

  /** Returns memory for a packet of this length: its own, or the longest packet's. */
  take(length: number): Uint8Array {
    const isLong = length >= LONG_PACKET;
    const memory =
      (isLong ? this.#spare.pop() : undefined) ?? new ArrayBuffer(isLong ? PACKET_MEMORY : ALIGNMENT + length);
    return new Uint8Array(memory, ALIGNMENT, length);
  }

  /** Takes back the memory of a packet, if it is worth that. */
  giveBack({ buffer }: Uint8Array): void {
    if (buffer.byteLength !== PACKET_MEMORY || this.#spare.length >= SPARE_MEMORIES) return;
    this.#spare.push(buffer as ArrayBuffer);
  }
}

/**
 * The packet of a record.
 *
 * @param memory where it is; default its own
 */
export function sealRecord(
  sealer: RecordSealer,
  route: number,
  number: number,
  contents: Uint8Array,
  memory = new PacketMemory(),
): Uint8Array {
  const packet = memory.take(SEALED_AT + contents.length + sealer.overhead);
  writePacketHeader(packet, route);
  const view = new DataView(packet.buffer, ALIGNMENT + PACKET_HEADER);
  view.setUint32(0, Math.floor(number / 2 ** 32));
  view.setUint32(4, number >>> 0);
  packet[PACKET_HEADER] = KIND.record;
  sealer.seal(number, contents, packet.subarray(SEALED_AT));
  return packet;
}

/** The number of a record; undefined if its body is too short, or the number 2^53 or more. */
export function recordNumber(body: Uint8Array): number | undefined {
  if (body.length < RECORD_HEADER) return undefined;
  const view = new DataView(body.buffer, body.byteOffset);
  const number = (view.getUint32(0) & 0xffffff) * 2 ** 32 + view.getUint32(4);
  return Number.isSafeInteger(number) ? number : undefined;
}

/** Freed slots at the front of the log are kept until there are this many, and as many as records. */
const SLACK = 1024;

/** The packets that this side has sealed and the peer has not acknowledged, by number. */
export class SendLog {
  #packets: (Uint8Array | undefined)[] = [];
  /** Number of the packet in slot 0. */
  #origin = 0;
  #acknowledged = 0;
  #octets = 0;
  readonly #freed: (packet: Uint8Array) => void;

  /** @param freed gets each packet that is kept no more */
  constructor(freed: (packet: Uint8Array) => void = () => undefined) {
    this.#freed = freed;
  }

  /** Number of the next record to seal. */
  get next(): number {
    return this.#origin + this.#packets.length;
  }

  /** Number of the first record that is not acknowledged; `next` if all are. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** How many records are kept. */
  get size(): number {
    return this.next - this.#acknowledged;
  }

  /** Octets of the packets kept. */
  get octets(): number {
    return this.#octets;
  }

  /** The packet of a record that is kept. */
  at(number: number): Uint8Array | undefined {
    return this.#packets[number - this.#origin];
  }

  /** Keeps the packet of the record `next`. */
  push(packet: Uint8Array): void {
    this.#packets.push(packet);
    this.#octets += packet.length;
  }

  /** Frees all records before a number, which is at most `next`. */
  acknowledge(number: number): void {
    for (; this.#acknowledged < number; this.#acknowledged += 1) {
      const slot = this.#acknowledged - this.#origin;
      const packet = this.#packets[slot];
      this.#packets[slot] = undefined;
      if (packet === undefined) continue;
      this.#octets -= packet.length;
      this.#freed(packet);
    }
    const free = this.#acknowledged - this.#origin;
    if (free < this.#packets.length && (free < SLACK || free * 2 < this.#packets.length)) return;
    this.#packets = this.#packets.slice(free);
    this.#origin = this.#acknowledged;
  }

  /** Frees all. */
  clear(): void {
    this.acknowledge(this.next);
  }
}
