/**
 * Work that many wait for together, as the sync of a file: a run that is under way may have begun too early for one who
 * asks now, so all who ask meanwhile share the next.
 *
 * @module
 */

/** A function whose promise stands for a run of `work` that began after the call. At most one run is under way. */
export function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const run = (): Promise<void> => {
    next = undefined;
    const started = work().finally(() => {
      if (running === started) running = undefined;
    });
    running = started;
    return started;
  };
  return () => {
    if (running === undefined) return run();
    next ??= running.then(run, run);
    return next;
  };
}
