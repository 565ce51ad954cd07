/**
 * Packets: what the edge sees of a channel.
 *
 *   route id   4 octets    names the channel; chosen by the initiator
 *   length     2 octets    of the body, at least 1
 *   body
 *
 * The first octet of a body says what the rest is:
 *
 *   1  hello    pattern 1 octet (1 IK, 2 XX), suite 1 octet, first message of Noise
 *   2  answer   second message of Noise
 *   3  finish   third message of Noise
 *   4  record   number 7 octets, sealed frames
 *   5  notice   code of a reason 1 octet; not sealed, for who has no keys
 *
 * A notice for the route {@link ALL_ROUTES} is about all channels with its sender. The edge sends it in the name of a
 * device whose token has ended.
 *
 * Integers are unsigned, most significant octet first.
 *
 * @module
 */
import { BODY_OCTETS } from "./limits.ts";
import { REASONS, type Reason } from "./reasons.ts";

/** Names all channels with the sender of a notice. No channel has this route. */
export const ALL_ROUTES = 0;

/** Octets before the body. */
export const PACKET_HEADER = 6;

/** Octets of a record before what is sealed: its kind and number. */
export const RECORD_HEADER = 8;

export const KIND = { hello: 1, answer: 2, finish: 3, record: 4, notice: 5 } as const;

const ROUTE_LIMIT = 2 ** 32;

/** Writes the header of a packet, which must fit `packet` exactly. */
export function writePacketHeader(packet: Uint8Array, route: number): void {
  const view = new DataView(packet.buffer, packet.byteOffset);
  view.setUint32(0, route);
  view.setUint16(4, packet.length - PACKET_HEADER);
}

/** @throws RangeError if the route is no integer of 32 bits, or the body is empty or too long */
export function encodePacket(route: number, body: Uint8Array): Uint8Array {
  if (!Number.isInteger(route) || route < 0 || route >= ROUTE_LIMIT) {
    throw new RangeError(`${route} is no route id: use an integer from 0 below 2^32`);
  }
  if (body.length === 0 || body.length > BODY_OCTETS) {
    throw new RangeError(`a body of ${body.length} octets does not fit a packet: use 1 to ${BODY_OCTETS}`);
  }
  const packet = new Uint8Array(PACKET_HEADER + body.length);
  packet.set(body, PACKET_HEADER);
  writePacketHeader(packet, route);
  return packet;
}

/**
 * The packet that tells a peer, without proof, that its channel is unknown or its hello is refused. It is shorter than
 * whatever it answers.
 */
export function encodeNotice(route: number, reason: Reason): Uint8Array {
  return encodePacket(route, Uint8Array.of(KIND.notice, REASONS[reason].code));
}

/** Whether a body begins a channel. */
export function isHello(body: Uint8Array): boolean {
  return body[0] === KIND.hello;
}

/** Whether a body is a notice, which is never answered. */
export function isNotice(body: Uint8Array): boolean {
  return body[0] === KIND.notice;
}

/** Memory for the longest packet, which is nobody's now. New memory for each packet would cost more than its copy. */
let spare: Uint8Array | undefined;

/**
 * Extracts packets from bytes that arrive in chunks of any size. Bodies that lie whole in a chunk are views of it.
 * Between chunks at most one incomplete packet is kept.
 */
export class PacketDecoder {
  readonly #header = new Uint8Array(PACKET_HEADER);
  /** The incomplete packet, once its length is known, in the longest packet's memory. */
  #partial: Uint8Array | undefined;
  #held = 0;

  /** Octets of the incomplete packet. At the end of a message there must be none. */
  get held(): number {
    return this.#held;
  }

  /**
   * Passes each packet to `sink`, in order. It may read the body until it returns. A packet with an empty body is passed
   * too: no channel accepts it.
   */
  push(chunk: Uint8Array, sink: (route: number, body: Uint8Array) => void): void {
    let at = 0;
    if (this.#held > 0) {
      at = this.#hold(chunk, 0);
      const whole = this.#partial;
      if (whole === undefined || this.#held < whole.length) return;
      this.#partial = undefined;
      this.#held = 0;
      sink(routeOf(whole, 0), whole.subarray(PACKET_HEADER));
      giveBack(whole);
    }
    while (chunk.length - at >= PACKET_HEADER) {
      const end = at + PACKET_HEADER + lengthOf(chunk, at);
      if (end > chunk.length) break;
      sink(routeOf(chunk, at), chunk.subarray(at + PACKET_HEADER, end));
      at = end;
    }
    if (at < chunk.length) this.#hold(chunk, at);
  }

  /** Forgets the incomplete packet: its message has ended. */
  clear(): void {
    if (this.#partial !== undefined) giveBack(this.#partial);
    this.#partial = undefined;
    this.#held = 0;
  }

  /** Appends octets from `at` on to the incomplete packet, up to its end. Returns the offset after them. */
  #hold(chunk: Uint8Array, at: number): number {
    let next = at;
    while (this.#partial === undefined) {
      if (next >= chunk.length) return next;
      this.#header[this.#held++] = chunk[next++] as number;
      if (this.#held < PACKET_HEADER) continue;
      this.#partial = memoryFor(PACKET_HEADER + lengthOf(this.#header, 0));
      this.#partial.set(this.#header);
    }
    const count = Math.min(this.#partial.length - this.#held, chunk.length - next);
    this.#partial.set(chunk.subarray(next, next + count), this.#held);
    this.#held += count;
    return next + count;
  }
}

/** Short packets get memory of their own size: it may be held for long. */
function memoryFor(length: number): Uint8Array {
  if (length < (PACKET_HEADER + BODY_OCTETS) / 2) return new Uint8Array(length);
  const memory = spare ?? new Uint8Array(PACKET_HEADER + BODY_OCTETS);
  spare = undefined;
  return memory.subarray(0, length);
}

function giveBack({ buffer }: Uint8Array): void {
  if (buffer.byteLength === PACKET_HEADER + BODY_OCTETS) spare = new Uint8Array(buffer);
}

function routeOf(octets: Uint8Array, at: number): number {
  return new DataView(octets.buffer, octets.byteOffset + at).getUint32(0);
}

function lengthOf(octets: Uint8Array, at: number): number {
  return ((octets[at + 4] as number) << 8) | (octets[at + 5] as number);
}
