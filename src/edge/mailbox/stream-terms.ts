/**
 * What the owner of a mailbox, or an operator, has set over HTTP: that it takes no more messages, and when it ends.
 *
 * @module
 */
import { ENDLESS, endOf, isSameLifetime, type Lifetime } from "../durable-streams/expiry.ts";
import { IDLE_SLACK } from "../durable-streams/limits.ts";
import type { ProducerClaim } from "../durable-streams/producer.ts";

interface Terms {
  readonly lifetime: Lifetime;
  readonly closed: boolean;
  /** The append that has closed it, if it was of a producer, and the device that has sent it. */
  readonly closedBy?: (ProducerClaim & { readonly source: string }) | undefined;
}

/** Facts, as the store has them. */
interface Facts {
  fact(name: string): string | undefined;
  setFact(name: string, value: string): void;
  removeFact(name: string): void;
}

const NONE: Terms = { lifetime: ENDLESS, closed: false };

export class StreamTerms {
  readonly #facts: Facts;
  #terms: Terms = NONE;
  /** When the mailbox ends unless it is used: exactly, and as stored. */
  #end: number;
  #storedEnd: number;

  constructor(facts: Facts) {
    this.#facts = facts;
    this.loadTerms();
    this.#storedEnd = Number(facts.fact("end") ?? Number.POSITIVE_INFINITY);
    this.#end = this.#storedEnd;
  }

  /** Learns from the facts whether it is closed, and how long it lives: after a transaction has failed. */
  loadTerms(): void {
    const text = this.#facts.fact("stream");
    this.#terms = text === undefined ? NONE : (JSON.parse(text) as Terms);
  }

  /** Whether nothing is set. */
  get areDefault(): boolean {
    return !this.#terms.closed && this.#terms.lifetime.type === "endless";
  }

  get closed(): boolean {
    return this.#terms.closed;
  }

  get lifetime(): Lifetime {
    return this.#terms.lifetime;
  }

  /** When the mailbox ends, or was to end when this was last stored; infinite for never. Milliseconds since 1970. */
  get end(): number {
    return this.#end;
  }

  /** Whether these are the terms that a PUT asks for. */
  areSame({ lifetime, closed }: Pick<Terms, "lifetime" | "closed">): boolean {
    return closed === this.#terms.closed && isSameLifetime(lifetime, this.#terms.lifetime);
  }

  /** Whether an append is the one that has closed the mailbox. */
  isClosing(producer: ProducerClaim, source: string): boolean {
    const by = this.#terms.closedBy;
    return by?.source === source && by.id === producer.id && by.epoch === producer.epoch && by.seq === producer.seq;
  }

  set(terms: Pick<Terms, "lifetime" | "closed">, now: number): void {
    this.#keep(terms);
    this.use(now);
  }

  close(by: Terms["closedBy"]): void {
    this.#keep({ ...this.#terms, closed: true, closedBy: by });
  }

  /** Notes that the mailbox was read or written. Writes only if what is stored would end it too early. */
  use(now: number): void {
    const { lifetime } = this.#terms;
    if (lifetime.type === "endless") return;
    this.#end = endOf(lifetime, now);
    if (this.#end <= this.#storedEnd && this.#storedEnd !== Number.POSITIVE_INFINITY) return;
    const slack = lifetime.type === "idle" ? lifetime.seconds * 1000 * IDLE_SLACK : 0;
    const stored = this.#end + slack;
    this.#facts.setFact("end", String(stored));
    // Only now: what a full disk has refused must be written at the next use.
    this.#storedEnd = stored;
  }

  /** Nothing is set any more. */
  clear(): void {
    if (this.#terms !== NONE) {
      this.#facts.removeFact("stream");
      this.#facts.removeFact("end");
    }
    this.forget();
  }

  /** The same after all tables were deleted. */
  forget(): void {
    this.#terms = NONE;
    [this.#end, this.#storedEnd] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  }

  #keep(terms: Terms): void {
    this.#facts.setFact("stream", JSON.stringify(terms));
    this.#terms = terms;
  }
}
