/**
 * NTLMv2 for HTTP proxies [MS-NLMP, MS-NTHT]: negotiate, challenge, authenticate, all on one connection. Neither signing
 * nor sealing, hence no session key and no MIC. Pure.
 *
 * Written here since it is small: NTLMv2 needs MD4 and HMAC-MD5 only. `httpntlm` on npm brings DES for NTLMv1, an HTTP
 * client and an old underscore along.
 *
 * @module
 */
import { createHmac } from "node:crypto";
import type { Credentials } from "./credentials.ts";
import { md4 } from "./md4.ts";

const SIGNATURE = "NTLMSSP\0";

/** Flags [MS-NLMP 2.2.2.5]: Unicode, request target, NTLM, always sign, extended session security, target info, 128 bit. */
const FLAGS = 0x00000001 | 0x00000004 | 0x00000200 | 0x00008000 | 0x00080000 | 0x00800000 | 0x20000000;

/** The id of the server's time among the attributes of a challenge, MsvAvTimestamp [MS-NLMP 2.2.2.1]. */
const TIMESTAMP = 7;

/** 100 ns between 1601, where times begin, and 1970. */
const EPOCH = 116_444_736_000_000_000n;

/** What the server's challenge says [MS-NLMP 2.2.1.2]. */
export interface NtlmChallenge {
  /** 8 random bytes. */
  readonly challenge: Uint8Array;
  /** Attributes of the server, which go into the response as they are. */
  readonly targetInfo: Uint8Array;
  /** The server's time, among the attributes. */
  readonly timestamp: Uint8Array | undefined;
}

export interface NtlmRandom {
  /** 8 random bytes. */
  readonly clientChallenge: Uint8Array;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** The first message, without domain and workstation [MS-NLMP 2.2.1.1]. */
export function ntlmNegotiate(): string {
  const message = Buffer.alloc(32);
  message.write(SIGNATURE, 0, "latin1");
  message.writeUInt32LE(1, 8);
  message.writeInt32LE(FLAGS, 12);
  return message.toString("base64");
}

/** Reads the second message; undefined if it is not one, or offers no NTLMv2. */
export function parseNtlmChallenge(token: string): NtlmChallenge | undefined {
  const message = Buffer.from(token, "base64");
  if (message.length < CHALLENGE_END || message.toString("latin1", 0, 8) !== SIGNATURE) return undefined;
  if (message.readUInt32LE(8) !== 2) return undefined;
  const targetInfo = targetInfoOf(message);
  return { challenge: message.subarray(24, CHALLENGE_END), targetInfo, timestamp: timestampOf(targetInfo) };
}

/** Where the server's challenge ends. Older servers send nothing after it [MS-NLMP 2.2.1.2]. */
const CHALLENGE_END = 32;

/** Empty unless it lies within the message: older servers have other bytes where its length and offset would be. */
function targetInfoOf(message: Buffer): Buffer {
  if (message.length < 48) return Buffer.alloc(0);
  const [length, offset] = [message.readUInt16LE(40), message.readUInt32LE(44)];
  return offset + length > message.length ? Buffer.alloc(0) : message.subarray(offset, offset + length);
}

/** The last message [MS-NLMP 2.2.1.3]. */
export function ntlmAuthenticate(server: NtlmChallenge, credentials: Credentials, random: NtlmRandom): string {
  const { user, domain } = accountOf(credentials.user);
  const time = server.timestamp ?? fileTime(random.now);
  const key = responseKey(user, credentials.password, domain);
  const nt = ntResponse(key, server, random.clientChallenge, time);
  // With the server's time in the challenge, the older response must be absent [MS-NLMP 3.1.5.1.2].
  const lm =
    server.timestamp === undefined ? lmResponse(key, server.challenge, random.clientChallenge) : Buffer.alloc(24);
  const payloads = [lm, nt, utf16(domain), utf16(user), Buffer.alloc(0), Buffer.alloc(0)];
  const head = Buffer.alloc(64);
  head.write(SIGNATURE, 0, "latin1");
  head.writeUInt32LE(3, 8);
  let offset = head.length;
  for (const [i, payload] of payloads.entries()) {
    head.writeUInt16LE(payload.length, 12 + 8 * i);
    head.writeUInt16LE(payload.length, 14 + 8 * i);
    head.writeUInt32LE(offset, 16 + 8 * i);
    offset += payload.length;
  }
  head.writeInt32LE(FLAGS, 60);
  return Buffer.concat([head, ...payloads]).toString("base64");
}

/** NTOWFv2 [MS-NLMP 3.3.2]. */
export function responseKey(user: string, password: string, domain: string): Buffer {
  return hmac(md4(utf16(password)), utf16(user.toUpperCase() + domain));
}

/** NtChallengeResponse: a proof, and the text that it proves. */
export function ntResponse(key: Uint8Array, server: NtlmChallenge, clientChallenge: Uint8Array, time: Uint8Array) {
  const head = Buffer.from([1, 1, 0, 0, 0, 0, 0, 0]);
  const text = Buffer.concat([head, time, clientChallenge, Buffer.alloc(4), server.targetInfo, Buffer.alloc(4)]);
  return Buffer.concat([hmac(key, server.challenge, text), text]);
}

export function lmResponse(key: Uint8Array, challenge: Uint8Array, clientChallenge: Uint8Array): Buffer {
  return Buffer.concat([hmac(key, challenge, clientChallenge), clientChallenge]);
}

/** Splits `DOMAIN\user`. `user@domain` goes as the user name, without a domain. */
function accountOf(text: string): { readonly user: string; readonly domain: string } {
  const at = text.indexOf("\\");
  return at < 0 ? { user: text, domain: "" } : { user: text.slice(at + 1), domain: text.slice(0, at) };
}

function timestampOf(targetInfo: Buffer): Uint8Array | undefined {
  for (let at = 0; at + 4 <= targetInfo.length; ) {
    const [id, length] = [targetInfo.readUInt16LE(at), targetInfo.readUInt16LE(at + 2)];
    if (id === 0 || at + 4 + length > targetInfo.length) return undefined;
    if (id === TIMESTAMP && length === 8) return targetInfo.subarray(at + 4, at + 12);
    at += 4 + length;
  }
  return undefined;
}

function fileTime(now: number): Buffer {
  const time = Buffer.alloc(8);
  time.writeBigUInt64LE(BigInt(Math.round(now)) * 10_000n + EPOCH);
  return time;
}

function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac("md5", key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

function utf16(text: string): Buffer {
  return Buffer.from(text, "utf16le");
}
