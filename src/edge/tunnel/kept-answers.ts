/**
 * Limits the answers that an isolate keeps in case a proxy asks for them again. Answers of 32768 bytes are always kept, of
 * Polling two of them; larger ones share a budget.
 *
 * @module
 */
import { MAX_BODY } from "../../encapsulation/index.ts";
import { KEPT_ANSWERS_OCTETS } from "./limits.ts";

/** Bytes of the answers that all virtual connections of this isolate keep, beyond 32768 of each. */
let kept = 0;

/** Eviction calls no handler, so what an object has kept is uncounted when it is collected. */
const forgotten = new FinalizationRegistry<{ readonly octets: number }>(({ octets }) => {
  kept -= octets;
});

/** The answers that one virtual connection keeps. */
export class KeptAnswers {
  readonly #beyond = { octets: 0 };

  constructor() {
    forgotten.register(this, this.#beyond);
  }

  /** Takes note of the bytes that are kept now. */
  count(octets: number): void {
    const beyond = Math.max(0, octets - MAX_BODY);
    kept += beyond - this.#beyond.octets;
    this.#beyond.octets = beyond;
  }

  /** How long the next answer may be, of the bytes that the device takes: at most half of what is left beyond 32768. */
  room(wanted: number): number {
    // More may be kept than the budget: it counts the second of two answers of 32768 bytes.
    return Math.min(wanted, MAX_BODY + Math.max(0, Math.floor((KEPT_ANSWERS_OCTETS - kept) / 2)));
  }
}
