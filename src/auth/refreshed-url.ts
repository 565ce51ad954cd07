/**
 * Fetches a resource from an operator's URL, caches it in the isolate, and refreshes it: the key set, the revocation
 * list.
 *
 * Simultaneous requests wait for the running fetch, since none may be judged by stale data while fresh data is
 * available. On Workers a fetch belongs to the request that started it and dies with it, and another request must not
 * await its promise. So the others poll for its end, for no longer than a fetch may take.
 *
 * @module
 */

import { readBody } from "../lib/runtime/byte-reader.ts";
import { logJson } from "../lib/runtime/json-log.ts";
import { sleep } from "../lib/runtime/timeout.ts";
import { FETCH_TIMEOUT, REFETCH_COOLDOWN, STALE } from "./limits.ts";
import type { TokenProblem } from "./token-problems.ts";

/** How often a request polls for the end of another request's fetch. */
const LOOK = 25;

/** How long it polls at most: for the running fetch, and for one that is started after that one died. */
const LONGEST_LOOK = 2 * FETCH_TIMEOUT;

/** What was fetched, or what was concluded from it. */
export interface Fetched<T> {
  readonly value: T;
  /** When it was requested, milliseconds since 1970; if a later try failed, the time of the last failed try. */
  readonly asOf: number;
}

class RefreshedUrl<T> {
  readonly #url: string;
  readonly #what: string;
  readonly #limit: number;
  readonly #parse: (text: string) => T | Promise<T>;
  #text: string | undefined;
  #value: T | undefined;
  /** When the cached text was requested. */
  #asOf = Number.NEGATIVE_INFINITY;
  /** When the last try began, if it failed. */
  #failedAt = Number.NEGATIVE_INFINITY;
  /** When the running fetch began. */
  #begun: number | undefined;
  /** Failed tries since the last success, and judgements made with the previous data since then. */
  #failures = 0;
  #overdue = 0;

  /**
   * @param what its name, for the log
   * @param limit maximum bytes
   * @param parse throws if the text cannot be used; the previous data then stays in use
   */
  constructor(url: string, what: string, limit: number, parse: (text: string) => T | Promise<T>) {
    this.#url = url;
    this.#what = what;
    this.#limit = limit;
    this.#parse = parse;
  }

  /**
   * Returns the resource, and fetches it first if it is older than `age`. If the fetch fails, the previous data is used
   * for a while; after that it is undefined.
   *
   * @param now milliseconds since 1970
   */
  async get(now: number, age: number): Promise<Fetched<T> | undefined> {
    // After a clock is set back, cached data may seem to come from the future.
    const isOlder = (time: number, than: number) => Math.abs(now - time) >= than;
    const isOld = () => isOlder(this.#asOf, Math.max(age, REFETCH_COOLDOWN));
    let waited = 0;
    while (isOld() && waited < LONGEST_LOOK && this.#isFetching(now + waited)) {
      await sleep(LOOK);
      waited += LOOK;
    }
    if (isOld() && isOlder(this.#failedAt, REFETCH_COOLDOWN)) await this.#refresh(now + waited);
    if (this.#value === undefined || isOlder(this.#asOf, STALE + 1)) return undefined;
    if (this.#failedAt <= this.#asOf) return { value: this.#value, asOf: this.#asOf };
    this.#overdue += 1;
    return { value: this.#value, asOf: this.#failedAt };
  }

  /** Whether the last try failed. */
  get isFailing(): boolean {
    return this.#failures > 0;
  }

  /** A fetch that died with its request never reports its end, so its deadline decides. */
  #isFetching(now: number): boolean {
    return this.#begun !== undefined && Math.abs(now - this.#begun) < FETCH_TIMEOUT;
  }

  async #refresh(now: number): Promise<void> {
    this.#begun = now;
    try {
      const text = await this.#fetch();
      // The same text yields the same object and is not parsed again.
      const value = text === this.#text ? (this.#value as T) : await this.#parse(text);
      // A fetch that began later may have ended earlier.
      if (now < this.#asOf && this.#begun !== now) return;
      this.#text = text;
      this.#value = value;
      this.#asOf = now;
      this.#failedAt = Number.NEGATIVE_INFINITY;
      this.#failures = 0;
    } catch (error) {
      this.#failedAt = now;
      this.#failures += 1;
      // The URL may contain a secret, and so may the text: log neither.
      const why = error instanceof RemoteError ? error.message : "it cannot be reached or used";
      logJson<TokenProblem>("warn", "KeysUnavailable", {
        what: this.#what,
        why,
        failures: this.#failures,
        judgedByTheLast: this.#overdue,
        seconds: this.#value === undefined ? undefined : Math.round((now - this.#asOf) / 1000),
      });
    } finally {
      if (this.#begun === now) this.#begun = undefined;
    }
  }

  async #fetch(): Promise<string> {
    // A cached response would be older than it seems. Node's own types lack this member, which the platform needs.
    const init: RequestInit & { readonly cache: "no-store" } = {
      redirect: "manual",
      cache: "no-store",
      signal: AbortSignal.timeout(FETCH_TIMEOUT),
    };
    const answer = await fetch(this.#url, init);
    if (answer.status !== 200) {
      await answer.body?.cancel();
      throw new RemoteError(`the server answered with status ${answer.status}`);
    }
    const body = await readBody(answer.body, this.#limit);
    if (body === undefined) throw new RemoteError(`the answer has more than ${this.#limit} bytes`);
    return new TextDecoder().decode(body);
  }
}

/**
 * Resources of one kind, by URL. The operator's settings name one; several relays in one process each have their own.
 */
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

/** Why fetched data is not used. The message goes to the log and reveals nothing of the data. */
export class RemoteError extends Error {}
