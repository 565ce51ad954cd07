/**
 * Headers of the Durable Streams protocol, by section of PROTOCOL.md, and those that protect browsers [12.7].
 *
 * @module
 */

export const HEADER = {
  /** [5.1] */
  ttl: "Stream-TTL",
  expiresAt: "Stream-Expires-At",
  closed: "Stream-Closed",
  /** [4.2] */
  forkedFrom: "Stream-Forked-From",
  forkOffset: "Stream-Fork-Offset",
  forkSubOffset: "Stream-Fork-Sub-Offset",
  /** [5.2] */
  sequence: "Stream-Seq",
  /** [5.2.1] */
  producerId: "Producer-Id",
  producerEpoch: "Producer-Epoch",
  producerSeq: "Producer-Seq",
  expectedSeq: "Producer-Expected-Seq",
  receivedSeq: "Producer-Received-Seq",
  /** [5.6] */
  next: "Stream-Next-Offset",
  upToDate: "Stream-Up-To-Date",
  cursor: "Stream-Cursor",
  /** [5.8] */
  encoding: "Stream-SSE-Data-Encoding",
  /** [WHATWG HTML 9.2.4] */
  lastEventId: "Last-Event-ID",
  /** Of a message, not of the protocol [draft-ietf-httpapi-idempotency-key-header]. */
  idempotencyKey: "Idempotency-Key",
} as const;

/** Methods of a stream, for pages of other origins. */
export const METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"] as const;

/** Request headers that such a page may send. */
export const SENT = [
  "Authorization",
  "Content-Type",
  "If-None-Match",
  HEADER.ttl,
  HEADER.expiresAt,
  HEADER.closed,
  HEADER.forkedFrom,
  HEADER.forkOffset,
  HEADER.forkSubOffset,
  HEADER.sequence,
  HEADER.producerId,
  HEADER.producerEpoch,
  HEADER.producerSeq,
  HEADER.lastEventId,
  HEADER.idempotencyKey,
] as const;

/** Response headers that such a page may read. */
export const EXPOSED = [
  "ETag",
  "Location",
  HEADER.next,
  HEADER.upToDate,
  HEADER.cursor,
  HEADER.closed,
  HEADER.ttl,
  HEADER.expiresAt,
  HEADER.producerEpoch,
  HEADER.producerSeq,
  HEADER.expectedSeq,
  HEADER.receivedSeq,
  HEADER.encoding,
] as const;

/**
 * Headers of every answer. What others have written is never run as a page of this origin, whatever type it claims:
 * not guessed to be of another type, in a sandbox without scripts, and with nothing that it may load.
 */
export const PROTECTION: Readonly<Record<string, string>> = {
  "X-Content-Type-Options": "nosniff",
  "Cross-Origin-Resource-Policy": "cross-origin",
  "Content-Security-Policy": "sandbox; default-src 'none'",
};

/** Headers of events: nginx would keep them in its buffers until these are full. */
export const UNBUFFERED: Readonly<Record<string, string>> = { "X-Accel-Buffering": "no" };

/** `Cache-Control` of answers [10.1]. `no-transform` keeps proxies from compressing and so from holding back. */
export const CACHE = {
  /** For one reader only. */
  private: "private, no-store",
  /** Data of a stream that anybody may read: what is at an offset never changes. */
  public: "public, max-age=60, stale-while-revalidate=300",
  /** What says where the tail is. */
  tail: "no-store",
  events: "private, no-store, no-cache, no-transform",
} as const;
