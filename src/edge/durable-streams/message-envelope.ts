/**
 * Messages of a peer's mailbox as a reader over HTTP sees them: each is a JSON object, its envelope.
 *
 *   {"id": "7dq-12@alice/laptop", "from": "alice/laptop", "to": "bob", "resource": "message",
 *    "time": "2026-01-31T12:00:00.000Z", "contentType": "application/json", "encoding": "json", "body": {"x": 1}}
 *
 * `body` is the JSON itself (`json`), a text (`text`), or a text of base64 (`base64`), as `encoding` says.
 *
 * @module
 */
import { encodeBase64 } from "../../lib/base64.ts";
import { isJson } from "./content-type.ts";
import { namesIn } from "./json-mode.ts";
import { isOneValue } from "./json-syntax.ts";
import { LONG_BODY } from "./limits.ts";

/** A message, as the mailbox has it. */
export interface EnvelopeParts {
  /** As the edge has written it: it names the sender, for whom the edge vouches. */
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly resource: string;
  /** When it arrived, milliseconds since 1970. */
  readonly time: number;
  /** Undefined if its sender gave none, as devices do. */
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
}

/** Writes the envelope of a message: one value of JSON. */
export function formatEnvelope({ body, contentType, time, ...rest }: EnvelopeParts): string {
  const head = JSON.stringify({ ...rest, time: new Date(time).toISOString(), contentType });
  return `${head.slice(0, -1)},${bodyMembers(body, contentType)}}`;
}

/** Members that only the edge may write. A message that has all of them was meant to be an envelope. */
const EDGE_MEMBERS = ["id", "from", "time"] as const;

const DECODER = new TextDecoder();

/** The longest that one of their names can be written: each character as `\u0069`, and the quotes. */
const LONGEST_NAME = 2 + 6 * Math.max(...EDGE_MEMBERS.map(({ length }) => length));

/** Whether a value of JSON, which is known to be valid, is an envelope or pretends to be one. */
export function isEnvelope(octets: Uint8Array): boolean {
  const missing = new Set<string>(EDGE_MEMBERS);
  for (const [start, end] of namesIn(octets)) {
    if (end - start > LONGEST_NAME) continue;
    const name = DECODER.decode(octets.subarray(start, end));
    missing.delete(name.includes("\\") ? (JSON.parse(name) as string) : name.slice(1, -1));
    if (missing.size === 0) return true;
  }
  return false;
}

function bodyMembers(body: Uint8Array, contentType: string | undefined): string {
  const text = textOf(body);
  if (text === undefined) return inBase64(body);
  // As it is, so that numbers keep their digits.
  if (contentType !== undefined && isJson(contentType) && isOneValue(body)) return `"encoding":"json","body":${text}`;
  if (isLongInText(body)) return inBase64(body);
  return `"encoding":"text","body":${JSON.stringify(text)}`;
}

function inBase64(body: Uint8Array): string {
  return `"encoding":"base64","body":"${encodeBase64(body)}"`;
}

const SPACE = 0x20;

/** Characters that JSON writes as two, such as a line feed. All others below a space take six: `\u0001`. */
const SHORT_ESCAPES: ReadonlySet<number> = new Set(new TextEncoder().encode('"\\\b\t\n\f\r'));
const LONGEST_ESCAPE = 6;

/**
 * Whether a long body has so many characters to escape that base64 is shorter. As text, the longest message would take
 * six times its bytes, more than the object of a mailbox has memory for, and nobody could read past it.
 */
function isLongInText(body: Uint8Array): boolean {
  if (body.length < LONG_BODY) return false;
  let length = 0;
  for (const octet of body) {
    if (SHORT_ESCAPES.has(octet)) length += 2;
    else length += octet < SPACE ? LONGEST_ESCAPE : 1;
  }
  return length * 3 > body.length * 4;
}

function textOf(body: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** The JSON Schema of an envelope [2020-12]. */
export const ENVELOPE_SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "A message in a mailbox",
  type: "object",
  required: ["id", "from", "to", "resource", "time", "encoding", "body"],
  properties: {
    id: { type: "string", description: "What the sender called it, an @, and the sender's address." },
    from: { type: "string", description: "Address of the sender, for whom the edge vouches." },
    to: { type: "string", description: "Address of the recipient: an identity or a device." },
    resource: { type: "string", description: "What of the recipient it is for: message, unless its sender says else." },
    time: { type: "string", format: "date-time", description: "When it arrived." },
    contentType: { type: "string", description: "As its sender has said; devices say none." },
    encoding: { enum: ["json", "text", "base64"], description: "What body is." },
    body: { description: "Any JSON, a text, or a text of base64." },
  },
} as const;
