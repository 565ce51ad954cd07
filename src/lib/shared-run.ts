/**
 * Shares one run of an expensive operation, such as a sync, among concurrent callers. A run in progress may have
 * started too early for a new caller, so all callers meanwhile share the next one.
 *
 * @module
 */

type Waiting = ReturnType<typeof Promise.withResolvers<void>>;

/** Wraps `work`: the promise settles with a run that started after the call. At most one run is in progress. */
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
