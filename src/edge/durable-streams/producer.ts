/**
 * Idempotent producers: a writer numbers its requests, so that one that is repeated is stored once [PROTOCOL 5.2.1].
 *
 * @module
 */

/** What a request says of its producer. */
export interface ProducerClaim {
  readonly id: string;
  /** Grows with each start of the producer; an older one is fenced off. */
  readonly epoch: number;
  /** Number of the request in its epoch, from 0. */
  readonly seq: number;
}

/** What is stored of a producer. */
export interface ProducerState {
  readonly epoch: number;
  /** The last request that was stored. */
  readonly seq: number;
}

/** `accepted`: store the request together with this state. */
export type ProducerVerdict =
  | { readonly type: "accepted"; readonly state: ProducerState }
  | { readonly type: "duplicate"; readonly state: ProducerState }
  | { readonly type: "fenced"; readonly epoch: number }
  | { readonly type: "epochWithoutStart" }
  | { readonly type: "gap"; readonly expected: number };

/** Judges a request by what is stored of its producer; undefined if nothing is. Changes nothing. */
export function judgeProducer(
  state: ProducerState | undefined,
  { epoch, seq }: Omit<ProducerClaim, "id">,
): ProducerVerdict {
  if (state === undefined) {
    return seq === 0 ? { type: "accepted", state: { epoch, seq } } : { type: "gap", expected: 0 };
  }
  if (epoch < state.epoch) return { type: "fenced", epoch: state.epoch };
  if (epoch > state.epoch) {
    return seq === 0 ? { type: "accepted", state: { epoch, seq } } : { type: "epochWithoutStart" };
  }
  if (seq <= state.seq) return { type: "duplicate", state };
  const expected = state.seq + 1;
  return seq === expected ? { type: "accepted", state: { epoch, seq } } : { type: "gap", expected };
}
