/** Waiting for the user to have enough. */

import { END_SIGNALS, type EndSignal } from "./exit-codes.ts";

/**
 * Resolves with the first signal that asks the process to end; a second one ends it at once. Call it before anybody is
 * told that the command is up: they may have enough at once.
 */
export function untilInterrupted(): Promise<EndSignal> {
  return new Promise((resolve) => {
    const stop = (received: EndSignal) => {
      for (const signal of END_SIGNALS) process.removeListener(signal, stop);
      resolve(received);
    };
    for (const signal of END_SIGNALS) {
      // Ours first: a signal that comes while there is no listener is lost.
      process.on(signal, stop);
      // Miniflare's own handlers end the process before anybody can be told that it ends. What it started is disposed of
      // by whoever waits here.
      for (const other of process.listeners(signal)) if (other !== stop) process.removeListener(signal, other);
    }
  });
}
