/**
 * The far end of a virtual connection, as a channel of bytes: the socket of an origin relay, or the edge's own SSTP
 * endpoint.
 *
 * @module
 */
import type { Reason } from "./reasons.ts";

/** Input from the far end: bytes, or why it has ended. */
export type Inflow =
  | { readonly kind: "octets"; readonly octets: Uint8Array }
  | { readonly kind: "ended"; readonly reason: Reason };

export interface ByteChannel {
  /**
   * Writes bytes. Resolves when the far end has taken them, so a slow relay blocks its writer. Rejects if it is gone.
   */
  write(octets: Uint8Array): Promise<void>;
  /** Resolves when there is input to take, or the far end has ended. It keeps resolving until `take`. */
  ready(): Promise<void>;
  /** The input that waits, as of the last `ready`; undefined if there is none. It changes nothing. */
  peek(): Inflow | undefined;
  /**
   * Takes input, at most `max` bytes of it; undefined if there is none. "ended" is returned again by every later call.
   */
  take(max: number): Inflow | undefined;
  /** Writes a whole stream, copied by the platform where it can. Rejects if the far end or the sender is gone. */
  pipeFrom(stream: ReadableStream<Uint8Array>): Promise<void>;
  /**
   * Writes waiting and future input to a stream, copied by the platform where it can, and closes the stream at the end.
   * A socket gives nothing to `take` from then on. Rejects if the far end or the receiver is gone.
   */
  pipeTo(stream: WritableStream<Uint8Array>): Promise<void>;
  /** Closes both directions at once, and frees the socket. */
  close(): void;
}
