/** Waiting for the user to have enough. */

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Resolves on the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilInterrupted(): Promise<void> {
  return new Promise((resolve) => {
    // Miniflare's own handlers end the process before anybody can be told that it ends. What it started is disposed of
    // by whoever waits here.
    for (const signal of SIGNALS) process.removeAllListeners(signal);
    const stop = () => {
      for (const signal of SIGNALS) process.removeListener(signal, stop);
      resolve();
    };
    for (const signal of SIGNALS) process.on(signal, stop);
  });
}
