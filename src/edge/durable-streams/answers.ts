/**
 * Headers of answers, made of what the stream has said [PROTOCOL 5].
 *
 * @module
 */
import type { Lifetime } from "./expiry.ts";
import { CACHE, HEADER } from "./headers.ts";
import type { ProducerState } from "./producer.ts";

/** What every answer of a stream says of it. */
export interface StreamState {
  readonly contentType: string;
  /** Tail of the stream, or the offset after what was read. */
  readonly next: string;
  readonly closed: boolean;
}

/** What a read says. */
export interface ReadState extends StreamState {
  /** Whether nothing follows what was read. */
  readonly upToDate: boolean;
  /** Undefined for a read from `now`. */
  readonly etag: string | undefined;
}

type Named = Record<string, string>;

export function createdHeaders({ contentType, next, closed }: StreamState): Named {
  return { "Content-Type": contentType, [HEADER.next]: next, ...closedHeader(closed) };
}

export function metadataHeaders(state: StreamState & { readonly lifetime: Lifetime }): Named {
  const { lifetime } = state;
  return {
    ...createdHeaders(state),
    ...(lifetime.type === "idle" && { [HEADER.ttl]: String(lifetime.seconds) }),
    ...(lifetime.type === "until" && { [HEADER.expiresAt]: lifetime.text }),
  };
}

/** @param producer what is stored of the producer now */
export function appendedHeaders(next: string, closed: boolean, producer: ProducerState | undefined): Named {
  return {
    [HEADER.next]: next,
    ...closedHeader(closed),
    ...(producer !== undefined && {
      [HEADER.producerEpoch]: String(producer.epoch),
      [HEADER.producerSeq]: String(producer.seq),
    }),
  };
}

/**
 * @param cursor undefined unless the read is live
 * @param isPublic whether caches may keep it for anybody
 */
export function readHeaders(
  { contentType, next, closed, upToDate, etag }: ReadState,
  { cursor, isPublic, isEmpty }: { cursor: string | undefined; isPublic: boolean; isEmpty: boolean },
): Named {
  return {
    "Content-Type": contentType,
    [HEADER.next]: next,
    ...(upToDate && { [HEADER.upToDate]: "true" }),
    ...closedHeader(closed && upToDate),
    ...(cursor !== undefined && { [HEADER.cursor]: cursor }),
    ...(etag !== undefined && { ETag: etag }),
    "Cache-Control": isPublic ? (isEmpty || etag === undefined ? CACHE.tail : CACHE.public) : CACHE.private,
    ...(isPublic && { Vary: "Authorization" }),
  };
}

/** The tag of what is between two offsets. It changes when the stream is closed, which a reader must learn [10.1]. */
export function entityTag(from: string, next: string, closed: boolean): string {
  return `"${from}:${next}${closed ? ":c" : ""}"`;
}

function closedHeader(closed: boolean): Named {
  return closed ? { [HEADER.closed]: "true" } : {};
}
