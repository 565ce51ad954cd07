/**
 * Work that many wait for together, as the sync of a file: a run that is under way may have begun too early for one who
 * asks now, so all who ask meanwhile share the next.
 *
 * @module
 */

type Waiting = ReturnType<typeof Promise.withResolvers<void>>;

/** A function whose promise stands for a run of `work` that began after the call. At most one run is under way. */
export function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running = false;
  let next: Waiting | undefined;
  const run = async (waiting: Waiting): Promise<void> => {
    running = true;
    try {
      await work();
      waiting.resolve();
    } catch (error) {
      waiting.reject(error);
    }
    const after = next;
    next = undefined;
    if (after === undefined) running = false;
    else void run(after);
  };
  return () => {
    if (running) {
      next ??= Promise.withResolvers();
      return next.promise;
    }
    const waiting = Promise.withResolvers<void>();
    void run(waiting);
    return waiting.promise;
  };
}
