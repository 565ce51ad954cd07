/** Shared by the streams tests: two engines, a path between them that is driven, and small generators. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type Frame, RecordReader, RecordWriter } from "../../src/streams/frame.ts";
import type { ChannelEvent, ChannelOptions, Reason } from "../../src/streams/index.ts";
import {
  CHACHA_POLY,
  type CipherSuite,
  CreditPool,
  KEY_OCTETS,
  PACKET_HEADER,
  PacketDecoder,
  publicKeyOf,
  REASONS,
  RESUME_TIME,
  StreamChannel,
} from "../../src/streams/index.ts";
import { RECORD_HEADER } from "../../src/streams/packet.ts";
import { PLAIN, sealRecord } from "../../src/streams/records.ts";

export const ROUTE = 0x01020304;

/** 32 octets that differ by `seed`. */
export function secret(seed: number): Uint8Array {
  return Uint8Array.from({ length: KEY_OCTETS }, (_, at) => (seed * 31 + at * 7 + 1) & 0xff);
}

export const INITIATOR_SECRET = secret(1);
export const RESPONDER_SECRET = secret(2);
const RESPONDER_KEY = publicKeyOf(RESPONDER_SECRET);

/** Octets from hexadecimal. */
export function hex(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function toHex(octets: Uint8Array): string {
  return Buffer.from(octets).toString("hex");
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

export function text(octets: Uint8Array | "end" | undefined): string | undefined {
  return octets instanceof Uint8Array ? Buffer.from(octets).toString() : octets;
}

/** A small generator of integers below a bound. */
export function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Octets that differ at each offset of each stream. */
export function pattern(seed: number, from: number, length: number): Uint8Array {
  const octets = new Uint8Array(length);
  for (let at = 0; at < length; at += 1) octets[at] = ((from + at) * 167 + ((from + at) >>> 8) * 13 + seed * 59) & 0xff;
  return octets;
}

export function initiatorOptions(more: Partial<ChannelOptions> = {}): ChannelOptions {
  return {
    role: "initiator",
    route: ROUTE,
    suites: [CHACHA_POLY],
    initiatorAddress: "alice/laptop",
    responderAddress: "office/desk",
    staticSecret: INITIATOR_SECRET,
    ephemeralSecret: secret(3),
    peerKey: RESPONDER_KEY,
    judge: () => undefined,
    resumeTime: RESUME_TIME,
    pool: new CreditPool(),
    peer: "office",
    now: 0,
    ...more,
  };
}

export function responderOptions(more: Partial<ChannelOptions> = {}): ChannelOptions {
  return {
    ...initiatorOptions(),
    role: "responder",
    staticSecret: RESPONDER_SECRET,
    ephemeralSecret: secret(4),
    peerKey: undefined,
    pool: new CreditPool(),
    peer: "alice",
    ...more,
  };
}

const stream = fc.nat(0xffffffff);
const PLAIN_OBJECTS = { noNullPrototype: true } as const;
const reason = fc.constantFrom(...(Object.keys(REASONS) as Reason[]));
/** Any frame. */
export const anyFrame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record(
    { type: fc.constant("open" as const), stream, service: fc.stringMatching(/^[\x21-\x7e]{1,255}$/) },
    PLAIN_OBJECTS,
  ),
  fc.record(
    { type: fc.constant("data" as const), stream, data: fc.uint8Array({ minLength: 1, maxLength: 500 }) },
    PLAIN_OBJECTS,
  ),
  fc.record({ type: fc.constant("credit" as const), stream, limit: fc.maxSafeNat() }, PLAIN_OBJECTS),
  fc.record({ type: fc.constant("end" as const), stream }, PLAIN_OBJECTS),
  fc.record({ type: fc.constant("reset" as const), stream, reason }, PLAIN_OBJECTS),
  fc.constantFrom({ type: "ping" as const }, { type: "resume" as const }),
  fc.record({ type: fc.constant("close" as const), reason }, PLAIN_OBJECTS),
);

/** A cipher suite that seals at most once under each key and nonce, or else fails. */
export function neverTwice(suite: CipherSuite): CipherSuite {
  const used = new Set<string>();
  return {
    name: suite.name,
    cipher: (key) => {
      const cipher = suite.cipher(key);
      const name = Buffer.from(key).toString("latin1");
      return {
        seal: (nonce, associated, plain, sealed) => {
          const once = name + Buffer.from(nonce).toString("latin1");
          assert.ok(!used.has(once), "a nonce was used twice");
          used.add(once);
          cipher.seal(nonce, associated, plain, sealed);
        },
        open: (nonce, associated, sealed) => cipher.open(nonce, associated, sealed),
      };
    },
  };
}

/** The body of a packet. */
export function bodyOf(packet: Uint8Array): Uint8Array {
  return packet.subarray(PACKET_HEADER);
}

/** One end, with the events that were taken from it. */
export class End {
  readonly channel: StreamChannel;
  readonly log: ChannelEvent[] = [];

  constructor(options: ChannelOptions, handshake?: ConstructorParameters<typeof StreamChannel>[1]) {
    this.channel = new StreamChannel(options, handshake);
  }

  /** Takes events. */
  events(): ChannelEvent[] {
    const events = this.channel.events();
    this.log.push(...events);
    return events;
  }

  /** Streams of the events of one type so far. */
  of<T extends ChannelEvent["type"]>(type: T): Extract<ChannelEvent, { type: T }>[] {
    this.events();
    return this.log.filter((event): event is Extract<ChannelEvent, { type: T }> => event.type === type);
  }
}

/**
 * Two ends and the time. Packets pass at once, or wait in `flight` until they are delivered. Whatever a test does, neither
 * end seals twice under a nonce.
 */
export class Pair {
  now = 0;
  readonly initiator: End;
  readonly responder: End;

  constructor(initiator: Partial<ChannelOptions> = {}, responder: Partial<ChannelOptions> = {}) {
    const suites = (): ChannelOptions["suites"] => [neverTwice(CHACHA_POLY)];
    this.initiator = new End(initiatorOptions({ suites: suites(), ...initiator }));
    this.responder = new End(responderOptions({ suites: suites(), ...responder }));
    for (const { channel } of this.ends) channel.attach(0);
  }

  get ends(): readonly [End, End] {
    return [this.initiator, this.responder];
  }

  other(end: End): End {
    return end === this.initiator ? this.responder : this.initiator;
  }

  /** Takes what one end sends. */
  take(end: End, most = 1024 * 1024): Uint8Array[] {
    return end.channel.output(most, this.now);
  }

  /** Hands packets to an end. */
  give(end: End, packets: readonly Uint8Array[]): void {
    const decoder = new PacketDecoder();
    for (const packet of packets) {
      decoder.push(packet, (route, body) => {
        assert.equal(route, ROUTE);
        end.channel.receive(body, this.now);
      });
    }
    assert.equal(decoder.held, 0);
  }

  /** Passes packets both ways until there are none. */
  settle(): this {
    for (let idle = 0; idle < 2; ) {
      idle += 1;
      for (const end of this.ends) {
        const packets = this.take(end);
        if (packets.length > 0) idle = 0;
        this.give(this.other(end), packets);
      }
    }
    return this;
  }

  /** Lets time pass, up to each deadline in turn. Packets pass. */
  wait(time: number): this {
    const until = this.now + time;
    for (;;) {
      this.settle();
      const next = Math.min(...this.ends.map(({ channel }) => channel.deadline));
      if (next > until) break;
      this.now = Math.max(this.now, next);
      for (const { channel } of this.ends) channel.advance(this.now);
    }
    this.now = until;
    return this;
  }

  /** Opens and accepts a stream. */
  stream(service = "ssh"): number {
    const opened = this.initiator.channel.open(service);
    assert.ok(opened.ok);
    this.settle();
    this.responder.channel.accept(opened.value);
    this.settle();
    return opened.value;
  }

  /** Reads all that an end has. Returns the octets, and whether the end follows. */
  readAll(end: End, id: number): { readonly octets: Uint8Array; readonly end: boolean } {
    const pieces: Uint8Array[] = [];
    for (;;) {
      const piece = end.channel.read(id, 1024 * 1024, this.now);
      if (piece instanceof Uint8Array) pieces.push(piece);
      else return { octets: new Uint8Array(Buffer.concat(pieces)), end: piece === "end" };
    }
  }
}

/** A pair whose handshake is done. */
export function connected(initiator: Partial<ChannelOptions> = {}, responder: Partial<ChannelOptions> = {}): Pair {
  const pair = new Pair(initiator, responder).settle();
  assert.equal(pair.responder.of("established").length, 1);
  return pair;
}

const writer = new RecordWriter();

/**
 * A peer that writes what it likes: records in the clear for an end whose handshake is done.
 */
export class Liar {
  readonly end: End;
  #number = 0;

  constructor(more: Partial<ChannelOptions> = {}) {
    const agreement = {
      suite: undefined,
      keys: { send: secret(5), receive: secret(6) },
      peerKey: RESPONDER_KEY,
      resumeTime: RESUME_TIME,
      refusal: undefined,
    };
    const options = more.role === "initiator" ? initiatorOptions(more) : responderOptions(more);
    this.end = new End(options, { message: undefined, agreement, receive: () => false });
    this.end.channel.attach(0);
    this.end.channel.receive(Uint8Array.of(0), 0);
  }

  /** A record of frames. */
  record(frames: readonly Frame[], { received = 0, number = this.#number++ } = {}): Uint8Array {
    writer.begin(received);
    for (const frame of frames) assert.ok(writer.append(frame));
    return this.raw(writer.contents, number);
  }

  /** A record of any contents. */
  raw(contents: Uint8Array, number = this.#number++): Uint8Array {
    return bodyOf(sealRecord(PLAIN, ROUTE, number, contents));
  }

  /** Sends a record of frames. */
  say(...frames: Frame[]): this {
    this.end.channel.receive(this.record(frames), 0);
    return this;
  }

  /** How the end has ended. */
  get ending(): string | undefined {
    return this.end.channel.ended?.reason;
  }
}

/** The contents of records that an end of a Liar sends. */
export function heard(packets: readonly Uint8Array[]): { readonly received: number; readonly frames: Frame[] }[] {
  return packets.map((packet) => {
    const reader = new RecordReader(PLAIN.open(0, bodyOf(packet).subarray(RECORD_HEADER)) ?? new Uint8Array(0));
    const frames: Frame[] = [];
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
    return { received: reader.received, frames };
  });
}

/** How both ends have ended. */
export function endings(pair: Pair): { readonly reason: Reason; readonly by: string }[] {
  return pair.ends.flatMap((end) => end.of("ended").map(({ reason, by }) => ({ reason, by })));
}
