/**
 * How messages stand in a row of a mailbox's log: many small ones behind each other, so that a batch is one write.
 *
 *   segment  = *message
 *   message  = length of header (4, little-endian), header (JSON), length of body (4, little-endian), body
 *
 * The body of a message longer than a row stands in rows of its own; here it has length 0 and `rows` in its header.
 *
 * @module
 */

/** A recipient at an origin relay; an empty device URL makes it identity-targeted. */
export interface Recipient {
  readonly identityURL: string;
  readonly deviceURL: string;
}

/** What a Message command said of a message, and where it goes. The mailbox passes all of it on unread. */
export interface Envelope {
  /** Device URL of the sender, as it stood in its Connect. */
  readonly source: string;
  /** UserRef: the message's id; empty when the sender gave none. */
  readonly id: string;
  readonly resourceURL: string;
  readonly identityURL: string;
  readonly deviceURL: string;
  /** Recipients at the origin relay whose mailbox this is in, when it is one; the two URLs above are empty then. */
  readonly entries?: readonly Recipient[] | undefined;
  readonly track: boolean;
  readonly ephemeral?: number | undefined;
  readonly streamSize?: readonly [bigint, bigint, bigint] | undefined;
  readonly fragmentation?: Uint8Array | undefined;
}

/** A message in a mailbox. */
export interface Mail extends Envelope {
  readonly body: Uint8Array;
}

/** A message as it stands in a segment. */
export interface Entry {
  readonly mail: Mail;
  /** Octets of the body, wherever it stands. */
  readonly size: number;
  /** Rows that the body takes elsewhere; 0 when it stands here. */
  readonly rows: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Octets of one message in a segment. */
export function encodeEntry({ mail, size, rows }: Entry): Uint8Array {
  const { body, streamSize, fragmentation, ...plain } = mail;
  const header = encoder.encode(
    JSON.stringify({
      ...plain,
      streamSize: streamSize?.map(String),
      fragmentation: fragmentation && Array.from(fragmentation),
      ...(rows > 0 && { rows, size }),
    }),
  );
  const inline = rows > 0 ? new Uint8Array(0) : body;
  const octets = new Uint8Array(8 + header.length + inline.length);
  const view = new DataView(octets.buffer);
  view.setUint32(0, header.length, true);
  octets.set(header, 4);
  view.setUint32(4 + header.length, inline.length, true);
  octets.set(inline, 8 + header.length);
  return octets;
}

/** The messages of a segment, in order; bodies are views of it. */
export function decodeSegment(segment: Uint8Array): Entry[] {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
  const entries: Entry[] = [];
  let at = 0;
  while (at < segment.length) {
    const headerLength = view.getUint32(at, true);
    const header = JSON.parse(decoder.decode(segment.subarray(at + 4, at + 4 + headerLength))) as Header;
    at += 4 + headerLength;
    const bodyLength = view.getUint32(at, true);
    const body = segment.subarray(at + 4, at + 4 + bodyLength);
    at += 4 + bodyLength;
    const { rows = 0, size = bodyLength, streamSize, fragmentation, ...plain } = header;
    const mail: Mail = {
      ...plain,
      ...(streamSize && { streamSize: [BigInt(streamSize[0]), BigInt(streamSize[1]), BigInt(streamSize[2])] as const }),
      ...(fragmentation && { fragmentation: Uint8Array.from(fragmentation) }),
      body,
    };
    entries.push({ mail, size, rows });
  }
  return entries;
}

/** JSON knows neither 64-bit integers nor octets. */
interface Header extends Omit<Envelope, "streamSize" | "fragmentation"> {
  readonly streamSize?: readonly [string, string, string];
  readonly fragmentation?: readonly number[];
  readonly rows?: number;
  readonly size?: number;
}
