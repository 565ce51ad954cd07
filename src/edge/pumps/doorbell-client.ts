/**
 * The doorbell: the hibernatable WebSocket between a Worker that parks a GET and the Tunnel that will have octets for
 * it. It costs nothing while it is silent. At most one message is under way: the Tunnel rings once, then waits to be
 * armed again, so a device that does not read stops the Tunnel.
 *
 *   Tunnel → Worker   octets       part of the body, up to 32768; the first is the echo string
 *                     "pull"       more than that waits: fetch the stream of it, then arm
 *                     close 4000   the virtual connection is closed, the close reason is ours by name
 *                     close 1000   the hold time is over and there is nothing: answer with an empty body
 *   Worker → Tunnel   "arm"        what was rung for has been written to the device
 *                     "arm N"      the same, and N octets that the Worker has made itself
 *                     "release"    the hold time is over
 *                     close 1000   the answer is complete
 *                     close 4001   the device is gone
 *
 * @module
 */

/** Close codes of the doorbell, in the range that WebSocket leaves to applications; 1000 is a normal end. */
export const BELL_CLOSE = { done: 1000, refused: 4000, deviceGone: 4001 } as const;

export type Ring =
  | { readonly kind: "octets"; readonly octets: Uint8Array }
  | { readonly kind: "pull" }
  | { readonly kind: "closed"; readonly code: number; readonly reason: string };

/** The Worker's end. */
export interface Doorbell {
  /** The next ring; after "closed" it is "closed" for ever. */
  next(): Promise<Ring>;
  /** Resolves with the reason when either end closes, also while nobody waits for a ring. */
  readonly closed: Promise<string>;
  /** Tells the Tunnel something. What is said to a closed bell is lost, as it must be. */
  say(word: "arm" | `arm ${number}` | "release"): void;
  close(code: number): void;
}

/** Takes the Worker's end of a doorbell that a Tunnel has answered with. */
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
      // Whoever waits for the next ring must not wait for ever.
      ring({ kind: "closed", code, reason: "" });
      socket.close(code);
    },
  };
}
