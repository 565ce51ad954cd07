/**
 * Server-sent events of a stream [PROTOCOL 5.8; WHATWG HTML 9.2].
 *
 *     event: data          what was appended, as text, or in base64
 *     id: …                the offset after it: a browser sends it as Last-Event-ID when it connects again
 *     event: control       {"streamNextOffset": …, "streamCursor": …, "upToDate": true, "streamClosed": true}
 *     event: heartbeat     the connection is alive
 *     event: reset         {"code": …, "streamNextOffset": …}: the id is gone; what follows begins at that offset
 *
 * `id`, `heartbeat` and `reset` are additions that other clients ignore.
 *
 * @module
 */
import { encodeBase64 } from "../../lib/base64.ts";

/** What a control event says of the place that the reader has reached. */
export interface Place {
  /** The offset to read from next. */
  readonly next: string;
  /** Undefined if the stream is closed: nobody reads on. */
  readonly cursor: string | undefined;
  readonly upToDate: boolean;
  readonly closed: boolean;
}

/** How the bytes of a stream become text. */
export type Encoding = "text" | "base64";

/** @param id the offset after the bytes */
export function dataEvent(octets: Uint8Array, encoding: Encoding, id: string): string {
  const text =
    encoding === "base64"
      ? encodeBase64(octets)
      : new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(octets);
  return `event: data\nid: ${id}\n${dataLines(text)}\n`;
}

export function controlEvent({ next, cursor, upToDate, closed }: Place): string {
  const control = {
    streamNextOffset: next,
    ...(!closed && { streamCursor: cursor }),
    ...(upToDate && { upToDate }),
    ...(closed && { streamClosed: true }),
  };
  return `event: control\n${dataLines(JSON.stringify(control))}\n`;
}

export function heartbeatEvent(): string {
  return "event: heartbeat\ndata:{}\n\n";
}

/** @param next the offset from which the stream goes on */
export function resetEvent(code: string, next: string): string {
  return `event: reset\nid: ${next}\n${dataLines(JSON.stringify({ code, streamNextOffset: next }))}\n`;
}

/**
 * How many of these bytes end with a whole character of UTF-8. The rest waits for the bytes that follow: an event must
 * not cut a character in two. What is not UTF-8 at all does not wait.
 */
export function wholeCharacters(octets: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, octets.length); back += 1) {
    const octet = octets[octets.length - back] ?? 0;
    const isContinuation = (octet & 0xc0) === 0x80;
    if (isContinuation) continue;
    const length = octet >= 0xf5 || octet < 0xc2 ? 1 : octet >= 0xf0 ? 4 : octet >= 0xe0 ? 3 : 2;
    return length > back ? octets.length - back : octets.length;
  }
  return octets.length;
}

/** The field `data`, with a line for each line of the text: no text can end the event, or begin another. */
function dataLines(text: string): string {
  // A reader takes away one space after the colon.
  return text
    .split(/\r\n|\r|\n/)
    .map((line) => (line.startsWith(" ") ? `data: ${line}\n` : `data:${line}\n`))
    .join("");
}
