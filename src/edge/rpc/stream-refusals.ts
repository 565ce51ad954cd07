/**
 * Refusals of streams and mailboxes.
 *
 * @module
 */
import { HEADER } from "../durable-streams/headers.ts";
import type { ProducerClaim, ProducerVerdict } from "../durable-streams/producer.ts";
import type { Reason } from "../reasons.ts";
import type { StreamRefusal } from "./plain-stream-rpc.ts";

export function refused(reason: Reason): StreamRefusal {
  return { ok: false, reason };
}

/** Why an append is refused for what is known of its producer [PROTOCOL 5.2.1]; undefined if it is not. */
export function producerRefusal(verdict: ProducerVerdict, { seq }: ProducerClaim): StreamRefusal | undefined {
  switch (verdict.type) {
    case "epochWithoutStart":
      return refused("EpochWithoutStart");
    case "fenced":
      return { ...refused("ProducerFenced"), headers: { [HEADER.producerEpoch]: String(verdict.epoch) } };
    case "gap": {
      const headers = { [HEADER.expectedSeq]: String(verdict.expected), [HEADER.receivedSeq]: String(seq) };
      return { ...refused("ProducerGap"), headers };
    }
    default:
      return undefined;
  }
}
