/**
 * The handshake of a channel: Noise IK if the initiator has pinned the responder's key, otherwise XX. Messages are the
 * bodies of packets. Each side sends its last message again until the other has answered, octet for octet.
 *
 * The prologue holds the suite and the addresses of both devices, so they agree on these too. The responder's payload
 * begins with its resume time in seconds, 4 octets; more may follow in later versions.
 *
 * @module
 */
import { joinOctets } from "../lib/octets.ts";
import type { CipherSuite } from "./ciphers.ts";
import { RESUME_LIMIT } from "./limits.ts";
import { NoiseError, NoiseHandshake, type Pattern, type TransportKeys } from "./noise.ts";
import { KIND } from "./packet.ts";
import { type Reason, Violation } from "./reasons.ts";

/** Which handshake and which suite, in a hello; with the flag, the suite is for the handshake only. */
const PATTERN = { IK: 1, XX: 2 } as const;
const SUITE = { ChaChaPoly: 1, AESGCM: 2 } as const;
const PLAIN_FLAG = 0x80;

/** The address of the edge where it is dialed itself. No device has it. */
export const EDGE_ADDRESS = "";

export interface HandshakeOptions {
  readonly role: "initiator" | "responder";
  /** The initiator proposes the first; the responder takes any. */
  readonly suites: readonly [CipherSuite, ...CipherSuite[]];
  /**
   * Whether records are in the clear, which both sides must want: a peer that wants otherwise is refused. The handshake
   * is the same, so both still know with whom they speak, but the edge can read and change what they say. Default false.
   */
  readonly plain?: boolean | undefined;
  /** The device that dials, as the edge vouches for it. */
  readonly initiatorAddress: string;
  /** The device that is dialed. */
  readonly responderAddress: string;
  readonly staticSecret: Uint8Array;
  /** 32 random octets, never used before. */
  readonly ephemeralSecret: Uint8Array;
  /** The initiator's pin of the responder's key, if it has one. */
  readonly peerKey?: Uint8Array | undefined;
  /** Judges the key of a peer without a pin. Returns why it is refused, or undefined to accept it. */
  readonly judge: (peerKey: Uint8Array) => Reason | undefined;
  /** How long the responder lets streams outlive their path, in milliseconds. */
  readonly resumeTime: number;
}

/** The outcome of a handshake. */
export interface Agreement {
  /** The suite of the records; undefined if they are plain. */
  readonly suite: CipherSuite | undefined;
  readonly keys: TransportKeys;
  readonly peerKey: Uint8Array;
  /** The responder's, in milliseconds. */
  readonly resumeTime: number;
  /** Why the responder refuses the initiator, which is to be told under the new keys. */
  readonly refusal: Reason | undefined;
}

const NOTHING = new Uint8Array(0);

export class Handshake {
  readonly #options: HandshakeOptions;
  #noise: NoiseHandshake | undefined;
  #suite: CipherSuite;
  #plain: boolean;
  #resumeTime: number;
  /** The last message read, to recognise its repetition. */
  #heard = NOTHING;
  #message: Uint8Array | undefined;
  #agreement: Agreement | undefined;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#suite = options.suites[0];
    this.#plain = options.plain === true;
    this.#resumeTime = Math.min(options.resumeTime, RESUME_LIMIT);
    if (options.role === "responder") return;
    const pattern = options.peerKey === undefined ? "XX" : "IK";
    this.#noise = this.#start(pattern);
    const suite = SUITE[this.#suite.name] | (this.#plain ? PLAIN_FLAG : 0);
    this.#message = body([KIND.hello, PATTERN[pattern], suite], this.#noise.write(NOTHING));
  }

  /** The last message that this side has written. */
  get message(): Uint8Array | undefined {
    return this.#message;
  }

  /** Undefined until this side is done. */
  get agreement(): Agreement | undefined {
    return this.#agreement;
  }

  /**
   * Reads a message. Returns whether `message` is to be sent, anew or again. Messages out of turn are ignored.
   *
   * @throws Violation with the reason why the handshake has failed
   */
  receive(message: Uint8Array): boolean {
    if (this.#heard.length > 0 && isEqual(message, this.#heard)) return this.#message !== undefined;
    if (this.#agreement !== undefined) return false;
    try {
      switch (message[0]) {
        case KIND.hello:
          return this.#readHello(message);
        case KIND.answer:
          return this.#readAnswer(message);
        case KIND.finish:
          return this.#readFinish(message);
        default:
          return false;
      }
    } catch (error) {
      if (error instanceof NoiseError) throw new Violation("HandshakeFailed");
      throw error;
    }
  }

  #readHello(message: Uint8Array): boolean {
    if (this.#options.role !== "responder" || this.#noise !== undefined) return false;
    const [, pattern, suite = 0] = message;
    if (pattern !== PATTERN.IK && pattern !== PATTERN.XX) throw new Violation("HandshakeFailed");
    this.#plain = (suite & PLAIN_FLAG) !== 0;
    const chosen = this.#options.suites.find(({ name }) => SUITE[name] === (suite & ~PLAIN_FLAG));
    if (chosen === undefined || this.#plain !== (this.#options.plain === true)) throw new Violation("SuiteRefused");
    this.#suite = chosen;
    const noise = this.#start(pattern === PATTERN.IK ? "IK" : "XX");
    noise.read(message.subarray(3));
    this.#noise = noise;
    this.#heard = new Uint8Array(message);
    const seconds = new Uint8Array(4);
    new DataView(seconds.buffer).setUint32(0, Math.ceil(this.#resumeTime / 1000));
    this.#message = body([KIND.answer], noise.write(seconds));
    if (noise.finished) this.#finish(noise, noise.peerStatic && this.#options.judge(noise.peerStatic));
    return true;
  }

  #readAnswer(message: Uint8Array): boolean {
    const noise = this.#noise;
    if (this.#options.role !== "initiator" || noise === undefined) return false;
    const payload = noise.read(message.subarray(1));
    if (payload.length < 4) throw new Violation("HandshakeFailed");
    const seconds = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
    this.#resumeTime = Math.min(seconds * 1000, RESUME_LIMIT);
    this.#heard = new Uint8Array(message);
    if (noise.finished) {
      this.#message = undefined;
      this.#finish(noise, undefined);
      return false;
    }
    // The next message tells the peer who this is, so its key is judged first.
    const refusal = noise.peerStatic && this.#options.judge(noise.peerStatic);
    if (refusal !== undefined) throw new Violation(refusal);
    this.#message = body([KIND.finish], noise.write(NOTHING));
    this.#finish(noise, undefined);
    return true;
  }

  #readFinish(message: Uint8Array): boolean {
    const noise = this.#noise;
    if (this.#options.role !== "responder" || noise === undefined) return false;
    noise.read(message.subarray(1));
    this.#heard = new Uint8Array(message);
    this.#message = undefined;
    this.#finish(noise, noise.peerStatic && this.#options.judge(noise.peerStatic));
    return false;
  }

  #start(pattern: Pattern): NoiseHandshake {
    const { role, initiatorAddress, responderAddress, staticSecret, ephemeralSecret, peerKey } = this.#options;
    const agreed = ["grooveway streams 1", this.#suite.name, this.#plain, initiatorAddress, responderAddress];
    return new NoiseHandshake({
      pattern,
      initiator: role === "initiator",
      suite: this.#suite,
      prologue: new TextEncoder().encode(JSON.stringify(agreed)),
      staticSecret,
      ephemeralSecret,
      peerStatic: peerKey,
    });
  }

  #finish(noise: NoiseHandshake, refusal: Reason | undefined): void {
    this.#agreement = {
      suite: this.#plain ? undefined : this.#suite,
      keys: noise.split(),
      peerKey: noise.peerStatic as Uint8Array,
      resumeTime: this.#resumeTime,
      refusal,
    };
  }
}

function body(start: readonly number[], message: Uint8Array): Uint8Array {
  return joinOctets([Uint8Array.from(start), message], start.length + message.length);
}

function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((octet, at) => octet === other[at]);
}
