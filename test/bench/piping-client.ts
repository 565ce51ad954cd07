/**
 * The client of piping-server. Its pipes go one way, so a connection is two of them. A call has a number; both sides
 * count from 0.
 */
import { request } from "node:http";
import { type Write, writerTo } from "./blocks.ts";

/** The paths of a call. */
export function pipesOf(number: number): { readonly up: string; readonly down: string } {
  return { up: `/bench-${number}-up`, down: `/bench-${number}-down` };
}

/** One end of a call. */
export interface PipingEnd {
  readonly write: Write;
  readonly isOver: () => boolean;
  close(): void;
}

interface PipingOptions {
  readonly port: number;
  readonly send: string;
  readonly receive: string;
  /** Gets what arrives. */
  readonly take: (octets: Uint8Array) => void;
  /** The other side is there. */
  readonly onCall?: () => void;
  readonly onEnd?: () => void;
}

/** Opens both pipes of a call, of which each begins when both sides are there. */
export function openPipes({ port, send, receive, take, onCall, onEnd }: PipingOptions): PipingEnd {
  const at = { port, host: "127.0.0.1", agent: false } as const;
  const outgoing = request({ ...at, path: send, method: "POST" }, (told) => told.resume());
  let isOver = false;
  const over = () => {
    if (isOver) return;
    isOver = true;
    outgoing.destroy();
    incoming.destroy();
    onEnd?.();
  };
  const incoming = request({ ...at, path: receive }, (answer) => {
    onCall?.();
    answer.on("data", take);
    answer.on("error", over);
    answer.on("close", over);
  });
  outgoing.on("error", over);
  incoming.on("error", over);
  incoming.end();
  // The server tells the receiver of a body that has begun.
  outgoing.flushHeaders();
  return { write: writerTo(outgoing), isOver: () => isOver, close: over };
}
