/** Records of a stream, read by the protocol's own client however often it gives up. */
import { setTimeout as sleep } from "node:timers/promises";
import { stream } from "@durable-streams/client";

/** Milliseconds before a client that has given up reads on. */
const AGAIN = 50;

export interface Reading {
  readonly url: string;
  readonly headers: Record<string, string>;
  /** How many records there will be. */
  readonly count: number;
  /** Ends it early; it rejects then. */
  readonly signal: AbortSignal;
}

/** The numbers of so many records `{ n }`, in the order in which they came. */
export async function readRecords({ url, headers, count, signal }: Reading): Promise<number[]> {
  const read: number[] = [];
  let offset = "-1";
  while (read.length < count) {
    // What the client gives up on, its application reads on from the last offset.
    try {
      const response = await stream<{ n: number }>({ url, headers, offset, live: "long-poll", signal });
      await new Promise<void>((resolve, reject) => {
        const unsubscribe = response.subscribeJson(async (batch) => {
          for (const { n } of batch.items) read.push(n);
          offset = batch.offset;
          if (read.length < count) return;
          unsubscribe();
          response.cancel("read to its end");
          resolve();
        });
        response.closed.then(resolve, reject);
      });
    } catch (error) {
      if (signal.aborted) throw error;
      await sleep(AGAIN);
    }
  }
  return read;
}
