/**
 * Something that is fetched from a URL of the operator's, kept for a while, and fetched anew: the key set, the list of
 * revoked tokens. It belongs to the isolate.
 *
 * Simultaneous requests wait for the fetch that runs, since none may be judged by what is too old while it can be fetched.
 * On Workers a fetch belongs to the request that has begun it and dies with it, and another request must not wait for its
 * promise. So the others look from time to time whether it has ended, for no longer than a fetch may take.
 *
 * @module
 */

import { readBody } from "../lib/runtime/byte-reader.ts";
import { FETCH_TIMEOUT, REFETCH_COOLDOWN, STALE } from "./limits.ts";

/** How often a request looks whether the fetch of another one has ended. */
const LOOK = 25;

/** How long it does so at most: for the fetch that runs, and for one that is begun when that one has died. */
const LONGEST_LOOK = 2 * FETCH_TIMEOUT;

/** What was fetched, or what was concluded from it. */
export interface Fetched<T> {
  readonly value: T;
  /** When it was asked for, milliseconds since 1970; when that has failed since, the moment of the last failed try. */
  readonly asOf: number;
}

export class RefreshedUrl<T> {
  readonly #url: string;
  readonly #what: string;
  readonly #limit: number;
  readonly #parse: (text: string) => T | Promise<T>;
  #text: string | undefined;
  #value: T | undefined;
  /** When what is there was asked for. */
  #asOf = Number.NEGATIVE_INFINITY;
  /** When the last try began, if it has failed. */
  #failedAt = Number.NEGATIVE_INFINITY;
  /** When the fetch that runs began. */
  #begun: number | undefined;
  /** Tries that have failed since the last success, and judgements by what was there before. */
  #failures = 0;
  #overdue = 0;

  /**
   * @param what its name, for the log
   * @param limit octets that are taken at most
   * @param parse throws when it cannot be used; what was there before is used on then
   */
  constructor(url: string, what: string, limit: number, parse: (text: string) => T | Promise<T>) {
    this.#url = url;
    this.#what = what;
    this.#limit = limit;
    this.#parse = parse;
  }

  /**
   * What is there, fetched when it is older than `age`. When it cannot be fetched, what was there before counts for a while;
   * then it is undefined.
   *
   * @param now milliseconds since 1970
   */
  async get(now: number, age: number): Promise<Fetched<T> | undefined> {
    // A clock that was ahead and has been set right makes what was fetched seem to come from the future.
    const isOlder = (time: number, than: number) => Math.abs(now - time) >= than;
    const isOld = () => isOlder(this.#asOf, Math.max(age, REFETCH_COOLDOWN));
    let waited = 0;
    while (isOld() && waited < LONGEST_LOOK && this.#isFetching(now + waited)) {
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      waited += LOOK;
    }
    if (isOld() && isOlder(this.#failedAt, REFETCH_COOLDOWN)) await this.#refresh(now + waited);
    if (this.#value === undefined || isOlder(this.#asOf, STALE + 1)) return undefined;
    if (this.#failedAt <= this.#asOf) return { value: this.#value, asOf: this.#asOf };
    this.#overdue += 1;
    return { value: this.#value, asOf: this.#failedAt };
  }

  /** A fetch that died with its request does not say when it is over, but its deadline does. */
  #isFetching(now: number): boolean {
    return this.#begun !== undefined && Math.abs(now - this.#begun) < FETCH_TIMEOUT;
  }

  async #refresh(now: number): Promise<void> {
    this.#begun = now;
    try {
      const text = await this.#fetch();
      // The same object for the same text, which need not be read again.
      const value = text === this.#text ? (this.#value as T) : await this.#parse(text);
      // One that began later may have been quicker.
      if (now < this.#asOf && this.#begun !== now) return;
      this.#text = text;
      this.#value = value;
      this.#asOf = now;
      this.#failedAt = Number.NEGATIVE_INFINITY;
      this.#failures = 0;
    } catch (error) {
      this.#failedAt = now;
      this.#failures += 1;
      // The URL may hold a secret, and so may what was fetched: neither is told.
      const why = error instanceof RemoteError ? error.message : "it cannot be reached or used";
      const { value, counts } = {
        value: this.#value,
        counts: { failures: this.#failures, judgedByTheLast: this.#overdue },
      };
      const seconds = value === undefined ? undefined : Math.round((now - this.#asOf) / 1000);
      console.warn(JSON.stringify({ reason: "KeysUnavailable", what: this.#what, why, ...counts, seconds }));
    } finally {
      if (this.#begun === now) this.#begun = undefined;
    }
  }

  async #fetch(): Promise<string> {
    // What a cache on the way has kept would be older than it seems.
    // Node's own types do not know the member that the platform needs.
    const init: RequestInit & { readonly cache: "no-store" } = {
      redirect: "manual",
      cache: "no-store",
      signal: AbortSignal.timeout(FETCH_TIMEOUT),
    };
    const answer = await fetch(this.#url, init);
    if (answer.status !== 200) {
      await answer.body?.cancel();
      throw new RemoteError(`it was answered with status ${answer.status}`);
    }
    const body = await readBody(answer.body, this.#limit);
    if (body === undefined) throw new RemoteError(`it has more than ${this.#limit} octets`);
    return new TextDecoder().decode(body);
  }
}

/** What is fetched of one kind, by its URL: the operator's settings name one, and several relays in one process their own. */
export class RefreshedUrls<T> {
  readonly #byUrl = new Map<string, RefreshedUrl<T>>();
  readonly #make: (url: string) => RefreshedUrl<T>;

  constructor(what: string, limit: number, parse: (text: string) => T | Promise<T>) {
    this.#make = (url) => new RefreshedUrl(url, what, limit, parse);
  }

  at(url: string): RefreshedUrl<T> {
    let found = this.#byUrl.get(url);
    if (found === undefined) {
      found = this.#make(url);
      this.#byUrl.set(url, found);
    }
    return found;
  }
}

/** Why what was fetched is not used; the message goes to the log and says nothing of what it holds. */
export class RemoteError extends Error {}
