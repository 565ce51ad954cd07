/**
 * The messages at the start of Polling bodies [MS-GRVHENC 2.2.4], and the checksum of the application data after them.
 */

import type { Refusal } from "./registry.ts";
import {
  EncapsulationError,
  MAX_BODY,
  POLL_INTERVAL_LIMIT,
  POLL_REPETITIONS_LIMIT,
  POLLING_VERSION,
  RELAY_URL_SCHEME,
  refuse,
} from "./registry.ts";
import { isGuid, parseRelay } from "./target.ts";

/** A Polling-Virtual-Connection-Message and the application data after it [MS-GRVHENC 2.2.4.1.3]. */
export type Poll = {
  /** Relay-Server-Name, in lower case. */
  readonly relay: string;
  readonly guid: string;
  readonly sequence: number;
  /** Decimal text, as returned by {@link checksumOf}. */
  readonly checksum: string;
  /** View of the body; empty if there is no data. */
  readonly data: Uint8Array;
  /** Octets of the whole body. */
  readonly length: number;
};

/** How often an idle client polls [MS-GRVHENC 3.5.2.3]. */
export type PollParameters = {
  /** Seconds. */
  readonly minimum: number;
  /** Seconds. */
  readonly maximum: number;
  /** Polls at one interval before it doubles. */
  readonly repetitions: number;
};

const encoder = new TextEncoder();
const DECIMAL = /^(?:0|[1-9]\d*)$/;
/** Characters of one field: enough for `grooveDNS://` and the longest relay name. */
const FIELD_LIMIT = 300;

/**
 * Parses a request body of at most `limit` octets. All refusals have scope "request", because an invalid body names no
 * virtual connection.
 */
export function parsePoll(
  body: Uint8Array,
  limit: number = MAX_BODY,
): { readonly type: "poll"; readonly poll: Poll } | Refusal {
  const head = parseMessage(body, limit);
  return "type" in head
    ? head
    : { type: "poll", poll: { ...head.message, data: body.subarray(head.length), length: body.length } };
}

/** Parses a response body of at most `limit` octets: the message, the poll parameters, and application data. */
export function parsePollResponse(
  body: Uint8Array,
  limit: number = MAX_BODY,
): { readonly type: "poll"; readonly poll: Poll; readonly parameters: PollParameters } | Refusal {
  const head = parseMessage(body, limit);
  if ("type" in head) return head;
  const fields = readFields(body, head.length, 3);
  if (fields === undefined) return malformed("the poll parameters are not three texts that end in NUL");
  const [minimum, maximum, repetitions] = fields.texts.map(decimal);
  if (minimum === undefined || maximum === undefined || repetitions === undefined) {
    return malformed("a poll parameter is not a decimal number");
  }
  const parameters = {
    minimum: Math.min(minimum, POLL_INTERVAL_LIMIT),
    maximum: Math.min(maximum, POLL_INTERVAL_LIMIT),
    repetitions: Math.min(repetitions, POLL_REPETITIONS_LIMIT),
  };
  return { type: "poll", poll: { ...head.message, data: body.subarray(fields.end), length: body.length }, parameters };
}

/**
 * Formats a body: the message with its checksum, the poll parameters in a response, and `data`, which is copied since
 * it may have to be resent.
 *
 * @throws EncapsulationError if a part violates the grammar or the body exceeds `limit`, by default 32768 octets
 */
export function formatPoll(fields: {
  readonly relay: string;
  readonly guid: string;
  readonly sequence: number;
  readonly data: readonly Uint8Array[];
  readonly parameters?: PollParameters;
  readonly limit?: number;
}): Uint8Array {
  const { relay, guid, sequence, data, parameters, limit = MAX_BODY } = fields;
  if (parseRelay(relay) === undefined) throw new EncapsulationError("relay must be host, host:port or [v6]:port");
  if (!isGuid(guid))
    throw new EncapsulationError("guid must be 16 to 128 unreserved characters; make it by guidFrom()");
  let text = `${POLLING_VERSION}\0${RELAY_URL_SCHEME}${relay}\0${guid}\0${sequence}\0${checksumOf(data)}\0`;
  if (parameters !== undefined) {
    const { minimum, maximum, repetitions } = parameters;
    for (const value of [minimum, maximum, repetitions]) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new EncapsulationError("poll parameters must be whole numbers from 0: seconds, seconds, repetitions");
      }
      text += `${value}\0`;
    }
  }
  const head = encoder.encode(text);
  const length = data.reduce((sum, octets) => sum + octets.length, head.length);
  if (length > limit) throw new EncapsulationError(`a Polling body must be at most ${limit} octets, not ${length}`);
  const body = new Uint8Array(length);
  body.set(head);
  let at = head.length;
  for (const octets of data) {
    body.set(octets, at);
    at += octets.length;
  }
  return body;
}

/**
 * Octets of application data that fit in a body in any case: `limit`, by default 32768, less the message with the
 * longest checksum (20 digits) and, in a response, the poll parameters.
 */
export function pollRoom(
  relay: string,
  guid: string,
  sequence: number,
  parameters?: PollParameters,
  limit: number = MAX_BODY,
): number {
  const fixed = POLLING_VERSION.length + RELAY_URL_SCHEME.length + relay.length + guid.length + 20 + 5;
  const { minimum, maximum, repetitions } = parameters ?? { minimum: 0, maximum: 0, repetitions: 0 };
  const more = parameters === undefined ? 0 : `${minimum}${maximum}${repetitions}`.length + 3;
  return limit - fixed - String(sequence).length - more;
}

/** Bytes summed before moving to 64 bits: 128 * 4096 * 4097 / 2 fits in 32 bits, where addition is fastest. */
const BLOCK = 4096;

/**
 * The checksum of application data: the sum of (signed octet + 1) * (index + 1), index from 0, in 64 bits, as unsigned
 * decimal; "0" for no data [MS-GRVHENC 2.2.4.1.3.1.3].
 */
export function checksumOf(data: readonly Uint8Array[]): string {
  let total = 0n;
  let base = 0;
  for (const octets of data) {
    const signed = new Int8Array(octets.buffer, octets.byteOffset, octets.length);
    for (let start = 0; start < signed.length; start += BLOCK) {
      const end = Math.min(signed.length, start + BLOCK);
      // With k = base + j, sum (b+1)(k+1) = sum (b+1)(j+1) + base * sum (b+1). Only the last product needs a bigint.
      const { plain, weighted } = sumsOf(signed, start, end);
      total += BigInt(weighted) + BigInt(base) * BigInt(plain);
      base += end - start;
    }
  }
  return BigInt.asUintN(64, total).toString();
}

/**
 * Sums b+1, and (b+1)(j+1) with j from 0, over one block. A function of its own, since engines compile what is called
 * often sooner than a long loop.
 */
function sumsOf(signed: Int8Array, start: number, end: number): { readonly plain: number; readonly weighted: number } {
  let plain = 0;
  let running = 0;
  for (let at = start; at < end; at++) {
    plain = (plain + (signed[at] as number) + 1) | 0;
    running = (running + plain) | 0;
  }
  // The sum of the running sums has the first value most often, which is the reverse of what is wanted.
  return { plain, weighted: (end - start + 1) * plain - running };
}

type Message = Pick<Poll, "relay" | "guid" | "sequence" | "checksum">;

function parseMessage(body: Uint8Array, limit: number): { message: Message; length: number } | Refusal {
  if (body.length > limit) return refuse("BodyTooLong", "request");
  const fields = readFields(body, 0, 5);
  if (fields === undefined) return malformed("it does not begin with five texts that end in NUL");
  const [version = "", url = "", guid = "", sequenceText = "", checksum = ""] = fields.texts;
  if (!/^\d+\.\d+$/.test(version)) return malformed("the version is not a version such as 1.2");
  if (url.slice(0, RELAY_URL_SCHEME.length).toLowerCase() !== RELAY_URL_SCHEME.toLowerCase()) {
    return malformed(`the Relay-Server-URL does not begin with ${RELAY_URL_SCHEME}`);
  }
  const relay = url.slice(RELAY_URL_SCHEME.length).toLowerCase();
  if (parseRelay(relay) === undefined) return malformed("the Relay-Server-URL does not name a host");
  if (!isGuid(guid)) return malformed("the GUID is not 16 to 128 unreserved characters");
  const sequence = decimal(sequenceText);
  if (sequence === undefined) return malformed("the sequence number is not a decimal number");
  if (!DECIMAL.test(checksum) || checksum.length > 20) return malformed("the checksum is not a 64-bit decimal number");
  if (version !== POLLING_VERSION) {
    return refuse("WrongVersion", "request", `The Polling version is ${version}, not ${POLLING_VERSION}.`);
  }
  return { message: { relay, guid, sequence, checksum }, length: fields.end };
}

function readFields(body: Uint8Array, from: number, count: number): { texts: string[]; end: number } | undefined {
  const texts: string[] = [];
  let at = from;
  while (texts.length < count) {
    const nul = body.subarray(at, at + FIELD_LIMIT).indexOf(0);
    if (nul < 0) return undefined;
    texts.push(String.fromCharCode(...body.subarray(at, at + nul)));
    at += nul + 1;
  }
  return { texts, end: at };
}

function decimal(text: string): number | undefined {
  const value = Number(text);
  return DECIMAL.test(text) && Number.isSafeInteger(value) ? value : undefined;
}

function malformed(detail: string): Refusal {
  return refuse("MalformedPoll", "request", `The Polling body is refused: ${detail}.`);
}
