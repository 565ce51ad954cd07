/**
 * The Worker's end of the doorbell (`rpc/doorbell-protocol.ts`).
 *
 * @module
 */
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";

export type Ring =
  | { readonly kind: "octets"; readonly octets: Uint8Array }
  | { readonly kind: "pull" }
  | { readonly kind: "closed"; readonly code: number; readonly reason: string };

/** The Worker's end of a doorbell. */
export interface Doorbell {
  /** Resolves with the next ring. After "closed" it resolves with "closed" for ever. */
  next(): Promise<Ring>;
  /** Resolves with the reason when either end closes, even if no call waits for a ring. */
  readonly closed: Promise<string>;
  /** Sends a word to the Tunnel. A closed bell discards it. */
  say(word: "arm" | `arm ${number}` | "release"): void;
  close(code: number): void;
}

/** Wraps the socket of a Tunnel's answer. */
export function doorbell(socket: WebSocket): Doorbell {
  const rings: Ring[] = [];
  const over = Promise.withResolvers<string>();
  let waiting: ((ring: Ring) => void) | undefined;
  let closed: Ring | undefined;

  function ring(what: Ring): void {
    if (closed !== undefined) return;
    if (what.kind === "closed") {
      closed = what;
      over.resolve(what.reason);
    }
    if (waiting === undefined) rings.push(what);
    else {
      waiting(what);
      waiting = undefined;
    }
  }

  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", ({ data }) => {
    ring(typeof data === "string" ? { kind: "pull" } : { kind: "octets", octets: new Uint8Array(data as ArrayBuffer) });
  });
  socket.addEventListener("close", ({ code, reason }) => ring({ kind: "closed", code, reason }));
  socket.addEventListener("error", () => ring({ kind: "closed", code: BELL_CLOSE.refused, reason: "ConnectionLost" }));
  socket.accept();

  return {
    next() {
      const first = rings.shift() ?? closed;
      if (first !== undefined) return Promise.resolve(first);
      return new Promise((resolve) => {
        waiting = resolve;
      });
    },
    say(word) {
      if (closed === undefined) socket.send(word);
    },
    closed: over.promise,
    close(code) {
      if (closed !== undefined) return;
      // A pending `next()` must not wait for ever.
      ring({ kind: "closed", code, reason: "" });
      socket.close(code);
    },
  };
}
