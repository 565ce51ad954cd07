/**
 * Where the octets of a virtual connection go and come from: the socket of an origin relay, or the end of SSTP here.
 *
 * @module
 */
import type { Reason } from "./reasons.ts";

/** What came from the relay: octets, or how its side ended. */
export type Inflow =
  | { readonly kind: "octets"; readonly octets: Uint8Array }
  | { readonly kind: "ended"; readonly reason: Reason };

export interface ByteChannel {
  /** Resolves when the relay's socket has taken the octets: a relay that stops reading stops its writer. Rejects when it is gone. */
  write(octets: Uint8Array): Promise<void>;
  /** Resolves when something can be taken, an ended side included. Until `take` it keeps resolving. */
  ready(): Promise<void>;
  /** What has come and was not taken; undefined when nothing has. */
  peek(): Inflow | undefined;
  /** Takes what has come, at most `max` octets of it; undefined when nothing has. What ended stays ended. */
  take(max: number): Inflow | undefined;
  /** Writes a stream to its end, copied by the platform itself. Rejects when the relay or the sender is gone. */
  pipeFrom(stream: ReadableStream<Uint8Array>): Promise<void>;
  /**
   * Writes what has come and all that comes to a stream, copied by the platform itself; the stream is closed at the
   * relay's end. Nothing can be taken from then on. Rejects when the relay or the receiver is gone.
   */
  pipeTo(stream: WritableStream<Uint8Array>): Promise<void>;
  /** Closes both directions at once and frees the socket. */
  close(): void;
}
